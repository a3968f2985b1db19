"""Finals that cannot be held."""

from __future__ import annotations

import pytest

from spinlock_dist.config_file import parse_config
from spinlock_dist.errors import ConfigError
from study.config import StudyConfig


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
