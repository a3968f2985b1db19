"""Which searched settings mattered, by fANOVA (Hutter, Hoos & Leyton-Brown 2014) over the completed trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from results.analysis.trial_summary import DUPLICATE
from results.records.settings import TrialSettings
from results.records.study_record import StudyRecord
from results.records.trial_record import TrialRecord
from spinlock_dist.metrics.reconstruction import IMBALANCE_FLOOR

if TYPE_CHECKING:
    import optuna

    from search_spaces import SearchSpace

LEAST_TRIALS = 8
"""Fewer scored trials are too few to say what mattered."""
LEAST_SPREAD = 1e-5
"""Range of log10 scores below which trials count as alike: the rest is rounding, which a forest would fit."""
MOST_TRIALS = 100
"""Most scored trials analysed together: beyond it forests and contours cost far more than they gain."""


def scored(search: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials that completed with a score of their own: duplicates of another have that one's."""
    completed = [record for record in search if record.state == "complete" and record.metrics is not None]
    return [record for record in completed if record.kind != DUPLICATE]


@lru_cache(maxsize=1)  # a report asks three times, and forests take a second to grow
def study_importances(study: StudyRecord) -> dict[str, dict[str, float]]:
    """The importances of a study's settings. Raises `SpinlockError` if its search space cannot be read."""
    return importances(study.search, study.space(), study.settings)


def importances(
    search: Sequence[TrialRecord], space: SearchSpace, settings: TrialSettings
) -> dict[str, dict[str, float]]:
    """Share of the variance that each setting explains, of the log10 of `imbalance` and of `worst`, the worst FVU.

    By fANOVA over a random forest. Empty with too few trials; a score in which all trials are alike is left out, and so
    are settings that made no difference to some trials, because nothing read them there.
    """
    study = in_memory(search, space, settings)
    if len(study.trials) < LEAST_TRIALS:
        return {}
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    found = {}
    for name, number in (("imbalance", 0), ("worst", 1)):
        if np.ptp([trial.user_attrs["scores"][number] for trial in study.trials]) > LEAST_SPREAD:
            evaluator = FanovaImportanceEvaluator(seed=0, n_trees=16)
            found[name] = get_param_importances(
                study,
                evaluator=evaluator,
                target=lambda trial, number=number: trial.user_attrs["scores"][number],  # type: ignore[misc]
            )
    return found


def in_memory(search: Sequence[TrialRecord], space: SearchSpace, settings: TrialSettings) -> optuna.Study:
    """Completed trials as an in-memory Optuna study for its analyses: at most `MOST_TRIALS`, evenly spaced.

    The attribute `scores` of a trial holds the log10 of its imbalance and worst FVU. Trials of another space are left
    out, and so are a trial's settings that made no difference to it.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    from results.records.optuna_distributions import distribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    trials = [record for record in scored(search) if set(record.params) <= set(space.parameters)]
    for place in sorted(set(np.linspace(0, len(trials) - 1, MOST_TRIALS).astype(int)) if trials else ()):
        record = trials[place]
        assert record.metrics is not None
        worst = max(record.metrics.estimate("fvu_worst"), IMBALANCE_FLOOR)
        live = settings.live(record)
        scores = [math.log10(record.metrics.estimate("imbalance")), math.log10(worst)]
        known = create_trial(
            state=TrialState.COMPLETE,
            value=scores[0],
            params=live,
            distributions={name: distribution(space.parameters[name]) for name in live},
            user_attrs={"scores": scores},
        )
        study.add_trial(known)
    return study
