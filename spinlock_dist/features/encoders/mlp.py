"""mlp: a random MLP, Spinlock's `MLPEncoder`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from spinlock_dist.features.encoders.base import NetworkEncoder, numbered


class MLPEncoder(NetworkEncoder):
    """Random MLP over a `[N, D]` family: blocks of Linear, BatchNorm and ReLU."""

    encoder: Literal["mlp"] = "mlp"
    hidden: tuple[int, ...] = (512, 256)
    output: int = Field(128, ge=1)

    def names(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """`feature_0`, ..."""
        return numbered("feature", self.output)

    def network(self, inputs: int) -> Any:
        """Linear, BatchNorm, ReLU for each hidden layer, then a linear one."""
        from torch import nn

        layers: list[nn.Module] = []
        for width in self.hidden:
            layers += [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU()]
            inputs = width
        return nn.Sequential(*layers, nn.Linear(inputs, self.output))
