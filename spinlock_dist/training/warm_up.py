"""Compile the loops for the processor before anything is timed or trained, and say so: once per machine and version."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from spinlock_dist import compiled
from spinlock_dist.baselines.joint_least_squares import JointLeastSquares
from spinlock_dist.categories.category import Category
from spinlock_dist.compiled.cache import is_complete, mark_complete
from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.config import TrialConfig
from spinlock_dist.device import resolve_device
from spinlock_dist.model.beam import search_by_rows
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE
from spinlock_dist.model.initialization import initialize
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.training.compiled_epochs import CompiledEpochs
from spinlock_dist.training.engine import choose_engine
from spinlock_dist.training.losses import Scale
from spinlock_dist.training.optimizer import MemberAdam

Say = Callable[[str], object]


def warm_up(config: TrialConfig, say: Say = lambda line: None) -> None:
    """Have every compiled function on disk, so that processes to come load them in a fraction of a second.

    Tells `say` in a line what will take half a minute, or why a training on a processor runs in torch. Does nothing for
    a config that does not train there.
    """
    device = resolve_device(config.training.device)
    if device.type != "cpu":
        return
    if (reason := compiled.missing()) is not None:
        say(f"{reason}: training runs in torch, which takes several times as long on a processor")
        return
    if choose_engine([config], device) != "compiled" or is_complete():
        return
    say("compiling the training loops for this processor: once, about half a minute")
    _use_every_function()
    mark_complete()


def _use_every_function() -> None:
    """Start, train and encode with two tiny categories, and fit a codec to one: every entry point is called with the
    types it always has."""
    config = TrialConfig().with_overrides({"model.hidden": 4, "training.batch_size": 8})
    layout = GroupLayout([Category("a", (0, 1, 2)), Category("b", (3, 4, 5, 6))])
    sizes = np.full((2, 3), 4)
    plan = CapacityPlan(ratios=np.ones((2, 3)), dims=sizes, codes=sizes[..., None])
    model = HierarchicalVQVAE(layout, [plan], config.model, config.quantizer)
    values_ND = np.random.default_rng(0).normal(size=(16, 7)).astype(np.float32)
    train_NGF = layout.pack(torch.from_numpy(values_ND))
    optimizer = MemberAdam(model.parameters(), torch.tensor([1e-3]))
    initialize(model, train_NGF, [0], 8, compiled=True)
    scale = Scale.of(layout.split(train_NGF.var(dim=0, unbiased=False)))
    epochs = CompiledEpochs(model, optimizer, train_NGF, scale, [config])
    epochs.epoch(np.arange(16)[None], np.full((1, 2), 1e-3))
    for stack, part_NGF in zip(model.stacks, layout.split(train_NGF), strict=True):
        search_by_rows(stack.levels, part_NGF.transpose(0, 1)[None], width=2)
    JointLeastSquares.fit(values_ND, sizes[0], torch.Generator(), beam=2)
