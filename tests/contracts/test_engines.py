"""Compiled training against torch's: the same gradients and, trained, the same figures, for every option both have."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spinlock_dist.compression.capacity import CapacityPlan, plan_capacity
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError
from spinlock_dist.model.beam import search_batched, search_by_rows
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE
from spinlock_dist.model.initialization import initialize
from spinlock_dist.model.kmeans import batched_kmeans, kmeans
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import run_trial
from spinlock_dist.training.engine import choose_engine
from spinlock_dist.training.evaluation import EvaluationData
from spinlock_dist.training.member import Member
from spinlock_dist.training.trainer import Trainer
from tests.synthetic import write_table

pytest.importorskip("numba")

CPU = torch.device("cpu")
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "several codebooks a level": {"compression.max_codes": 8, "compression.strategy": "balanced"},
    "levels switched off": {"compression.min_rows_per_code": 60},
    "parallel levels": {"model.levels": "parallel"},
    "random start": {"model.initialization": "random"},
    "categories weigh the same": {"loss.reconstruction_balance": "categories"},
    "no commitment": {"loss.commitment": 0.0},
    "strong informativeness": {"loss.informativeness": 2.0},
    "no informativeness": {"loss.informativeness": 0.0},
    "expiry at every step": {"quantizer.expiry_every": 1, "quantizer.expiry_share": 0.5},
    "no expiry": {"quantizer.expiry_share": 0.0},
    "slow codebooks": {"quantizer.ema_decay": 0.99},
    "one batch": {"training.batch_size": 1000},
    "small batches": {"training.batch_size": 7, "training.learning_rate": 1e-4},
    "linear rate": {"training.schedule": "linear"},
    "decay at the end": {"training.schedule": "wsd", "training.decay_share": 0.3},
    "narrow": {"model.hidden": 3},
    "latent capacity": {"compression.capacity": "latent", "compression.strategy": "balanced"},
    "beam": {"quantizer.beam": 4},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrialConfig:
    dataset = write_table(tmp_path_factory.mktemp("data") / "t.npz", sizes=(8, 4, 40, 5))
    return TrialConfig(
        prepare={"dataset": str(dataset), "categories": {"count": 4}},
        # At high rates rounding errors grow within a few epochs, and no longer tell of the arithmetic.
        training={"epochs": 4, "batch_size": 64, "learning_rate": 1e-3, "schedule": "constant", "device": "cpu"},
        model={"hidden": 8},
    )


@pytest.fixture(scope="module")
def data(config: TrialConfig) -> PreparedData:
    return prepare(config.prepare)


def trainer_of(config: TrialConfig, data: PreparedData, engine: str) -> Trainer:
    """A trainer at its start."""
    config = config.with_overrides({"training.engine": engine})
    layout = GroupLayout(data.categories)
    assert len(layout.buckets) > 1
    plan = plan_capacity(config.compression, data.characteristics, len(data.split.train), config.quantizer)
    model = HierarchicalVQVAE(layout, [plan], config.model, config.quantizer)
    seen = EvaluationData(
        values_ND=data.values,
        grouped_NGF=layout.pack(torch.from_numpy(np.array(data.values))),
        split=data.split,
        categories=data.categories,
        characteristics=data.characteristics,
        pipeline=data.pipeline,
    )
    trainer = Trainer(model, [Member(config, plan)], seen)
    initialize(model, trainer.train_NGF, [0], trainer.batch_size, trainer.engine == "compiled")
    return trainer


@pytest.mark.parametrize("overrides", OPTIONS.values(), ids=OPTIONS.keys())
def test_gradients_and_codebooks_of_a_step_agree(config, data, overrides) -> None:
    config = config.with_overrides(overrides)
    ours, torchs = (trainer_of(config, data, engine) for engine in ("compiled", "torch"))
    order = torch.randperm(len(torchs.train_NGF), generator=torch.Generator().manual_seed(1))
    assert ours.compiled is not None
    assert torchs.compiled is None
    means_MT, failed_MT = ours.compiled.epoch(order[None].numpy(), np.full((1, 1), 1e-3))
    terms = torchs.step(order[None, : torchs.batch_size])
    assert not failed_MT.any()
    for term, value in zip(ours.compiled.terms, means_MT[0], strict=True):
        if term in terms:
            assert value == pytest.approx(terms[term].item(), rel=1e-5)
    # Adam's first moment after one step is a tenth of the gradient.
    gradients = [trainer.optimizer.first * 10 for trainer in (ours, torchs)]
    assert gradients[1].abs().max() > 1e-3
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5 * float(gradients[1].abs().max()))
    buffers = [dict(trainer.model.named_buffers()) for trainer in (ours, torchs)]
    for name, buffer in buffers[0].items():
        torch.testing.assert_close(buffer, buffers[1][name], rtol=1e-4, atol=1e-4, msg=lambda text, at=name: at + text)


@pytest.mark.parametrize("overrides", OPTIONS.values(), ids=OPTIONS.keys())
def test_gradients_of_a_refining_step_agree_and_reach_decoders_alone(config, data, overrides) -> None:
    config = config.with_overrides(overrides)
    ours, torchs = (trainer_of(config, data, engine) for engine in ("compiled", "torch"))
    for trainer in (ours, torchs):
        trainer.tokens = trainer.model.tokens(trainer.train_NGF[None])
    order = torch.randperm(len(torchs.train_NGF), generator=torch.Generator().manual_seed(1))
    starts = [copy.deepcopy(trainer.model.state_dict()) for trainer in (ours, torchs)]
    assert ours.compiled is not None
    means_MT, failed_MT = ours.compiled.epoch(order[None].numpy(), np.full((1, 1), 1e-3), torchs.tokens)
    terms = torchs.step(order[None, : torchs.batch_size])
    assert not failed_MT.any()
    means = dict(zip(ours.compiled.terms, means_MT[0], strict=True))
    assert means["reconstruction"] == pytest.approx(terms["reconstruction"].item(), rel=1e-5)
    gradients = [trainer.optimizer.first * 10 for trainer in (ours, torchs)]
    assert gradients[1].abs().max() > 1e-3
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5 * float(gradients[1].abs().max()))
    for trainer, start in zip((ours, torchs), starts, strict=True):
        moved = {name for name, tensor in trainer.model.state_dict().items() if not torch.equal(tensor, start[name])}
        assert moved and all(".decoder." in name for name in moved)


@pytest.mark.parametrize("overrides", OPTIONS.values(), ids=OPTIONS.keys())
def test_trained_figures_agree(config, data, overrides) -> None:
    found = {
        engine: run_trial(config.with_overrides({**overrides, "training.engine": engine}), data)
        for engine in ("compiled", "torch")
    }
    assert found["compiled"].engine == "compiled"
    ours, torchs = (found[engine].validation for engine in ("compiled", "torch"))
    assert ours.fvu_mean == pytest.approx(torchs.fvu_mean, rel=1e-3)
    assert ours.fvu_worst == pytest.approx(torchs.fvu_worst, rel=1e-3)
    one_code = 1 / sum(book["codes"] for book in ours.codebooks)  # may be a row's that has two codes equally near
    assert ours.utilization == pytest.approx(torchs.utilization, abs=1.5 * one_code)


UNSUPPORTED: dict[str, dict[str, Any]] = {
    "quantizer.kind fsq": {"quantizer.kind": "fsq"},
    "model.decoder shared": {"model.decoder": "shared", "model.levels": "parallel"},
    "loss.orthogonality": {"loss.orthogonality": 0.1},
    "loss.topographic": {"loss.topographic": 0.1},
    "loss.reconstruction_balance worst": {"loss.reconstruction_balance": "worst"},
}


@pytest.mark.parametrize(("named", "overrides"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_what_the_compiled_engine_lacks_is_trained_by_torch(config, named, overrides) -> None:
    config = config.with_overrides(overrides)
    assert choose_engine([config], CPU) == "torch"
    with pytest.raises(ConfigError, match=named):
        choose_engine([config.with_overrides({"training.engine": "compiled"})], CPU)


def test_the_choice_depends_on_configs_and_device_alone(config) -> None:
    lacking = config.with_overrides({"loss.topographic": 0.1})
    assert choose_engine([config], CPU) == "compiled"
    assert choose_engine([config], torch.device("cuda")) == "torch"
    assert choose_engine([config, lacking], CPU) == "torch"
    assert choose_engine([config.with_overrides({"training.engine": "torch"})], CPU) == "torch"


def test_threads_change_no_bit(config, data) -> None:
    trainers = [trainer_of(config, data, "compiled") for _ in range(2)]
    threads = torch.get_num_threads()
    try:
        for count, trainer in zip((1, 3), trainers, strict=True):
            torch.set_num_threads(count)
            trainer.epoch()
    finally:
        torch.set_num_threads(threads)
    first, second = (trainer.model.state_dict() for trainer in trainers)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize(("rows", "clusters"), [(300, 12), (40, 40), (5, 8), (2000, 100)])
def test_kmeans_agrees(rows: int, clusters: int) -> None:
    x_NZ = torch.randn(rows, 7, generator=torch.Generator().manual_seed(3))
    draws_K = torch.rand(clusters, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    used_1K = torch.ones(1, clusters, dtype=torch.bool)
    [expected_KZ], _, [expected_N] = batched_kmeans(x_NZ[None], draws_K[None], used_1K, 20)
    centres_KZ, nearest_N = kmeans(x_NZ, clusters, 20, torch.Generator().manual_seed(4))
    assert nearest_N.shape == (rows,) and nearest_N.min() >= 0 and nearest_N.max() < clusters
    distances = [torch.cdist(x_NZ, each).min(dim=1).values.square().sum() for each in (centres_KZ, expected_KZ)]
    torch.testing.assert_close(*distances, rtol=1e-3, atol=1e-4)
    if rows > clusters:
        torch.testing.assert_close(centres_KZ, expected_KZ, rtol=1e-4, atol=1e-4)
        assert torch.equal(nearest_N, expected_N)


@pytest.mark.parametrize(
    "overrides", [OPTIONS[name] for name in ("random start", "several codebooks a level", "parallel levels", "narrow")]
)
@pytest.mark.parametrize("width", [1, 4])
def test_beam_search_agrees_and_never_loses_to_a_narrower_one(config, data, overrides, width: int) -> None:
    outcome = run_trial(config.with_overrides(overrides), data)
    model = outcome.tokenizer.model
    x_MBGF = model.layout.pack(torch.from_numpy(np.array(data.values)))[None]

    def error(stack, tokens, target):
        codes = [level.quantizer.lookup(each) for level, each in zip(stack.levels, tokens, strict=True)]
        return (stack.decode(codes)[-1] - target).square().sum(dim=(1, 3))[0]

    for stack, result in zip(model.stacks, model(x_MBGF), strict=True):
        target = result.target_MGBF
        by_rows, batched = (each(stack.levels, target, width) for each in (search_by_rows, search_batched))
        ours, theirs = (error(stack, tokens, target) for tokens in (by_rows, batched))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
        if width > 1:
            greedy = error(stack, search_by_rows(stack.levels, target, 1), target)
            assert ours.sum() < greedy.sum()
            assert ours.sum() < error(stack, [level.tokens_MGBS for level in result.levels], target).sum()


def test_exhaustive_search_finds_nothing_better_than_a_wide_beam(tmp_path: Path) -> None:
    dataset = write_table(tmp_path / "t.npz", rows=60, sizes=(5,))
    config = TrialConfig(prepare={"dataset": str(dataset), "categories": {"count": 1}}, model={"hidden": 4})
    data = prepare(config.prepare)
    model = HierarchicalVQVAE(
        GroupLayout(data.categories),
        [CapacityPlan(np.ones((1, 3)), np.full((1, 3), 4), np.full((1, 3, 1), 3))],
        config.model,
        config.quantizer,
    )
    x_MBGF = model.layout.pack(torch.from_numpy(np.array(data.values)))[None]
    initialize(model, x_MBGF[0], [0], 60)
    [stack], [target] = model.stacks, [x_MBGF.transpose(1, 2)]
    found = search_by_rows(stack.levels, target, 27)
    every = torch.cartesian_prod(*[torch.arange(3)] * 3)
    codes = [level.quantizer.lookup(every[None, None, :, at, None]) for at, level in enumerate(stack.levels)]
    outputs = stack.decode(codes)[-1][0, 0]
    best = torch.cdist(target[0, 0], outputs).min(dim=1).values
    chosen = [level.quantizer.lookup(tokens) for level, tokens in zip(stack.levels, found, strict=True)]
    reached = (stack.decode(chosen)[-1][0, 0] - target[0, 0]).square().sum(dim=1).sqrt()
    torch.testing.assert_close(reached, best, rtol=1e-4, atol=1e-5)
