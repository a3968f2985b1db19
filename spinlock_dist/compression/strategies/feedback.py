"""feedback: bits by measured error. Pilots show which categories come out badly, and bits move there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spinlock_dist.compression.strategies.strategy import Strategy

FEEDBACK = Strategy(measured=True)
"""Starts from `compression.feedback.start`; `spinlock_dist.training.pilots` runs the pilots."""


def reallocate(bits: np.ndarray, fvu: np.ndarray, spectra: Sequence[Sequence[float]], step: float) -> np.ndarray:
    """The bits `[C]` that would bring measured `fvu` `[C]` closer together.

    R_c + step * n_c / 2 * log2(f_c / F), with log2 F the mean of log2 f_c weighted by n_c, so that the total stays:
    n_c components lie above the distortion f_c, and half a bit on each halves it (high-rate theory, Gersho & Gray
    1992). A category whose error is zero counts as 1e-6; none falls below a tenth of a bit.
    """
    errors = np.maximum(fvu, 1e-6)
    active = np.array([_active(np.asarray(spectrum), error) for spectrum, error in zip(spectra, errors, strict=True)])
    common = np.average(np.log2(errors), weights=active)
    return np.maximum(0.1, bits + step * active / 2 * (np.log2(errors) - common))


def _active(spectrum: np.ndarray, fvu: float) -> int:
    """How many components lie above a distortion of `fvu` times the mean eigenvalue, at least 1."""
    return max(1, int((spectrum > fvu * spectrum.mean()).sum()))
