"""temporal_cnn: a random residual CNN over time, Spinlock's `resnet1d_3`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from spinlock_dist.features.encoders.base import NetworkEncoder, numbered


class TemporalCNNEncoder(NetworkEncoder):
    """Random residual 1-d CNN with three blocks over a `[N, T, D]` family."""

    encoder: Literal["temporal_cnn"] = "temporal_cnn"
    embedding: int = Field(128, ge=1)
    axes: ClassVar[int] = 3

    def names(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """`feature_0`, ..."""
        return numbered("feature", self.embedding)

    def network(self, inputs: int) -> Any:
        """Three residual blocks, mean over time, linear head."""
        from spinlock_dist.features.encoders.random_networks import ResidualCNN

        return ResidualCNN(inputs, self.embedding)
