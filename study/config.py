"""What a study is asked to do: the trials' common base, the search, its guards, and where it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from spinlock_dist.config import Section, TrialConfig
from spinlock_dist.errors import ConfigError
from spinlock_dist.registry import Registry


class GuardsConfig(Section):
    """What a trial must satisfy to count as feasible, relative to the uniform baseline of the same study."""

    bits_tolerance: float = Field(0.01, gt=0)
    """Largest relative difference in bits per sample."""
    fvu_worst_limit: float = Field(0.9, gt=0, le=1)
    """Largest FVU of the worst category; it must not exceed the baseline's either."""
    fvu_mean_ratio: float = Field(1.05, ge=1)
    """Largest mean FVU over features, as a multiple of the baseline's."""
    utilization: float = Field(0.9, ge=0, le=1)
    """Smallest share of codes in use; 0.6 of the baseline's where that is below it."""
    perplexity_ratio: float = Field(0.5, ge=0, le=1)
    """Smallest mean of perplexity / K; 0.6 of the baseline's where that is below it."""


class StoppingConfig(Section):
    """Early stopping of trials by the worst category's FVU. With several objectives every trial trains to its end."""

    rule: Literal["asha", "median", "none"] = "asha"
    """Asynchronous successive halving (Li et al. 2020); or the median rule: stop a trial that is worse than the median
    of the other trials' running means (Golovin et al. 2017)."""
    grace: int = Field(5, ge=1)
    """Epochs before a trial can be stopped. With the default schedule rungs lie at 5 and 10 epochs of 20, before the
    rate decays and every score falls."""
    reduction: float = Field(2, gt=1)
    """ASHA: at each rung the best 1 / reduction of the trials continue, to `reduction` times as many epochs."""
    least_trials: int = Field(5, ge=1)
    """Median: trials that must have reached an epoch before another is compared with them there."""


class MarginsConfig(Section):
    """How much an error may rise and still count as kept, relative to it."""

    worst: float = Field(0.02, ge=0)
    """Of the worst category."""
    mean: float = Field(0.05, ge=0)
    """The mean over features."""


class FinalsConfig(Section):
    """How the best trials are compared with uniform ratios: docs/verdict.md."""

    top: int = Field(2, ge=1)
    """Candidates of lowest imbalance among the finalists, beside plain `feedback` and the best uniform trial."""
    min_replicates: int = Field(3, ge=2)
    """Trainings of a finalist, its control and the baseline before the first look, if `replicates` is not fewer."""
    replicates: int = Field(9, ge=2)
    """Trainings after which a finalist that is still not decided is left undecided."""
    margins: MarginsConfig = MarginsConfig()
    seeds: int = Field(3, ge=1)
    """Trainings that verify the exported config, the first with the trial's seed."""

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, given: Any) -> Any:
        """Leave out what a study.yaml of an earlier version says of replicates, where it is what all are now."""
        if not isinstance(given, Mapping):
            return given
        gone = {"data": "splits", "categories": "kept"}
        return {name: value for name, value in given.items() if gone.get(name, ...) != value}


def _at_most_one_gpu(share: float) -> float:
    if share > 1:
        raise ValueError(f"a trial trains on one GPU, {share:g} would leave the others idle; use at most 1")
    return share


class ClusterConfig(Section):
    """Where the trials run."""

    address: str | None = None
    """Ray cluster to join (`auto` or `host:port`); a cluster of its own on this machine when absent."""
    gpus: int | None = Field(None, ge=0)
    """GPUs used in all; every GPU that Ray sees when absent, 0 for CPU."""
    gpus_per_trial: Annotated[float, Field(gt=0), AfterValidator(_at_most_one_gpu)] | None = None
    """Share of a GPU that a trial gets: it trains on one device, or on a part of it. By default a whole one."""
    members_per_trial: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Trials that a worker trains in lock step, with what one trial gets. `auto`: one on CPUs, where a process a core
    is as fast; up to 32 on GPUs, which one leaves idle."""
    cpus_per_trial: int = Field(1, ge=1)
    """CPU cores, and threads, of a trial."""
    memory_per_trial: float | None = Field(None, gt=0)
    """GiB of a node's memory set aside for a trial; it bounds how many share a node, not what one of them takes."""
    max_concurrent: int | None = Field(None, ge=1)
    """Trials at a time; as many as fit when absent."""
    wait_for_nodes: float = Field(0, ge=0)
    """Seconds to wait for room for a first trial, where a joined cluster grows on demand. Its autoscaler is asked for
    all that `gpus` or `max_concurrent` name, until the last trials need less."""
    snapshot_seconds: float = Field(10, ge=0)
    """Seconds between snapshots of a trial, from which it is resumed when its process, node or driver is lost."""
    dashboard: bool = True
    """Start Ray's dashboard."""
    dashboard_host: str = "127.0.0.1"
    """Interface the dashboard listens on: by default loopback, `0.0.0.0` for all."""


class UntilConfig(Section):
    """When the search ends before `trials` are done: at the first limit reached. Running trials are finished."""

    hours: float | None = Field(None, gt=0)
    """Hours of search, over all runs of the study."""
    gpu_hours: float | None = Field(None, gt=0)
    """Hours of search times the GPUs that the study occupies."""
    imbalance: float | None = Field(None, ge=1)
    """A feasible trial has at most this imbalance on the validation rows."""
    no_improvement: int | None = Field(None, ge=1)
    """This many trials in a row brought no better feasible one, or for a Pareto front nothing new on it."""
    gain: float | None = Field(None, gt=0, lt=1)
    """12 more trials would be expected to lower the least imbalance by less than this share."""
    since: int = Field(0, ge=0)
    """Trials at the start that no limit counts; `--extend` sets it to the number there are."""


SAMPLERS: Registry[Any] = Registry(
    "sampler",
    {
        "tpe": "study.samplers.optuna_samplers:TPE",
        "composite": "study.samplers.fvu_composite:COMPOSITE",
        "gp": "study.samplers.optuna_samplers:GP",
        "nsga2": "study.samplers.optuna_samplers:NSGA2",
        "random": "study.samplers.optuna_samplers:RANDOM",
        "qmc": "study.samplers.optuna_samplers:QMC",
    },
)
"""A new one is a `study.samplers.kind.SamplerKind` in a module, and a line here; others come by dotted name."""


AUTO = "auto"
MOST_COMPOSITE = 1_000
"""Trials up to which `auto` is `composite`, which takes longer for a suggestion with every trial that it knows."""

TRACKERS: Registry[Any] = Registry(
    "tracker", {"mlflow": "study.monitor.mlflow:MLFLOW", "wandb": "study.monitor.wandb:WANDB"}
)
"""Each a `study.monitor.tracking.TrackerKind`; its monitor is in `MONITORS` under the same name."""


def is_dotted(name: str) -> bool:
    """Whether a name is that of code elsewhere: `package.Class`, `package.module:factory` or `package:Outer.Inner`."""
    return re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*[.:][^\W\d]\w*(\.[^\W\d]\w*)*", name) is not None


class StudyConfig(Section):
    """A whole study. The data, model and training that all trials share are in `base`."""

    name: str
    """Folder of the study within `runs`."""
    runs: str = "runs"
    space: str = "adaptive_compression"
    """Search space: the name of a preset, or a YAML file."""
    trials: int = Field(12, ge=1)
    """Trials of the search."""
    epochs: int | None = Field(None, ge=1)
    """Epochs of every trial; those of the space or, failing that, of `base` when absent."""
    tournament: bool = False
    """Search each strategy of the space separately, and the whole space at random, with `trials` each; rank them."""
    objective: Literal["single", "pareto"] = "single"
    """Minimize log10 imbalance, or find the Pareto front of imbalance, mean FVU and utilization; under the guards."""
    sampler: str = AUTO
    """What suggests the trials: a name of `study.samplers`, or the dotted name of any Optuna sampler, which is imported
    only where `--sampler` (in Python `sampler=`) gives it: docs/search.md. `auto`: `composite` for one objective and at
    most 1,000 trials, else `tpe`."""
    seed: int = 0
    """Of the sampler."""
    deterministic: bool = False
    """The same seed gives the same trials, whatever the timing: the sampler is asked in batches and told in order."""
    batch: int | None = Field(None, ge=1)
    """Trials of a batch in a deterministic study; by default as many as run at a time when it is started."""
    storage: str | None = None
    """Optuna storage that the trials are kept in, as an URL such as `sqlite:///trials.db`; by default a journal file in
    the study's folder."""
    keep_checkpoints: int = Field(5, ge=1)
    """Trials whose checkpoint is kept: the best so far, at least as many as finalists, and a whole Pareto front."""
    tensorboard: bool = False
    """Write the curves of all trials as TensorBoard files, in the study's folder."""
    track: tuple[str, ...] = ()
    """Experiment trackers that every training is sent to as it ends: docs/watching.md."""
    baseline_seeds: int = Field(2, ge=1)
    """Trainings of the uniform baseline; trials are compared with the first, which has their seed."""
    finals: FinalsConfig = FinalsConfig()
    warm_start: tuple[str, ...] = ()
    """Earlier studies whose trials the sampler learns from: names in `runs`, or folders."""
    prior: str | None = None
    """Trials recorded on other data that the sampler `composite` learns from: a name of `study/samplers/priors`, or
    `none`. A new study takes the newest; one that an earlier version began has none."""
    base: TrialConfig = TrialConfig()
    fingerprint: str | None = None
    """Of the prepared data that this config was written for; other data is refused. A rerun study.yaml has it."""
    guards: GuardsConfig = GuardsConfig()
    stopping: StoppingConfig = StoppingConfig()
    until: UntilConfig = UntilConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.tournament and self.until != UntilConfig():
            raise ValueError("until: in a tournament every strategy has all of its trials; leave it out")
        if self.tournament and self.warm_start:
            raise ValueError("warm_start: in a tournament all have the same trials and no others; leave it out")
        return self

    @property
    def chosen_sampler(self) -> str:
        """The sampler, where `auto` leaves it open that of a study with these settings."""
        if self.sampler != AUTO:
            return self.sampler
        return "composite" if self.objective == "single" and self.trials <= MOST_COMPOSITE else "tpe"

    @field_validator("sampler")
    @classmethod
    def _sampler_is_known(cls, sampler: str) -> str:
        try:
            return sampler if sampler == AUTO or is_dotted(sampler) else SAMPLERS.check(sampler)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @field_validator("track")
    @classmethod
    def _trackers_are_known(cls, track: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(TRACKERS.check(name) for name in dict.fromkeys(track))
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
            raise ValueError(
                f"'{name}' cannot be the name of a folder: use letters, digits, '.', '_' and '-', 128 at most"
            )
        return name
