"""Records that do not belong to a study are refused: baselines, finals and verifications say what they were made of."""

from __future__ import annotations

from pathlib import Path

from results.records.identity import training_identity
from results.records.optuna_trials import open_search, read_search
from results.records.settings import STRATEGY
from results.records.trial_record import BASELINE, TrialRecord, full_arm, read_records
from results.verdict.sentences import spoken
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError, SpinlockError
from study.context import StudyContext
from study.phases.finals import FEEDBACK, PLAIN_FEEDBACK, matched_control

FIRST_SEEDS = {"baseline": 0, "final": 1, "verification": 0}
"""By phase, what is added to a config's seed for its first training."""


def check_records(context: StudyContext) -> None:
    """Raise `ConfigError` if baseline, finals or verification are not of this study's config, data and trials.

    Finals are of the trials in the journal: without it, or beside another, they would judge trials unknown to them. A
    journal that cannot be read is left to whoever opens it to write.
    """
    try:
        configs = _configs(context)
    except SpinlockError:
        return
    for phase, first in FIRST_SEEDS.items():
        path = context.folder.records(phase)
        for record in read_records(path) if path.exists() else []:
            config = configs.get(record.arm)
            if config is None:
                raise ConfigError(
                    f"{path}: belongs to another search: it has {spoken(record.arm)}, which is not in the journal of "
                    f"this study; restore the journal, or move {path.name} away to train anew"
                )
            _check(path, record, config.model_copy(update={"seed": config.seed + first + record.number}), context)


def _configs(context: StudyContext) -> dict[str, TrialConfig]:
    """The config of the baseline, of every finished trial and of the control that would be named after it, by arm."""
    found = {PLAIN_FEEDBACK: context.base.with_overrides({STRATEGY: FEEDBACK})}
    for arm, folder in context.folder.searches.items():
        for record in read_search(open_search(folder), details=False):
            found[full_arm(arm, record.arm)] = context.trial(record)
    for arm, config in list(found.items()):
        search, _, trial = arm.rpartition("/")
        name = full_arm(search, f"control-{trial.removeprefix('trial-')}")
        found[name] = matched_control(config, context.base)
    return {BASELINE: context.uniform, **found}


def _check(path: Path, record: TrialRecord, config: TrialConfig, context: StudyContext) -> None:
    ours = training_identity(config, context.data.fingerprint)
    if record.identity not in ("", ours):  # records of earlier versions say nothing
        raise ConfigError(
            f"{path}: belongs to another study: its {spoken(record.arm)}, number {record.number}, was trained with "
            f"another config or on other data ({record.identity[:12]}, not {ours[:12]}); restore the file, or move it "
            "away to train again"
        )
