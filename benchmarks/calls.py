"""What a GPU would be asked to do: operator calls, kernels, and where the host waits. Counted without one.

torch can compute without numbers: tensors on its device `meta` know shape and type alone. Every call on them and every
copy from the host shows as it would on a GPU, and to read what they hold raises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spinlock_dist.categories.category import Category
from spinlock_dist.compression.capacity import CapacityPlan
from spinlock_dist.config import TrialConfig
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE
from spinlock_dist.model.initialization import initialize
from spinlock_dist.model.layout import GroupLayout

LOOKS = {"view", "_unsafe_view", "unsqueeze", "squeeze", "transpose", "t", "permute", "expand", "select", "slice"} | {
    "detach",
    "alias",
    "split",
    "split_with_sizes",
    "unbind",
    "as_strided",
}
"""Operators that compute nothing."""
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "bincount", "equal", "_linalg_check_errors"} | {
    "_linalg_eigh",
    "_linalg_svd",
}
"""Operators that read from the device what the host needs to go on: a number, a size, whether LAPACK converged."""
COPIES = {"_to_copy", "copy_", "index_put_"}
"""Operators that may copy from one device to another."""


class CallCounter(TorchDispatchMode):
    """Counts the operators that a device is asked for, those of the backward pass too.

    Attributes: `calls`, all of them; `kernels`, those that compute; `waits`, by operator, those after which the host
    waits for the device: what reads a value, and copies that have not been told otherwise.
    """

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.device = device
        self.calls = self.kernels = 0
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one and go on."""
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        devices = {tensor.device.type for tensor in tensors}
        if self.device in devices:
            name = func.overloadpacket.__name__
            self.calls += 1
            self.kernels += name not in LOOKS
            told = (kwargs or {}).get("non_blocking", False) or (name == "copy_" and args[2:] == (True,))
            if name in WAITS or (len(devices) > 1 and name in COPIES and not told):
                self.waits[name] += 1
        return result


def count_start(
    config: TrialConfig, categories: Sequence[Category], plans: Sequence[CapacityPlan], rows: int
) -> CallCounter:
    """Count what the start of a member for each plan asks of a GPU, on `rows` training rows."""
    layout = GroupLayout(categories, "meta")
    model = HierarchicalVQVAE(layout, plans, config.model, config.quantizer).to("meta")
    train_NGF = torch.empty(rows, *layout.mask.shape, device="meta")
    with CallCounter("meta") as counted:
        initialize(model, train_NGF, range(len(plans)), config.training.batch_size)
    return counted
