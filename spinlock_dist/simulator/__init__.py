"""The built-in operator simulator: real multi-family data without a download."""

from spinlock_dist.simulator.dataset import cached_dataset, generate_dataset

__all__ = ["cached_dataset", "generate_dataset"]
