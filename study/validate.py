"""The one way into a study: every check that needs no work is made here, before anything slow begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from results.records.study_folder import StudyFolder, open_study
from search_spaces import SearchSpace, preset_names
from search_spaces.space import space_content
from spinlock_dist.errors import ConfigError
from spinlock_dist.outputs import OutputKind, check_output
from spinlock_dist.prepare import PreparedData
from study.cluster.node_checks import check_lasting
from study.cluster.ray_cluster import Cluster, preflight
from study.cluster.resources import members_per_worker
from study.config import AUTO, StudyConfig
from study.monitor.tensorboard import check_tensorboard
from study.monitor.tracking import check_trackers
from study.phases.tournament import Arm, arms
from study.provenance import FREE_TO_CHANGE, LOCATIONS, differences, study_identity, study_space
from study.samplers.build import NO_PRIOR, GivenSampler, check_sampler, name_of, study_prior
from study.samplers.recorded_prior import NEWEST, read_recorded
from study.search.stop_criteria import check_stop_criteria
from study.search.storage import resolved_url
from study.search.warm_start import check_fingerprint, earlier_studies

NEW_STUDY = OutputKind(
    name="a study that was killed before it was described",
    is_ours=lambda folder: {file.name for file in folder.iterdir()} <= {".lock", ".driver", "prepared"},
    is_folder=True,
)
"""The folder of a new study: without study.yaml nobody can say what trials in it belong to."""


@dataclass(frozen=True, kw_only=True)
class ValidatedStudy:
    """A study that can be run, as far as that can be known without its cluster and its data."""

    config: StudyConfig
    """With paths that mean the same from every folder."""
    space: SearchSpace
    folder: StudyFolder
    """Not made yet if the study is new."""
    arms: tuple[Arm, ...]
    """The searches: in a tournament one for each strategy and one at random, else one."""
    earlier: tuple[StudyFolder, ...]
    """Studies whose trials the sampler is to learn from; none of a study that is resumed, which has them."""
    resume: bool
    sampler: GivenSampler | None = None

    def on_cluster(self, cluster: Cluster) -> ValidatedStudy:
        """The study as it runs on this cluster. Raises `ResourceError` if a limit could never be reached there."""
        check_stop_criteria(self.config.until, cluster.resources)
        if not self.config.deterministic:
            return self
        # Batches stay as large as they were when the study was started, wherever it is resumed: else its trials change.
        stored = self.folder.read_description()["config"]["batch"] if self.resume else None
        members = members_per_worker(self.config.cluster, cluster.resources, self.config.trials)
        batch = stored or self.config.batch or cluster.resources.expected * members
        config = self.config.model_copy(update={"batch": batch})
        return replace(self, config=config, arms=tuple(arms(config, self.space)))

    def identity(self, data: PreparedData) -> str:
        """What the files of the study belong to; empty if an earlier version, which kept none, began it."""
        if self.resume:
            return self.folder.identity
        return study_identity(self.config, self.space, data.fingerprint)

    def check_data(self, data: PreparedData) -> None:
        """Raise `ConfigError` if the prepared data is not what the study, or an earlier one, was started with."""
        check_rerun(self.config, data)
        check_fingerprint(self.earlier, data)
        if self.resume and self.folder.read_description()["fingerprint"] != data.fingerprint:
            raise ConfigError(
                f"study '{self.folder.name}' was started on other data (the dataset or the code that prepares it has "
                "changed): restore it, name it with --dataset if it has moved, or choose another --name"
            )


def validate(config: StudyConfig, *, resume: bool = False, sampler: GivenSampler | None = None) -> ValidatedStudy:
    """Check a study and resolve its settings; `sampler` is one that is handed in and not among `study.samplers`.

    Raises `ConfigError` for settings that contradict each other, the space, or with `resume` what the study was started
    with; `ResourceError` for more than this machine, or a cluster that is joined already, has.
    """
    space = study_space(config)
    config = _resolved(config)
    if sampler is not None:
        config = config.model_copy(update={"sampler": name_of(sampler)})
    config = _chosen(config, space, resume)
    check_sampler(config, sampler)
    check_tensorboard(config)
    check_trackers(config)
    searches = arms(config, space)
    preflight(config.cluster)
    check_lasting(Path(config.runs))
    folder = open_folder(config, space, resume)
    earlier = [] if resume else earlier_studies(config, space)
    return ValidatedStudy(
        config=config,
        space=space,
        folder=folder,
        arms=tuple(searches),
        earlier=tuple(earlier),
        resume=resume,
        sampler=sampler,
    )


def _resolved(config: StudyConfig) -> StudyConfig:
    """`config` with absolute paths, and without GPUs if its trials are to run on `cpu`.

    Raises `ConfigError` if the storage it names cannot be used.
    """
    prepare = config.base.prepare
    categories = prepare.categories.model_copy(update={"mapping": _absolute(prepare.categories.mapping)})
    prepare = prepare.model_copy(update={"dataset": _absolute(prepare.dataset), "categories": categories})
    cluster = config.cluster
    if config.base.training.device == "cpu" and cluster.gpus is None:
        cluster = cluster.model_copy(update={"gpus": 0})
    base = config.base.model_copy(update={"prepare": prepare})
    space = config.space if config.space in preset_names() else str(_absolute(config.space))
    runs = str(Path(config.runs).resolve())
    known = {"base": base, "cluster": cluster, "space": space, "runs": runs, "storage": resolved_url(config.storage)}
    return config.model_copy(update=known)


def _chosen(config: StudyConfig, space: SearchSpace, resume: bool) -> StudyConfig:
    """`config` with the sampler and the recorded trials that it leaves open: what the study was started with.

    A new one takes the newest recorded trials; one that a version without any began has none. Raises `ConfigError` if
    there are none of the name given, or nothing to resume.
    """
    if config.prior not in (None, NO_PRIOR):
        read_recorded(config.prior)
    known: dict[str, Any] = {}
    if resume:
        known = open_study(Path(config.runs), config.name).read_description()["config"]
    sampler = config.sampler if config.sampler != AUTO else known.get("sampler", config.chosen_sampler)
    config = config.model_copy(update={"sampler": sampler})
    if config.prior is not None or resume:
        prior = config.prior or known.get("prior")
    else:
        newest = config.model_copy(update={"prior": NEWEST})
        prior = NO_PRIOR if study_prior(newest, space) is None else NEWEST
    return config.model_copy(update={"prior": prior})


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).resolve())


def open_folder(config: StudyConfig, space: SearchSpace, resume: bool) -> StudyFolder:
    """The folder of the study: a new one, or with `resume` that of an existing study.

    Raises `ConfigError` if the name is taken, if there is nothing to resume, or if a setting differs from what the
    study was started with.
    """
    folder = StudyFolder(Path(config.runs) / config.name)
    if not resume:
        if folder.description.exists():
            raise ConfigError(
                f"study '{config.name}' exists in {config.runs}: continue it with --resume, or choose another --name"
            )
        check_output(folder.path, NEW_STUDY, "--name")
        return folder
    known = open_study(Path(config.runs), config.name).read_description()
    for search in [folder] if not config.tournament else map(StudyFolder, folder.path.glob("tournament/*")):
        _check_journal(search)
    free = dict.fromkeys([*FREE_TO_CHANGE, *["batch"] * (config.batch is None)], True)
    given = {
        "config": config.model_dump(mode="json", exclude={**free, **LOCATIONS}),
        "space": space_content(space),
    }
    known = {**known, "config": _with_defaults(known["config"])}
    for part, settings in given.items():
        for setting, before, now in differences(known.get(part, {}), settings):
            raise ConfigError(
                f"study '{config.name}' was started with {setting} {before!r}, now it is {now!r}: "
                "leave it as it was, or choose another --name"
            )
    return folder


def _check_journal(search: StudyFolder) -> None:
    """Raise `ConfigError` if a search has left trials but no journal: it would be begun anew, and they be lost."""
    kept = [path for path in (search.trials, search.checkpoint(0).parent) if path.exists()]
    if kept and not search.has_search:
        raise ConfigError(
            f"{search.journal} is missing, but its trials have left {kept[0].name}: restore the journal from a copy, "
            "or begin again under another --name"
        )


def _with_defaults(known: dict[str, Any]) -> dict[str, Any]:
    """The config of a study as it was stored, with settings that an earlier version did not have at their defaults."""
    try:
        return StudyConfig.model_validate(known).model_dump(mode="json")
    except ValueError:  # of a version whose settings are no longer there: compared as it is
        return known


def check_rerun(config: StudyConfig, data: PreparedData) -> None:
    """Raise `ConfigError` if the config was written for other data: the study would not be run again, but another."""
    if config.fingerprint not in (None, data.fingerprint):
        raise ConfigError(
            "the data is not that of the study to be run again (the dataset or the code that prepares it has changed): "
            "restore it, or say that it is another with --dataset"
        )
