"""From a block of operators to rows of every family."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from spinlock_dist.config import SimulatorConfig
from spinlock_dist.seeding import derive_seed
from spinlock_dist.simulator.features_initial import INITIAL_GROUPS
from spinlock_dist.simulator.features_summary import SUMMARY_GROUPS
from spinlock_dist.simulator.features_temporal import TEMPORAL_GROUPS
from spinlock_dist.simulator.parameters import KINDS, Parameters, draw_parameters
from spinlock_dist.simulator.simulate import simulate

BLOCK_ROWS = 128
"""Operators simulated together. Part of what a file contains: results depend on it in the last digits."""
FAMILIES: dict[str, Mapping[str, Callable[[Any], dict[str, Tensor]]]] = {
    "initial": INITIAL_GROUPS,
    "summary": SUMMARY_GROUPS,
    "temporal": TEMPORAL_GROUPS,
}

Registry = dict[str, dict[str, int]]
"""Column index by group and feature name; the group's name leads the feature's, which makes it unique."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Rows of consecutive operators, float32."""

    families: dict[str, np.ndarray]
    """`initial` `[B, D]`, `summary` `[B, D]`, `temporal` `[B, T, D]`."""
    registries: dict[str, Registry]
    fields: np.ndarray
    """Initial fields `[B, C, H, W]`."""
    parameters: np.ndarray
    """`[B, P]`."""


def simulate_block(config: SimulatorConfig, start: int) -> Block:
    """The `BLOCK_ROWS` operators from row `start` on: a function of `config`, samples aside, and `start`."""
    parameters = draw_parameters(config.seed, start, BLOCK_ROWS)
    kinds = parameters.codes("kind")
    parts, order = [], []
    for code, kind in enumerate(KINDS):
        index = [row for row, other in enumerate(kinds) if other == code]
        if index:
            generator = torch.Generator().manual_seed(derive_seed(config.seed, "operators", start, kind))
            parts.append(_simulate_kind(kind, parameters.rows(index), config, generator))
            order += index
    return _merge(parts, np.argsort(order), parameters)


def _simulate_kind(kind: str, parameters: Parameters, config: SimulatorConfig, generator: Generator) -> Block:
    recording = simulate(
        kind,
        parameters,
        grid=config.grid,
        steps=config.steps,
        realizations=config.realizations,
        generator=generator,
    )
    seen = {"initial": recording.initial, "summary": recording, "temporal": recording}
    groups = {
        family: {name: group(seen[family]) for name, group in table.items()} for family, table in FAMILIES.items()
    }
    return Block(
        families={family: _columns(table) for family, table in groups.items()},
        registries={family: _registry(table) for family, table in groups.items()},
        fields=recording.initial.numpy(),
        parameters=parameters.values.numpy(),
    )


def _columns(groups: dict[str, dict[str, Tensor]]) -> np.ndarray:
    """Stack the columns of all groups: `[B]` each to `[B, D]`, `[T, B]` each to `[B, T, D]`."""
    stacked = torch.stack([column for group in groups.values() for column in group.values()], dim=-1)
    return (stacked.transpose(0, 1) if stacked.ndim == 3 else stacked).numpy()


def _registry(groups: dict[str, dict[str, Tensor]]) -> Registry:
    column = itertools.count()
    return {name: {f"{name}_{feature}": next(column) for feature in group} for name, group in groups.items()}


def _merge(parts: list[Block], order: np.ndarray, parameters: Parameters) -> Block:
    return Block(
        families={
            family: np.concatenate([part.families[family] for part in parts])[order] for family in parts[0].families
        },
        registries=parts[0].registries,
        fields=np.concatenate([part.fields for part in parts])[order],
        parameters=parameters.values.numpy(),
    )
