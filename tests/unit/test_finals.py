"""What a replicate of the finals is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from results.records.study_folder import StudyFolder
from spinlock_dist.config_file import parse_config
from spinlock_dist.errors import ConfigError
from spinlock_dist.prepare import PreparedData, prepare
from study.config import StudyConfig
from study.phases.finals import replicate_config
from tests.synthetic import write_table


def started(folder: Path, given: dict, prepare_: dict) -> tuple[StudyConfig, StudyFolder, PreparedData]:
    """A study whose data is prepared."""
    config = parse_config(
        StudyConfig, {"name": "s", "runs": str(folder), "finals": given, "base": {"prepare": prepare_}}, "test"
    )
    data = prepare(config.base.prepare)
    study = StudyFolder(folder / "s")
    study.write_prepared(data)
    return config, study, data


def test_replicates_are_other_splits_with_the_features_and_categories_of_the_study(tmp_path):
    dataset = str(write_table(tmp_path / "t.npz"))
    config, study, ours = started(tmp_path, {}, {"dataset": dataset, "split": {"seed": 3}})
    replicates = [prepare(replicate_config(config, study, number)) for number in range(3)]
    for data in replicates:
        assert data.feature_names == ours.feature_names
        assert data.categories == ours.categories
        assert not set(data.split.test) & set(ours.split.validation)
    assert len({data.fingerprint for data in (ours, *replicates)}) == 4
    assert not np.array_equal(replicates[0].split.test, replicates[1].split.test)


def test_rediscovered_categories_are_those_of_the_split(tmp_path):
    config, study, _ = started(
        tmp_path, {"categories": "rediscovered"}, {"dataset": str(write_table(tmp_path / "t.npz"))}
    )
    assert replicate_config(config, study, 0).categories == config.base.prepare.categories


def test_simulated_replicates_are_rows_of_their_own(tmp_path):
    small = {"simulator": {"samples": 40, "grid": 8, "steps": 8}}
    config, study, _ = started(tmp_path, {"data": "simulations"}, small)
    replicate = replicate_config(config, study, 1)
    assert replicate.simulator.seed == 2
    assert replicate.split.search_seed is None
    assert json.loads(Path(replicate.categories.mapping).read_text())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"finals": {"data": "simulations"}, "base": {"prepare": {"dataset": "t.npz"}}}, "only without a dataset"),
        (
            {"finals": {"categories": "rediscovered"}, "base": {"prepare": {"categories": {"mapping": "m.json"}}}},
            "a mapping is given",
        ),
        ({"tournament": True, "warm_start": ["earlier"]}, "the same trials and no others"),
        ({"finals": {"replicates": 1}}, "greater than or equal to 2"),
    ],
)
def test_finals_that_cannot_be_held_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(StudyConfig, {"name": "s", **given}, "test")
