"""The batched model against the same one written the plain way: losses, gradients and codebooks agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.reference import PlainVQVAE, from_batched
from spinlock_dist.compression.capacity import plan_capacity
from spinlock_dist.config import TrialConfig
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE
from spinlock_dist.model.initialization import initialize
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.training.evaluation import EvaluationData
from spinlock_dist.training.member import Member
from spinlock_dist.training.trainer import Trainer
from tests.synthetic import write_table

SETTINGS = {"quantizer.expiry_every": 3, "compression.strategy": "balanced", "compression.max_codebooks": 1}


def both(data: PreparedData, config: TrialConfig) -> tuple[Trainer, PlainVQVAE, torch.Tensor]:
    """Return our trainer at its start, the plain model with its weights, and the training rows `[N, D]`."""
    layout = GroupLayout(data.categories)
    assert len(layout.buckets) == 2
    plan = plan_capacity(config.compression, data.characteristics, len(data.split.train), config.quantizer)
    model = HierarchicalVQVAE(layout, [plan], config.model, config.quantizer)
    grouped = layout.pack(torch.from_numpy(np.array(data.values)))
    seen = EvaluationData(
        values_ND=data.values,
        grouped_NGF=grouped,
        split=data.split,
        categories=data.categories,
        characteristics=data.characteristics,
        pipeline=data.pipeline,
    )
    trainer = Trainer(model, [Member(config, plan)], seen)
    initialize(model, trainer.train_NGF, [0], trainer.batch_size)
    rows = torch.from_numpy(np.array(data.values))[torch.as_tensor(data.split.train)]
    return trainer, from_batched(model, rows.var(dim=0, unbiased=False), config), rows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    path = write_table(tmp_path_factory.mktemp("data") / "t.npz", sizes=(8, 4, 40, 5))
    return prepare(TrialConfig(prepare={"dataset": str(path), "categories": {"count": 4}}).prepare)


def test_a_commitment_of_3_undoes_what_straight_through_does_to_the_finest_latents(data: PreparedData) -> None:
    trainer, _, _ = both(data, TrialConfig().with_overrides(SETTINGS))
    results = trainer.model(trainer.train_NGF[None, :256])
    finest = [result.levels[-1].latent_MGBZ for result in results]
    terms = trainer._terms(results)
    pushed, pulled = (
        torch.autograd.grad(terms[term].sum(), finest, retain_graph=True) for term in ("reconstruction", "commitment")
    )
    for push, pull in zip(pushed, pulled, strict=True):
        torch.testing.assert_close(push, -3 * pull)


@pytest.mark.parametrize("initialization", ["data", "random"])
def test_losses_and_gradients_agree(data: PreparedData, initialization: str) -> None:
    config = TrialConfig().with_overrides({**SETTINGS, "model.initialization": initialization})
    trainer, plain, rows = both(data, config)
    batch = rows[:64]
    trainer.optimizer.zero_grad()
    ours = trainer._terms(trainer.model(trainer.train_NGF[None, :64]))
    theirs = plain.losses(batch)
    total = sum(trainer.weights[term] * value for term, value in ours.items())
    for term, value in {**ours, "total": total}.items():
        torch.testing.assert_close(value[0], theirs[term], rtol=1e-5, atol=1e-7)
    total.sum().backward()
    theirs["total"].backward()
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.copy_(parameter.grad)
    gradients = from_batched(trainer.model, torch.ones(rows.shape[1]), config)
    for (name, expected), found in zip(gradients.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(
            found.grad, expected, rtol=1e-5, atol=1e-6, msg=lambda text, at=name: f"{at}: {text}"
        )


def test_trained_step_by_step_they_stay_together(data: PreparedData) -> None:
    # Random, since Adam makes whole steps of the rounding errors where a start on the data leaves no gradient.
    config = TrialConfig().with_overrides({**SETTINGS, "model.initialization": "random"})
    trainer, plain, rows = both(data, config)
    optimizer = torch.optim.Adam(plain.parameters(), lr=config.training.learning_rate)
    for step in range(7):  # codes are revived in the third and the sixth
        cells = slice(16 * step, 16 * step + 48)
        ours = trainer.step(torch.arange(len(trainer.train_NGF))[None, cells])
        optimizer.zero_grad()
        theirs = plain.losses(rows[cells])
        theirs["total"].backward()
        optimizer.step()
        plain.update_codebooks()
        torch.testing.assert_close(ours["total"][0], theirs["total"].detach(), rtol=1e-4, atol=1e-6)
    again = from_batched(trainer.model, torch.ones(rows.shape[1]), config)
    for found, expected in zip(plain.buffers(), again.buffers(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_what_the_plain_one_has_not_is_refused(data: PreparedData) -> None:
    with pytest.raises(ValueError, match="only residual levels"):
        both(data, TrialConfig().with_overrides({"model.levels": "parallel"}))
