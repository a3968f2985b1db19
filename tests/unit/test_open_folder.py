"""When a study may begin, and when it may go on."""

from __future__ import annotations

import pytest

from search_spaces import Float, SearchSpace
from search_spaces.space import space_content
from spinlock_dist.config import PrepareConfig, TrialConfig
from spinlock_dist.errors import ConfigError
from study.config import ClusterConfig, StudyConfig
from study.validate import open_folder

SPACE = SearchSpace(name="s", description="", parameters={"compression.sharpness": Float(low=0.5, high=2.0)})


@pytest.fixture
def config(tmp_path) -> StudyConfig:
    """A study that was started."""
    config = StudyConfig(name="n", runs=str(tmp_path))
    content = {"config": config.model_dump(mode="json"), "space": space_content(SPACE), "fingerprint": "f"}
    open_folder(config, SPACE, resume=False).write_description(content)
    return config


def test_a_name_that_is_taken_is_refused_with_both_ways_out(config):
    with pytest.raises(ConfigError, match="--resume, or choose another --name"):
        open_folder(config, SPACE, resume=False)


def test_more_trials_and_another_machine_are_free(config):
    changed = config.model_copy(update={"trials": 99, "cluster": ClusterConfig(max_concurrent=1)})
    assert open_folder(changed, SPACE, resume=True).name == "n"


@pytest.mark.parametrize(
    ("update", "setting"),
    [
        ({"seed": 1}, "seed 0, now it is 1"),
        ({"base": TrialConfig(prepare=PrepareConfig(max_samples=50))}, "base.prepare.max_samples None, now it is 50"),
        ({"epochs": 3}, "epochs None, now it is 3"),
    ],
)
def test_other_settings_must_be_as_they_were(config, update, setting):
    with pytest.raises(ConfigError, match=setting):
        open_folder(config.model_copy(update=update), SPACE, resume=True)


@pytest.mark.parametrize(
    "parameters",
    [
        {"compression.sharpness": Float(low=0.5, high=3.0)},
        {},
        {**SPACE.parameters, "loss.commitment": Float(low=0.1, high=0.2)},
    ],
)
def test_the_space_must_be_as_it_was(config, parameters):
    with pytest.raises(ConfigError, match="was started with"):
        open_folder(config, SearchSpace(name="s", description="", parameters=parameters), resume=True)


def test_a_study_of_a_version_without_a_setting_goes_on(config):
    folder = open_folder(config, SPACE, resume=True)
    content = folder.read_description()
    del content["config"]["base"]["prepare"]["linked_files"]
    folder.write_description(content)
    assert open_folder(config, SPACE, resume=True) == folder
