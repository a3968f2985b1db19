"""Loss terms: their values, who receives gradient from each, and independence of the number of groups."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from spinlock_dist.categories.category import Category
from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.config import ModelConfig, QuantizerConfig
from spinlock_dist.model import layout
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE, Reconstruction, select_members
from spinlock_dist.model.initialization import initialize
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.training import losses
from spinlock_dist.training.trainer import TERMS

SIZES = (5, 3)


def model_and_data(**settings: str) -> tuple[HierarchicalVQVAE, Tensor]:
    edges = np.cumsum((0, *SIZES))
    categories = [Category(f"c{i}", tuple(range(a, b))) for i, (a, b) in enumerate(itertools.pairwise(edges))]
    plan = CapacityPlan(np.ones((2, 3)), np.full((2, 3), 4), np.array([[[6], [4], [3]], [[5], [3], [2]]]))
    layout = GroupLayout(categories)
    model = HierarchicalVQVAE(layout, [plan, plan], ModelConfig(hidden=8, **settings), QuantizerConfig())
    rows = torch.randn(300, sum(SIZES), generator=torch.Generator().manual_seed(0))
    grouped = layout.pack(rows)
    initialize(model, grouped, [0, 1], batch_size=300)
    return model, grouped.expand(2, -1, -1, -1)


def dims_of(model: HierarchicalVQVAE) -> list[Tensor]:
    return [stack.dims_MGL for stack in model.stacks]


@pytest.fixture
def forward() -> tuple[HierarchicalVQVAE, Reconstruction, Tensor, Tensor]:
    model, x = model_and_data()
    for parameter in model.parameters():  # off the silent start, so that every path carries gradient
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    [result] = model(x)
    return model, result, x.transpose(1, 2), x[0].var(dim=0, unbiased=False)


def receivers(model: HierarchicalVQVAE, term: Tensor) -> set[str]:
    model.zero_grad()
    term.sum().backward(retain_graph=True)
    names = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    return {"encoder" if "encoder" in name else "decoder" for name in names}


def test_who_receives_gradient(forward: tuple) -> None:
    model, result, _, variance = forward
    scale = losses.Scale.of([variance])
    assert receivers(model, losses.reconstruction([result], scale, "features")) == {"encoder", "decoder"}
    assert receivers(model, losses.informativeness([result], scale)) == {"encoder", "decoder"}
    assert receivers(model, losses.commitment([result], scale, "features")) == {"encoder"}
    assert receivers(model, losses.orthogonality([result], dims_of(model))) == {"encoder"}
    assert receivers(model, losses.topographic([result])) == {"encoder"}


def test_category_errors_are_fvu(forward: tuple) -> None:
    _, result, target, variance = forward
    errors = losses.category_errors([result.output_MGBF], [target], losses.Scale.of([variance]))
    for group, size in enumerate(SIZES):
        squares = (result.output_MGBF[0, group, :, :size] - target[0, group, :, :size]).square().sum()
        scale = (target[0, group, :, :size] - target[0, group, :, :size].mean(dim=0)).square().sum()
        assert errors[0, group].item() == pytest.approx((squares / scale).item(), rel=1e-4)


def test_predicting_the_mean_costs_one_however_many_groups() -> None:
    for groups in (1, 7):
        target = torch.randn(1, groups, 200, 4)
        target = target - target.mean(dim=2, keepdim=True)
        scale = losses.Scale.of([target[0].var(dim=1, unbiased=False)])
        errors = losses.category_errors([torch.zeros_like(target)], [target], scale)
        for by in ("features", "categories", "worst"):
            assert losses.balance(errors, scale, by).item() == pytest.approx(1.0, rel=1e-5)


def test_balance_weighs_by_variance_equally_or_towards_the_worst() -> None:
    errors = torch.tensor([[0.1, 0.9]])
    scale = losses.Scale.of([torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])])
    assert losses.balance(errors, scale, "features").item() == pytest.approx(0.3)
    assert losses.balance(errors, scale, "categories").item() == pytest.approx(0.5)
    assert losses.balance(errors, scale, "worst").item() == pytest.approx(0.9, abs=1e-3)


def test_commitment_is_the_mean_squared_distance_over_the_variance(forward: tuple) -> None:
    _, result, _, variance = forward
    value = losses.commitment([result], losses.Scale.of([variance]), "categories")
    by_hand = [
        ((level.latent_MGBZ[0, g] - level.codes_MGBZ[0, g]).square().sum(dim=-1).mean() / variance[g].sum()).item()
        for level in result.levels
        for g in range(len(SIZES))
    ]
    assert value[0].item() == pytest.approx(np.mean(by_hand), rel=1e-4)


def test_orthogonality_is_zero_for_independent_and_large_for_equal_latents(forward: tuple) -> None:
    model, result, _, _ = forward
    level = result.levels[0]
    same = losses.orthogonality([replace(result, levels=[level, level])], [dims_of(model)[0][..., [0, 0]]])
    assert (same > 0.2).all()
    assert (losses.orthogonality([result], dims_of(model)) < same).all()


def test_topographic_is_zero_when_codes_keep_all_distances(forward: tuple) -> None:
    _, result, target, _ = forward
    kept = replace(result.levels[0], straight_through_MGBZ=target)
    assert losses.topographic([replace(result, levels=[kept])]).abs().max().item() < 1e-3


@pytest.mark.parametrize("by", ["features", "categories", "worst"])
def test_a_category_that_does_not_vary_costs_nothing(by: str) -> None:
    model, x = model_and_data()
    x = x.clone()
    x[:, :, 1] = 2.0
    results, scale = model(x), losses.Scale.of([x[0].var(dim=0, unbiased=False)])
    cost_M = losses.reconstruction(results, scale, by)
    cost_M = cost_M + losses.commitment(results, scale, by)
    cost_M = cost_M + losses.informativeness(results, scale)
    cost_M.sum().backward()
    assert not losses.category_errors([results[0].output_MGBF], [results[0].target_MGBF], scale)[:, 1].any()
    assert torch.isfinite(cost_M).all()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient[:, 0].any() for gradient in gradients) and not any(g[:, 1].any() for g in gradients)


@pytest.mark.parametrize("decoder", ["category", "shared"])
def test_no_term_depends_on_how_groups_share_buckets(decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for cost, buckets in ((1000, 1), (0, 2)):
        monkeypatch.setattr(layout, "BUCKET_COST", cost)
        model, x = model_and_data(levels="parallel", decoder=decoder)
        assert len(model.layout.buckets) == buckets
        results, scale = model(x), losses.Scale.of(model.layout.split(x[0].var(dim=0, unbiased=False)))
        terms = [losses.reconstruction(results, scale, by) for by in ("features", "categories")]
        terms += [losses.informativeness(results, scale), losses.commitment(results, scale, "features")]
        terms += [losses.orthogonality(results, dims_of(model)), losses.topographic(results)]
        found.append(torch.stack(terms))
    torch.testing.assert_close(*found)


def plan_of(*dims: tuple[int, int, int]) -> CapacityPlan:
    return CapacityPlan(np.ones((2, 3)), np.array(dims), np.array([[[6], [4], [3]], [[5], [3], [2]]]))


@pytest.mark.parametrize("levels", ["residual", "parallel"])
@pytest.mark.parametrize("decoder", ["category", "shared"])
def test_no_term_of_a_member_depends_on_the_others_in_its_batch(levels: str, decoder: str) -> None:
    categories = [Category("a", tuple(range(5))), Category("b", tuple(range(5, 8)))]
    layout = GroupLayout(categories)
    plans = [plan_of((3, 2, 1), (2, 1, 1)), plan_of((9, 7, 5), (6, 4, 3))]
    config = ModelConfig(hidden=8, levels=levels, decoder=decoder)
    model = HierarchicalVQVAE(layout, plans, config, QuantizerConfig())
    grouped = layout.pack(torch.randn(300, 8, generator=torch.Generator().manual_seed(0)))
    initialize(model, grouped, [0, 1], batch_size=300)
    scale = losses.Scale.of(layout.split(grouped.var(dim=0, unbiased=False)))

    def terms(of: HierarchicalVQVAE) -> dict[str, Tensor]:
        results = of(grouped.expand(len(of.plans), -1, -1, -1))
        values = {
            f"{term} by {by}": getattr(losses, term)(results, scale, by)
            for term in ("reconstruction", "commitment")
            for by in ("features", "categories", "worst")
        }
        values |= {"informativeness": losses.informativeness(results, scale)}
        return values | {
            "orthogonality": losses.orthogonality(results, dims_of(of)),
            "topographic": losses.topographic(results),
        }

    together = terms(model)
    assert {name.split()[0] for name in together} == set(TERMS)
    for member in range(2):
        alone = terms(select_members(model, [member]))
        for name, value_M in together.items():
            assert value_M[member].item() == pytest.approx(alone[name].item(), rel=1e-4, abs=1e-6), name


def test_orthogonality_is_the_mean_squared_correlation(forward: tuple) -> None:
    model, result, _, _ = forward
    means = []
    for group, dims in enumerate(dims_of(model)[0][0].tolist()):
        latents = [
            level.latent_MGBZ[0, group, :, :width].detach().numpy()
            for level, width in zip(result.levels, dims, strict=True)
        ]
        for (one, width), (other, _) in itertools.combinations(zip(latents, dims, strict=True), 2):
            means.append(np.square(np.corrcoef(one.T, other.T)[:width, width:]).mean())
    value = losses.orthogonality([result], dims_of(model))[0].item()
    assert value == pytest.approx(np.mean(means), rel=1e-3)
