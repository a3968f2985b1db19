"""Trials that a study did not run and its sampler learns from: its own baseline, and trials of earlier studies.

Optuna is told them as they ended, with constraints computed against this study's baseline. They are not among the
study's trials: none is counted, and none can be the best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from results.analysis.pareto import told_values
from results.records.optuna_distributions import distribution
from results.records.optuna_trials import DIVERGED, PRIOR, open_search, outcome, prior_trials, read_search, warm_records
from results.records.settings import STRATEGY
from results.records.study_folder import StudyFolder, open_study
from results.records.trial_record import TrialRecord, best_record
from search_spaces import SearchSpace
from search_spaces.space import space_content
from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import parse_config
from spinlock_dist.errors import ConfigError
from spinlock_dist.live_settings import UNIFORM
from spinlock_dist.prepare import PreparedData
from study.config import GuardsConfig, StudyConfig
from study.provenance import differences
from study.samplers.optuna_samplers import OrderedNSGAII
from study.search.constraints import Baseline, guards, penalty
from study.search.initial_trials import initial_points
from study.search.optuna_internals import enqueued_params, first_generation

BASELINE = "baseline"
WARM_STARTED = "warm_started"
"""Attribute of a study that has all trials of the earlier studies."""


@dataclass(frozen=True)
class PriorTrials:
    """Adds trials to a study that it did not run."""

    study: optuna.Study
    space: SearchSpace
    baseline: Baseline
    guards_config: GuardsConfig

    def add(self, record: TrialRecord, source: str) -> None:
        """Add a trial as it ended. With several objectives a stopped trial is left out: it has no values."""
        count = len(self.study.directions)
        if record.state == "pruned" and count > 1:
            return
        complete = record.state == "complete" and record.metrics is not None
        constraints = {DIVERGED: float(record.state in ("diverged", "refused"))}
        values = None
        if record.metrics is not None:
            if complete:
                values = told_values(record.metrics, penalty(record.metrics, self.baseline, self.guards_config), count)
            constraints |= guards(record.metrics, self.baseline, self.guards_config)
        reports = {int(row["trained"]): row["fvu_worst"] for row in record.curve} if count == 1 else {}
        self.study.add_trial(
            optuna.create_trial(
                state=TrialState.COMPLETE if complete else TrialState.PRUNED,
                values=values,
                params=record.params,
                distributions={name: distribution(self.space.parameters[name]) for name in record.params},
                user_attrs=outcome(record) | {PRIOR: source},
                system_attrs=first_generation(OrderedNSGAII) if complete else {},
                intermediate_values=reports,
                constraints=constraints,
            )
        )


def add_baseline(prior: PriorTrials, base: TrialConfig, record: TrialRecord) -> bool:
    """Add the uniform baseline as the first trial; return whether the space contains it.

    It does if `uniform` is one of its strategies, and what the base has elsewhere is in every other range.
    """
    point = initial_points(prior.space, base)[0]
    whole = all(prior.space.counts(name, point) == (name in point) for name in prior.space.parameters)
    if not whole or point.get(STRATEGY) != UNIFORM:
        return False
    if not any(trial.user_attrs[PRIOR] == BASELINE for trial in prior_trials(prior.study)):
        prior.add(replace(record, params=point), BASELINE)
    return True


def add_earlier_studies(prior: PriorTrials, folders: Sequence[StudyFolder]) -> None:
    """Add the trials of earlier studies, except failed ones. What a killed driver had added is not added again."""
    known = {record.arm for record in warm_records(prior.study)}
    for folder in folders:
        for record in read_search(open_search(folder)):
            source = f"{folder.name}/{record.arm}"
            if record.state in ("complete", "pruned", "diverged") and source not in known:
                prior.add(record, source)
    prior.study.set_user_attr(WARM_STARTED, True)


def enqueue_initial_trials(study: optuna.Study, space: SearchSpace, base: TrialConfig, has_baseline: bool) -> None:
    """Enqueue the initial trials and the best trial of earlier studies, unless they are already.

    That one is trained again because only a trial of this study has a checkpoint, and can be its best.
    """
    points = initial_points(space, base)[1 if has_baseline else 0 :]
    if (best := best_record(warm_records(study))) is not None:
        points.append(best.params)
    enqueued = [enqueued_params(trial) for trial in study.get_trials(deepcopy=False)]
    for point in points:
        if point not in enqueued:
            study.enqueue_trial(point)
            enqueued.append(point)


def earlier_studies(config: StudyConfig, space: SearchSpace) -> list[StudyFolder]:
    """The folders of the studies named by `warm_start`.

    Raises `ConfigError` if there is none of that name, or if its trials say nothing about this study's, because they
    were drawn from another space, trained otherwise or held to other guards.
    """
    return [_earlier_study(config, space, name) for name in config.warm_start]


def _earlier_study(config: StudyConfig, space: SearchSpace, name: str) -> StudyFolder:
    path = Path(name) if Path(name).name != name else Path(config.runs) / name
    try:
        folder = open_study(path.parent, path.name)
    except ConfigError as error:
        raise ConfigError(f"--warm-start {name}: {error}") from None
    if folder.path.resolve() == (Path(config.runs) / config.name).resolve():
        raise ConfigError(f"--warm-start {name}: a study cannot learn from itself; --resume continues it")
    if not folder.has_search:
        raise ConfigError(f"--warm-start {name}: it has no trials yet")
    known = folder.read_description()
    theirs = parse_config(StudyConfig, known["config"], str(folder.description))
    ours = {"space": space_content(space)["parameters"], "guards": config.guards.model_dump(mode="json")}
    there = {"space": known["space"]["parameters"], "guards": theirs.guards.model_dump(mode="json")}
    ours |= _training(space.to_config(config.base, {}))
    there |= _training(theirs.base.with_overrides(known["space"]["fixed"], str(folder.description)))
    for setting, before, now in _both_ways(there, ours):
        raise ConfigError(
            f"--warm-start {name}: its trials have {setting} {before!r}, this study's {now!r}: "
            "only trials of the same space, training and guards can be compared"
        )
    return folder


def check_fingerprint(folders: Sequence[StudyFolder], data: PreparedData) -> None:
    """Raise `ConfigError` if an earlier study ran on other data."""
    for folder in folders:
        if folder.read_description()["fingerprint"] != data.fingerprint:
            raise ConfigError(f"--warm-start {folder.name}: it ran on other data, or data prepared otherwise")


def _training(base: TrialConfig) -> dict[str, Any]:
    """All that a score depends on, except the data and the seed."""
    content = base.model_dump(mode="json", exclude={"seed": True, "prepare": True, "training": {"device"}})
    return {f"base.{section}": settings for section, settings in content.items()}


def _both_ways(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    yield from differences(before, now)
    yield from ((setting, there, here) for setting, here, there in differences(now, before))
