"""Early stopping on the worst category, never on the imbalance: a model that has learned nothing has ratio 1."""

from __future__ import annotations


class EarlyStopping:
    """Counts evaluations without a lower worst-category FVU. `patience` None never stops."""

    def __init__(self, patience: int | None):
        self.patience = patience
        self.best = float("inf")
        self.since_best = 0

    def update(self, fvu_worst: float) -> bool:
        """Take the next evaluation; return whether it is the best so far."""
        improved = fvu_worst < self.best
        self.best = min(self.best, fvu_worst)
        self.since_best = 0 if improved else self.since_best + 1
        return improved

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.since_best >= self.patience
