"""What this project needs of Optuna and Optuna does not offer publicly. Checked on Optuna 5.0.0.

No other file of `study/search` but driver_journal.py touches an underscore of Optuna's;
tests/contracts/test_internals.py says what is missing where another version is installed.
"""

from __future__ import annotations

from typing import Any

import optuna
from optuna.samplers import NSGAIISampler
from optuna.trial import FrozenTrial, TrialState


def stored_trial(trial: optuna.Trial) -> FrozenTrial:
    """What the storage holds of a trial. The public way, `study.trials[number]`, copies all of them each time."""
    return trial.storage.get_trial(trial._trial_id)


def trial_at(study: optuna.Study, number: int) -> FrozenTrial:
    """What the storage holds of the trial with that number, likewise without a look at all others."""
    storage = study._storage
    return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study._study_id, number))


def set_stored_attribute(study: optuna.Study, trial: FrozenTrial, name: str, value: Any) -> None:
    """Set a user attribute of a trial that this process did not ask for, e.g. one that a lost driver left running."""
    study._storage.set_trial_user_attr(trial._trial_id, name, value)


def wait_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put a running trial back in the queue under its own number; the next `study.ask()` returns it."""
    study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)


def enqueued_params(trial: FrozenTrial) -> dict[str, Any] | None:
    """The parameters that a trial was enqueued with; None if it was not enqueued."""
    return trial.system_attrs.get("fixed_params")


def first_generation(sampler: type[NSGAIISampler]) -> dict[str, Any]:
    """System attributes that make a trial one of the sampler's first generation, from which the second is bred."""
    return {sampler._get_generation_key(): 0}
