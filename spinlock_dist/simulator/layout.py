"""The HDF5 file of a dataset: Spinlock's layout, with a registry that names every column.

Groups, attributes and units: docs/data.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from spinlock_dist.config import SimulatorConfig
from spinlock_dist.errors import DataError
from spinlock_dist.simulator.extract import Block
from spinlock_dist.simulator.parameters import INITIAL_CONDITIONS, KINDS, NAMES, POLICIES, Parameters

FORMAT_VERSION = 1
SIMULATOR_VERSION = 2
"""Raised whenever the same parameters would give other values."""
COMPRESSION = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
CHUNK_ROWS = 128
FEATURE_PATHS = {
    "initial": "features/initial/aggregated/features",
    "summary": "features/summary/aggregated/features",
    "temporal": "features/temporal/features",
}


def identity(config: SimulatorConfig) -> dict[str, Any]:
    """What decides every value of a dataset, by name."""
    return {**config.model_dump(), "simulator_version": SIMULATOR_VERSION}


def check_same(config: SimulatorConfig, found: dict[str, Any], where: Path) -> None:
    """Raise `DataError`, naming the first difference, if `found` is not the identity of `config`."""
    for name, wanted in identity(config).items():
        if found.get(name) != wanted:
            raise DataError(
                f"{where} was made with {name} {found.get(name, 'unknown')}, not {wanted}; "
                "choose another file name or delete it"
            )


def read_identity(path: Path) -> dict[str, Any]:
    """The identity of a complete dataset. Raises `DataError` if `path` is not one."""
    with suppress(OSError, KeyError, ValueError), h5py.File(path) as file:
        if file.attrs.get("complete"):
            return json.loads(file.attrs["simulator"])
    raise DataError(f"{path} exists and was not made by this simulator; choose another file name or delete it")


def write_dataset(path: Path, config: SimulatorConfig, blocks: Iterable[Block]) -> None:
    """Write `blocks`, in row order, as one file; rows beyond `config.samples` are left out."""
    with h5py.File(path, "w") as file:
        start = 0
        for block in blocks:
            rows = min(len(block.parameters), config.samples - start)
            if start == 0:
                _create(file, config, block)
            _write_rows(file, block, slice(start, start + rows), rows)
            start += rows
        file.attrs["complete"] = True


def _create(file: h5py.File, config: SimulatorConfig, block: Block) -> None:
    file.attrs["format_version"] = FORMAT_VERSION
    file.attrs["simulator"] = json.dumps(identity(config))
    file.attrs["complete"] = False
    for family, path in FEATURE_PATHS.items():
        _create_rows(file, path, config.samples, block.families[family])
        group = file[f"features/{family}"]
        group.attrs["feature_registry"] = json.dumps(block.registries[family])
        group.attrs["num_features"] = block.families[family].shape[-1]
        group.attrs["version"] = str(SIMULATOR_VERSION)
    file["features"].attrs["family_versions"] = json.dumps(dict.fromkeys(FEATURE_PATHS, str(SIMULATOR_VERSION)))
    file["features"].attrs["extraction_timestamp"] = datetime.now(UTC).isoformat(timespec="seconds")
    file["features"].attrs["extraction_config"] = json.dumps(identity(config))
    _create_rows(file, "inputs/fields", config.samples, block.fields)
    _create_rows(file, "parameters/params", config.samples, block.parameters)
    file["parameters/params"].attrs["dimension_names"] = list(NAMES)
    for name, column in _metadata(block).items():
        _create_rows(file, f"metadata/{name}", config.samples, column)


def _create_rows(file: h5py.File, path: str, rows: int, example: np.ndarray) -> None:
    chunks = (min(CHUNK_ROWS if example.ndim < 3 else CHUNK_ROWS // 8, rows), *example.shape[1:])
    file.create_dataset(path, (rows, *example.shape[1:]), dtype=example.dtype, chunks=chunks, **COMPRESSION)


def _write_rows(file: h5py.File, block: Block, where: slice, rows: int) -> None:
    for family, path in FEATURE_PATHS.items():
        file[path][where] = block.families[family][:rows]
    file["inputs/fields"][where] = block.fields[:rows]
    file["parameters/params"][where] = block.parameters[:rows]
    for name, column in _metadata(block).items():
        file[f"metadata/{name}"][where] = column[:rows]


def _metadata(block: Block) -> dict[str, np.ndarray]:
    parameters = Parameters(torch.from_numpy(block.parameters))
    return {
        "operator_kinds": np.array(parameters.labels("kind", KINDS), dtype="S32"),
        "ic_types": np.array(parameters.labels("initial_condition", INITIAL_CONDITIONS), dtype="S32"),
        "evolution_policies": np.array(parameters.labels("policy", POLICIES), dtype="S32"),
        "noise_regimes": np.array(parameters.noise_regimes(), dtype="S32"),
        "grid_sizes": np.full(len(parameters), block.fields.shape[-1], dtype=np.int32),
    }
