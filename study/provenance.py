"""The content of study.yaml: what a study was asked to do, on which data, with which versions."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from results.records.identity import digest_of
from results.records.study_folder import FORMAT
from search_spaces import SearchSpace, load_space
from search_spaces.space import space_content
from spinlock_dist.errors import ConfigError
from spinlock_dist.prepare import PreparedData
from spinlock_dist.preset import merge
from study.cluster.ray_cluster import Cluster
from study.config import StudyConfig

LOCATIONS: dict[str, Any] = {
    "base": {"prepare": {"dataset": True, "linked_files": True, "categories": {"mapping": True}}},
    "space": True,
}
"""Where data and space lie. They may have moved: the fingerprint says whether the data is the same, and the space is
compared by its content."""

FREE_TO_CHANGE = {"name", "runs", "trials", "until", "cluster", "keep_checkpoints", "tensorboard", "track"}
"""Settings that may change when a study is resumed: how long the search runs, where, and what it keeps."""

PACKAGES = ("spinlock-dist", "torch", "ray", "optuna", "numpy", "pandas")


def describe(config: StudyConfig, space: SearchSpace, data: PreparedData, cluster: Cluster) -> dict[str, Any]:
    """The content of study.yaml."""
    return {
        "format": FORMAT,
        "config": config.model_dump(mode="json"),
        "space": space_content(space),
        "fingerprint": data.fingerprint,
        "identity": study_identity(config, space, data.fingerprint),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "git_commit": _git_commit(),
        "hardware": {
            "machine": platform.machine(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "trials_at_a_time": cluster.resources.concurrent,
            "cpus_per_trial": cluster.resources.cpus,
            "gpus_per_trial": cluster.resources.gpus,
        },
    }


def job_metadata(config: StudyConfig) -> dict[str, str]:
    """What Ray's page of the study's job tells of it: its name, what is searched how, and settings it was given."""
    asked = ("space", "trials", "sampler", "objective")
    told = {"job_name": config.name, **{name: str(getattr(config, name)) for name in asked}}
    given = flattened(config.model_dump(mode="json", exclude_defaults=True, exclude={"name", "fingerprint"}))
    return told | {name: str(value) for name, value in given}


def flattened(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the settings in a tree by dotted name."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flattened(value, (*path, name))
        else:
            yield ".".join((*path, name)), value


def continued(known: dict[str, Any], config: StudyConfig) -> dict[str, Any]:
    """The content of study.yaml for a study that is resumed, with the settings that may change."""
    now = config.model_dump(mode="json", include={*FREE_TO_CHANGE, "space"})
    moved = config.model_dump(mode="json", include={"base": LOCATIONS["base"]})
    return {**known, "format": FORMAT, "config": merge({**known["config"], **now}, moved)}


def study_identity(config: StudyConfig, space: SearchSpace, fingerprint: str) -> str:
    """What the files of a study belong to: its settings, space and data by content, not by name or place."""
    free = dict.fromkeys([*FREE_TO_CHANGE, "batch", "storage", "fingerprint", "warm_start"], True)
    settings = config.model_dump(mode="json", exclude_defaults=True, exclude={**free, **LOCATIONS})
    return digest_of(settings, space_content(space), fingerprint)


def study_space(config: StudyConfig) -> SearchSpace:
    """The space that a study searches, with the study's own epochs if it has any. Raises `ConfigError`."""
    space = load_space(config.space)
    if config.epochs is None:
        return space
    return replace(space, fixed={**space.fixed, "training.epochs": config.epochs})


def check_space(config: StudyConfig, known: dict[str, Any], source: str) -> None:
    """Raise `ConfigError` if the space of the study that `source` describes is not `known`, as it was, any more."""
    for setting, before, now in differences(known, space_content(study_space(config))):
        raise ConfigError(
            f"{source}: the search space {config.space} has changed: {setting} was {before!r}, now it is {now!r}; "
            "restore it, or name one with --space"
        )


def differences(before: Any, now: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any, Any]]:
    """Yield setting, value before and value now, for every setting in `now` that was another one."""
    if isinstance(before, dict) and isinstance(now, dict) and path[-1:] != ("families",):
        for key in now:
            yield from differences(before.get(key), now[key], (*path, key))
        if path[:1] == ("parameters",) or path[:1] == ("fixed",):
            yield from ((".".join((*path, key)), before[key], None) for key in before if key not in now)
    elif before != now:
        yield ".".join(path), before, now


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit the code was run from, `-dirty` if it was changed since, None outside a checkout."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
