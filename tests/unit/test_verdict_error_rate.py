"""How often the verdict errs, on trainings that were made: benchmarks/record_replicates.py recorded them.

Each simulated study draws splits, and on each split which training of the uniform baseline is the baseline and which
are the finalists. Whatever it then says but *no difference shown* is an error.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.records.trial_record import BASELINE, TrialRecord
from results.verdict.verdict import judge
from study.config import FinalsConfig, GuardsConfig
from study.search.constraints import Baseline, guards

RECORDS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data" / "replicates.json").read_text())
STUDIES = 200
LIMIT = 0.05


@pytest.fixture(scope="module")
def replicates(make_metrics):
    """Return test metrics by split and arm, in the order of their seeds."""
    found: dict[int, dict[str, list[Any]]] = {}
    for record in RECORDS:
        figures = {name: record[name] for name in ("fvu_mean", "utilization", "perplexity_ratio", "bits_per_sample")}
        metrics = make_metrics(*record["fvu"], split="test", **figures)
        found.setdefault(record["split"], {}).setdefault(record["arm"], []).append(metrics)
    return list(found.values())


def final(make_record, number: int, arm: str, test: Any, base: Any) -> TrialRecord:
    kept = guards(test, Baseline(base), GuardsConfig()) if arm != BASELINE else {}
    return make_record(number, phase="final", arm=arm, test=test, guards=kept)


def verdicts(replicates, make_record, pairs: int, finalists: int, rng: np.random.Generator) -> list[str]:
    """Return what a study says of finalists that are the baseline under other seeds."""
    finals = []
    for number, split in enumerate(rng.choice(len(replicates), pairs, replace=False)):
        base, *others = rng.permutation(np.array(replicates[split][BASELINE], dtype=object))
        arms = {BASELINE: base, **{f"trial-{place}": others[place] for place in range(finalists)}}
        finals += [final(make_record, number, arm, test, base) for arm, test in arms.items()]
    return [finding.verdict for finding in judge(finals, "splits").findings]


@pytest.mark.parametrize(("pairs", "finalists"), [(FinalsConfig().replicates, 1), (8, 1), (8, 2)])
def test_of_finalists_that_are_the_baseline_anything_is_said_in_at_most_five_percent(
    replicates, make_record, pairs, finalists
):
    rng = np.random.default_rng(0)
    said = Counter(
        word
        for _ in range(STUDIES)
        for word in {*verdicts(replicates, make_record, pairs, finalists, rng)} - {"no difference shown"}
    )
    assert said.total() <= LIMIT * STUDIES, said


def test_the_verdict_is_not_mute(replicates, make_record):
    """What does differ, water-filling over bounds of span 3, is told from the baseline in most studies."""
    rng = np.random.default_rng(0)
    said: Counter[str] = Counter()
    for _ in range(50):
        finals = []
        for number, split in enumerate(rng.choice(len(replicates), FinalsConfig().replicates, replace=False)):
            base = replicates[split][BASELINE][rng.integers(len(replicates[split][BASELINE]))]
            arms = {BASELINE: base, "trial-0": replicates[split]["waterfill"][0]}
            finals += [final(make_record, number, arm, test, base) for arm, test in arms.items()]
        said[judge(finals, "splits").findings[0].verdict] += 1
    assert said["better"] > 40, said
