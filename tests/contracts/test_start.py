"""The start of members in one batch: what it asks of a device, and that each starts as it would alone and compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from benchmarks.calls import count_start
from spinlock_dist.categories.category import Category
from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.config import LEVELS, TrialConfig
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE, select_members
from spinlock_dist.model.initialization import initialize
from spinlock_dist.model.layout import GroupLayout

CATEGORIES = [
    Category(f"c{place}", tuple(range(low, high))) for place, (low, high) in enumerate([(0, 5), (5, 8), (8, 48)])
]
ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "default": {},
    "parallel levels": {"model.levels": "parallel"},
    "shared decoder": {"model.decoder": "shared"},
    "finite scalars": {"quantizer.kind": "fsq"},
}
arrangements = pytest.mark.parametrize("overrides", ARRANGEMENTS.values(), ids=ARRANGEMENTS.keys())


def plan_of(kind: str, member: int) -> CapacityPlan:
    """Sizes that differ from member to member, with one, two and no further codebooks, and a level switched off."""
    if kind == "fsq":
        dims = np.array([[2, 1, 1], [1, 1, 1], [3, 2, 1]]) + member
        return CapacityPlan(np.ones((3, 3)), dims, (3**dims)[..., None])
    dims = np.maximum(np.array([[4, 4, 8], [4, 4, 4], [8, 12, 20]]) - 2 * member, 1)
    codes = np.array([[[6, 1], [4, 3], [1, 1]], [[5, 1], [3, 1], [2, 1]], [[9, 9], [12, 5], [20, 1]]])
    return CapacityPlan(np.ones((3, 3)), dims, np.maximum(codes - member, 1))


def rows_of(rows: int) -> Tensor:
    generator = Generator().manual_seed(rows)
    return torch.randn(rows, 48, generator=generator) @ torch.randn(48, 48, generator=generator) / 7


def started(
    overrides: dict[str, Any], members: list[int], values_ND: Tensor, compiled: bool = False
) -> HierarchicalVQVAE:
    config = TrialConfig().with_overrides({"model.hidden": 4, **overrides})
    plans = [plan_of(config.quantizer.kind, member) for member in members]
    layout = GroupLayout(CATEGORIES)
    assert len(layout.buckets) > 1
    model = HierarchicalVQVAE(layout, plans, config.model, config.quantizer)
    initialize(model, layout.pack(values_ND), members, 64, compiled)
    return model


@arrangements
@pytest.mark.parametrize("rows", [1000, 30])
def test_the_calls_do_not_grow_with_members_and_a_level_waits_once(overrides: dict[str, Any], rows: int) -> None:
    config = TrialConfig().with_overrides(overrides)
    plan = plan_of(config.quantizer.kind, 0)
    one, many = (count_start(config, CATEGORIES, [plan] * members, rows) for members in (1, 32))
    assert one.calls <= many.calls <= 1.01 * one.calls
    assert 0 < sum(many.waits.values()) <= len(LEVELS)


@arrangements
@pytest.mark.parametrize("rows", [400, 30], ids=["more rows than features", "fewer"])
def test_a_member_starts_in_a_batch_as_alone(overrides: dict[str, Any], rows: int) -> None:
    values_ND = rows_of(rows)
    together = started(overrides, [0, 1, 2], values_ND)
    for member in range(3):
        ours, alone = (
            model.state_dict()
            for model in (select_members(together, [member]), started(overrides, [member], values_ND))
        )
        for name, tensor in alone.items():
            torch.testing.assert_close(ours[name], tensor, rtol=1e-3, atol=1e-3, msg=lambda text, at=name: at + text)


@arrangements
def test_compiled_a_member_starts_in_a_batch_as_alone_to_the_last_bit(overrides: dict[str, Any]) -> None:
    pytest.importorskip("numba")
    values_ND = rows_of(400)
    together = started(overrides, [0, 1, 2], values_ND, compiled=True)
    for member in range(3):
        ours = select_members(together, [member]).state_dict()
        for name, tensor in started(overrides, [member], values_ND, compiled=True).state_dict().items():
            assert torch.equal(ours[name], tensor), name


@arrangements
def test_a_batch_starts_as_compiled_loops_do(overrides: dict[str, Any]) -> None:
    pytest.importorskip("numba")
    values_ND = rows_of(400)
    batched, compiled = (started(overrides, [0, 1], values_ND, each).state_dict() for each in (False, True))
    for name, tensor in compiled.items():
        torch.testing.assert_close(batched[name], tensor, rtol=1e-3, atol=1e-3, msg=lambda text, at=name: at + text)


def test_what_does_not_fit_at_once_is_solved_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = started({}, [0, 1, 2], rows_of(400)).state_dict()
    monkeypatch.setattr("spinlock_dist.model.kmeans.CELLS", 1)
    for name, tensor in started({}, [0, 1, 2], rows_of(400)).state_dict().items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-3, atol=1e-3)
