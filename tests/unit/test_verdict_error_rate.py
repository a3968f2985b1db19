"""How often the verdict errs, and what it says of cases whose truth is known.

On simulated studies (benchmarks/verdict.py, which runs more of them), and on trainings that were made: their row errors
are the population (benchmarks/record_replicates.py), of which each study draws its test rows and its replicates.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.verdict import CONTROLS, EQUAL, RIGHT, SCENARIOS, record_of, said, share_in_error, simulated, terms
from results.records.trial_record import BASELINE, TrialRecord
from spinlock_dist.metrics.row_errors import RowErrors

STUDIES = 200
LIMIT = 0.05
REPLICATES = 4
TERMS = terms(last=REPLICATES)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("case", ["the same config", "equal in the population"])
def test_of_finalists_that_equal_the_baseline_anything_is_said_in_at_most_five_percent(case, scenario):
    found = said(STUDIES, lambda rng: simulated(case, SCENARIOS[scenario], 150, REPLICATES, rng), TERMS)
    assert share_in_error(found) <= LIMIT


@pytest.mark.parametrize("case", RIGHT)
def test_each_case_gets_its_word(case):
    found = said(20, lambda rng: simulated(case, SCENARIOS["rows"], 600, REPLICATES, rng), TERMS)
    for arm, word in RIGHT[case].items():
        words = [each.verdict for findings in found for each in findings if each.arm == arm]
        assert words.count(word) >= 19, (arm, words)


# ---------------------------------------------------------------- on trainings that were made


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    """Return squared errors `[R, N, C]` by strategy, and `totals` `[N, C]`."""
    with np.load(Path(__file__).parents[1] / "data" / "replicates.npz") as file:
        return {name: file[name].astype(np.float64) for name in file.files}


def drawn(recorded: dict[str, np.ndarray], strategies: dict[str, str], rng: np.random.Generator) -> list[TrialRecord]:
    """Return the finals of one study: rows drawn with replacement, and for each arm trainings of its strategy."""
    rows = rng.integers(len(recorded["totals"]), size=len(recorded["totals"]))
    order = {name: list(rng.permutation(len(recorded[name]))) for name in set(strategies.values())}
    return [
        record_of(arm, number, RowErrors(recorded[name][order[name].pop()][rows], recorded["totals"][rows]))
        for arm, name in strategies.items()
        for number in range(REPLICATES)
    ]


def test_of_recorded_trainings_of_one_config_anything_is_said_in_at_most_five_percent(recorded):
    given = terms(last=REPLICATES, controls={"trial-1": BASELINE})
    arms = {BASELINE: "uniform", "trial-1": "uniform"}
    assert share_in_error(said(STUDIES, lambda rng: drawn(recorded, arms, rng), given)) <= LIMIT


def test_of_recorded_trainings_of_configs_that_are_equal_in_the_population_likewise(recorded):
    """Water-filling's errors, each category scaled to what uniform ratios have there over all trainings and rows."""
    theirs, ours = (recorded[name].sum(axis=(0, 1)) for name in ("uniform", "waterfill"))
    equal = {**recorded, "waterfill": recorded["waterfill"] * (theirs / ours)}
    given = terms(last=REPLICATES, controls={"trial-1": BASELINE})
    arms = {BASELINE: "uniform", "trial-1": "waterfill"}
    assert share_in_error(said(STUDIES, lambda rng: drawn(equal, arms, rng), given)) <= LIMIT


def test_the_verdict_is_not_mute(recorded):
    """What does differ is told from the baseline, in some studies even on 400 test rows with four replicates."""
    given = terms(last=REPLICATES, controls={"trial-1": BASELINE})
    arms = {BASELINE: "uniform", "trial-1": "waterfill"}
    found = said(50, lambda rng: drawn(recorded, arms, rng), given)
    assert np.mean([findings[0].verdict != EQUAL for findings in found]) > 0.2


def test_every_finalist_is_judged():
    [findings] = said(1, lambda rng: simulated("better", SCENARIOS["rows"], 150, REPLICATES, rng), TERMS)
    assert [each.arm for each in findings] == list(CONTROLS)
