"""Where training starts: on principal axes, however many rows there are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spinlock_dist.categories.category import Category
from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.config import ModelConfig, QuantizerConfig
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE
from spinlock_dist.model.initialization import initialize
from spinlock_dist.model.layout import GroupLayout

FEATURES, DIMS = 12, 16


@pytest.mark.parametrize("rows", [5, 11, 12, 40])
def test_the_coarsest_level_starts_on_the_principal_axes(rows: int) -> None:
    categories = [Category("a", tuple(range(FEATURES))), Category("b", (FEATURES, FEATURES + 1))]
    layout = GroupLayout(categories)
    plan = CapacityPlan(np.ones((2, 3)), np.full((2, 3), DIMS), np.full((2, 3, 1), 2))
    model = HierarchicalVQVAE(layout, [plan], ModelConfig(hidden=4), QuantizerConfig())
    x_NF = torch.randn(rows, FEATURES + 2, generator=torch.Generator().manual_seed(rows))
    x_NGF = layout.pack(x_NF)
    initialize(model, x_NGF, [0], batch_size=rows)
    axes_FZ = model.level_of(0, 0)[0].encoder.linear_MGIO.detach()[0, 0]
    found = min(rows, FEATURES)
    torch.testing.assert_close(axes_FZ[:, :found].mT @ axes_FZ[:, :found], torch.eye(found), rtol=0, atol=1e-4)
    assert not axes_FZ[:, found:].any()
    latent_NZ = x_NGF[:, 0] @ axes_FZ
    torch.testing.assert_close(latent_NZ @ axes_FZ.mT, x_NGF[:, 0], rtol=0, atol=1e-4)
    energy_Z = latent_NZ.square().sum(dim=0)
    expected_Z = torch.linalg.svdvals(x_NGF[:, 0]).square()
    torch.testing.assert_close(energy_Z[:found], expected_Z[:found], rtol=1e-3, atol=1e-3)
    assert not model.level_of(0, 0)[0].encoder.linear_MGIO[0, 1, 2:].any(), "padding"
