"""What is checked before anything is done, and what is made of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.space import space_content
from spinlock_dist.errors import ConfigError
from study.cluster.ray_cluster import Cluster
from study.cluster.resources import ResourceError, Resources
from study.config import ClusterConfig, StudyConfig, UntilConfig
from study.samplers.recorded_prior import NEWEST
from study.validate import validate
from tests.toy import small_study

TWO_CPUS = Cluster(Resources(2, 1, 0), None, lambda: 2)
FOUR_CPUS = Cluster(Resources(4, 1, 0), None, lambda: 4)


@pytest.fixture
def config(tmp_path: Path) -> StudyConfig:
    """A new study of a dataset that is not there: nothing here reads it."""
    return small_study(tmp_path, tmp_path / "missing.h5")


def test_a_new_study_is_resolved_and_leaves_nothing(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = config.base.training.model_copy(update={"device": "cpu"})
    prepare = config.base.prepare.model_copy(update={"dataset": "missing.h5"})
    base = config.base.model_copy(update={"training": training, "prepare": prepare})
    update = {"runs": "runs", "space": "space.yaml", "base": base, "cluster": ClusterConfig()}
    study = validate(config.model_copy(update=update))
    assert study.config.runs == str(tmp_path / "runs")
    assert study.config.space == str(tmp_path / "space.yaml")
    assert study.config.base.prepare.dataset == str(tmp_path / "missing.h5")
    assert study.config.cluster.gpus == 0  # trials that are told `cpu` need none
    assert [arm.name for arm in study.arms] == [""]
    assert not study.folder.path.exists()


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"space": "quik"}, "quick"),
        ({"sampler": "nsga2"}, "nsga2"),
        ({"warm_start": ("earlier",)}, "no study 'earlier'"),
        ({"storage": "nosuch://x"}, "--storage nosuch://x"),
        ({"runs": "runtime_resources/x"}, "Ray deletes"),
    ],
)
def test_what_cannot_be_run_is_refused_without_data_or_cluster(config, update, message):
    with pytest.raises(ConfigError, match=message):
        validate(config.model_copy(update=update))


def test_a_study_that_is_there_is_resumed_or_refused(config):
    with pytest.raises(ConfigError, match="no study 's'"):
        validate(config, resume=True)
    study = validate(config)
    study.folder.path.mkdir(parents=True)
    study.folder.write_description({"config": study.config.model_dump(mode="json"), "space": {}, "fingerprint": "f"})
    with pytest.raises(ConfigError, match="--resume, or choose another --name"):
        validate(config)


def test_a_limit_that_could_never_be_reached_on_the_cluster_is_refused(config):
    study = validate(config.model_copy(update={"until": UntilConfig(gpu_hours=1)}))
    with pytest.raises(ResourceError, match="--max-gpu-hours"):
        study.on_cluster(TWO_CPUS)


def test_a_batch_is_what_runs_at_a_time_when_the_study_is_started_wherever_it_is_resumed(config):
    config = config.model_copy(update={"deterministic": True, "tournament": True})
    started = validate(config).on_cluster(TWO_CPUS)
    assert {arm.config.batch for arm in started.arms} == {started.config.batch} == {2}
    started.folder.path.mkdir(parents=True)
    content = {"config": started.config.model_dump(mode="json"), "space": space_content(started.space)}
    started.folder.write_description({**content, "fingerprint": "f"})
    assert validate(config, resume=True).on_cluster(FOUR_CPUS).config.batch == 2
    assert validate(config.model_copy(update={"name": "t"})).on_cluster(FOUR_CPUS).config.batch == 4
    assert (
        validate(config.model_copy(update={"name": "u", "deterministic": False})).on_cluster(TWO_CPUS).config.batch
        is None
    )


def test_a_resumed_study_goes_on_with_the_recorded_trials_that_it_began_with(config):
    config = config.model_copy(update={"sampler": "composite", "space": "quick"})
    started = validate(config)
    started.folder.path.mkdir(parents=True)
    settings = started.config.model_dump(mode="json")
    content = {"space": space_content(started.space), "fingerprint": "f"}
    started.folder.write_description({"config": settings, **content})
    assert validate(config, resume=True).config.prior == NEWEST
    with pytest.raises(ConfigError, match="was started with prior"):
        validate(config.model_copy(update={"prior": "none"}), resume=True)
    del settings["prior"]  # as a version without any kept it
    started.folder.write_description({"config": settings, **content})
    assert validate(config, resume=True).config.prior is None


def test_auto_is_resolved_when_a_study_starts_and_stays_what_it_was(config):
    config = config.model_copy(update={"space": "quick", "sampler": "auto"})
    assert validate(config).config.sampler == "composite"
    assert validate(config.model_copy(update={"trials": 2000})).config.sampler == "tpe"
    pareto = validate(config.model_copy(update={"objective": "pareto"})).config
    assert (pareto.sampler, pareto.prior) == ("tpe", "none")
    started = validate(config.model_copy(update={"sampler": "tpe"}))
    started.folder.path.mkdir(parents=True)
    content = {"space": space_content(started.space), "fingerprint": "f"}
    started.folder.write_description({"config": started.config.model_dump(mode="json"), **content})
    resumed = validate(config, resume=True).config
    assert (resumed.sampler, resumed.prior) == ("tpe", "none")
