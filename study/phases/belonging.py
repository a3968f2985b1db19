"""Records that do not belong to a study are refused: baselines, finals and verifications say what they were made of."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from results.records.identity import training_identity
from results.records.optuna_trials import finished_trials, open_search, record_of
from results.records.settings import STRATEGY
from results.records.trial_record import BASELINE, TrialRecord, full_arm, read_records
from results.verdict.sentences import spoken
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError, SpinlockError
from spinlock_dist.live_settings import UNIFORM
from study.context import StudyContext
from study.phases.finals import FEEDBACK, PLAIN_FEEDBACK, control_of, matched_control

FIRST_SEEDS = {"baseline": 0, "final": 1, "verification": 0}
"""By phase, what is added to a config's seed for its first training."""


def check_records(context: StudyContext) -> None:
    """Raise `ConfigError` if baseline, finals or verification are not of this study's config, data and trials.

    Finals are of the trials in the journal: without it, or beside another, they would judge trials unknown to them. A
    journal that cannot be read is left to whoever opens it to write.
    """
    paths = {phase: context.folder.records(phase) for phase in FIRST_SEEDS}
    kept = {phase: read_records(path) if path.exists() else [] for phase, path in paths.items()}
    try:
        configs = _configs(context, {record.arm for records in kept.values() for record in records})
    except SpinlockError:
        return
    for phase, records in kept.items():
        for record in records:
            known, path = configs.get(record.arm), paths[phase]
            if known is None:
                raise ConfigError(
                    f"{path}: belongs to another search: it has {spoken(record.arm)}, which is not in the journal of "
                    f"this study; restore the journal, or move {path.name} away to train anew"
                )
            seeds = FIRST_SEEDS[phase] + record.number
            seeded = [config.model_copy(update={"seed": config.seed + seeds}) for config in known]
            _check(path, record, seeded, context)


def _configs(context: StudyContext, arms: Collection[str]) -> dict[str, tuple[TrialConfig, ...]]:
    """What those of the arms that the study has may have been trained with: baseline, finished trials, controls named
    after them."""
    plain = context.base.with_overrides({STRATEGY: FEEDBACK})
    found: dict[str, tuple[TrialConfig, ...]] = {BASELINE: (context.uniform,), PLAIN_FEEDBACK: (plain,)}
    found[control_of(PLAIN_FEEDBACK)] = controls_of(plain, context.base)
    if set(arms) <= {BASELINE}:
        return found
    for search, folder in context.folder.searches.items():
        for trial in finished_trials(open_search(folder)):
            arm = full_arm(search, f"trial-{trial.number}")
            if arm in arms or control_of(arm) in arms:
                config = context.trial(record_of(trial, details=False))
                found |= {arm: (config,), control_of(arm): controls_of(config, context.base)}
    return found


def controls_of(config: TrialConfig, base: TrialConfig) -> tuple[TrialConfig, TrialConfig]:
    """A trial's matched control; and as earlier versions made it, which trains the same.

    They left some settings of the trial that uniform ratios do not read.
    """
    shaping = ("rule", "capacity", "bounds", "sharpness", "min_ratio_range", "feedback")
    changes = {name: getattr(base.compression, name) for name in shaping} | {"strategy": UNIFORM}
    earlier = config.model_copy(update={"compression": config.compression.model_copy(update=changes)})
    return matched_control(config, base), earlier


def _check(path: Path, record: TrialRecord, configs: Sequence[TrialConfig], context: StudyContext) -> None:
    ours = [training_identity(config, context.data.fingerprint) for config in configs]
    if record.identity not in ("", *ours):  # records of earlier versions say nothing
        raise ConfigError(
            f"{path}: belongs to another study: its {spoken(record.arm)}, number {record.number}, was trained with "
            f"another config or on other data ({record.identity[:12]}, not {ours[0][:12]}); restore the file, or move "
            "it away to train again"
        )
