"""The family `summary`: behaviour over time and realizations. Groups return `{name: [B]}`.

Letters as in `Recording`: T steps, R realizations, B operators, C channels, K shells.
Unless a name says otherwise a feature is averaged over realizations and channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spinlock_dist.simulator import fields
from spinlock_dist.simulator.recording import Recording

Group = Callable[[Recording], dict[str, Tensor]]

BANDS = 4  # the smallest grid has four shells
SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
LAGS = (1, 2, 4)
PAIRS = ((0, 1), (1, 2), (0, 2))
PROBES = 16
"""Cells per channel whose time series are analysed."""
TINY = 1e-12
"""Added inside logarithms."""


# ---------------------------------------------------------------- what the fields look like


def amplitude(recording: Recording) -> dict[str, Tensor]:
    """Moments of the cell values: mean and standard deviation over time, and the final value."""
    columns: dict[str, Tensor] = {}
    for name in ("mean", "std", "skewness", "kurtosis", "min", "max", "energy"):
        series = _typical(recording.series[name])
        columns[f"{name}_time_mean"] = series.mean(0)
        columns[f"{name}_time_std"] = series.std(0)
        columns[f"{name}_final"] = series[-1]
    return columns


def quantiles(recording: Recording) -> dict[str, Tensor]:
    """Quantiles of the final and the midway cell values; spread, and weight of the tails against it."""
    columns: dict[str, Tensor] = {}
    for when, frame in (("final", recording.final), ("midway", recording.frames[len(recording.frames) // 2 - 1])):
        q05, q25, q50, q75, q95 = fields.quantiles(frame, SHARES)
        columns |= {
            f"q{100 * share:02.0f}_{when}": q for share, q in zip(SHARES, (q05, q25, q50, q75, q95), strict=True)
        }
        columns[f"interquartile_range_{when}"] = q75 - q25
        columns[f"tail_weight_{when}"] = (q95 - q05) / (q75 - q25)
    return _mean_of_final(columns)


def morphology(recording: Recording) -> dict[str, Tensor]:
    """Shape of the final cells above the mean, peaks, variation and entropy of the final field."""
    final = recording.final
    columns = fields.excursion_set(final)
    columns["local_maxima"] = fields.local_maxima(final)
    columns["total_variation"] = fields.total_variation(final)
    columns["histogram_entropy"] = fields.histogram_entropy(final)
    columns["concentration"] = final.square().mean(fields.SPACE).sqrt() / final.abs().mean(fields.SPACE)
    return _mean_of_final(columns)


def spectral(recording: Recording) -> dict[str, Tensor]:
    """Power by band (time mean, final share) and the spectrum's shape over time."""
    shells = _typical(recording.spectrum.shells, keep=1)
    columns = {}
    for band, power in enumerate(fields.band_power(shells, BANDS)):
        columns[f"power_band_{band}"] = power.mean(0)
        columns[f"power_share_band_{band}"] = power[-1] / shells[-1].sum(-1)
        columns[f"power_variation_band_{band}"] = power.std(0) / power.mean(0)
    for name in ("centroid", "width", "entropy", "slope"):
        series = _typical(recording.series[f"spectral_{name}"])
        columns[f"{name}_time_mean"] = series.mean(0)
        columns[f"{name}_drift"] = series[-1] - series[0]
    columns["peak_wavenumber"] = 1.0 + shells[-1].argmax(-1)
    anisotropy = _typical(recording.series["anisotropy"])
    columns["anisotropy_time_mean"], columns["anisotropy_final"] = anisotropy.mean(0), anisotropy[-1]
    return columns


def autocorrelation_space(recording: Recording) -> dict[str, Tensor]:
    """Correlation of the final field with itself shifted along either axis, and how fast it falls."""
    columns = {}
    for lag in LAGS:
        columns[f"across_lag_{lag}"] = fields.correlation(recording.final, recording.final.roll(lag, -1))
        columns[f"along_lag_{lag}"] = fields.correlation(recording.final, recording.final.roll(lag, -2))
    series = recording.series
    columns["correlation_length"] = (series["std"][-1] ** 2 / series["gradient_energy"][-1]).sqrt()
    return _mean_of_final(columns)


# ---------------------------------------------------------------- how they change


def autocorrelation_time(recording: Recording) -> dict[str, Tensor]:
    """Correlation over space between frames some steps apart, late in the run, and with the start."""
    last = len(recording.frames) - 1
    lags = {f"lag_{lag}": lag for lag in LAGS} | {"lag_quarter": (last + 1) // 4, "lag_half": (last + 1) // 2}
    columns = {name: fields.correlation(recording.final, recording.frames[last - lag]) for name, lag in lags.items()}
    columns["memory_of_start"] = fields.correlation(recording.final, recording.initial)
    for name in ("energy", "mean"):
        series = _typical(recording.series[name])
        columns |= {f"{name}_lag_{lag}": _series_correlation(series, lag) for lag in LAGS}
    return {name: value if value.ndim == 1 else value.mean((0, 2)) for name, value in columns.items()}


def growth(recording: Recording) -> dict[str, Tensor]:
    """Growth rates per step of log energy, variance and gradient energy, early and late, and their bend."""
    columns = {}
    sources = {"energy": recording.series["energy"], "variance": recording.series["std"] ** 2}
    for name, values in (sources | {"gradient": recording.series["gradient_energy"]}).items():
        log = torch.log(_typical(values) + TINY)
        early, late = log.tensor_split(2)
        columns[f"{name}_rate"] = _slope(log)
        columns[f"{name}_rate_early"], columns[f"{name}_rate_late"] = _slope(early), _slope(late)
        columns[f"{name}_bend"] = _slope(late) - _slope(early)
        columns[f"{name}_rising_share"] = (log.diff(dim=0) > 0).float().mean(0)
    columns["energy_gain"] = sources["energy"][-1].mean((0, 2)) / recording.initial.square().mean((1, 2, 3))
    return columns


def change(recording: Recording) -> dict[str, Tensor]:
    """Root mean square change per step: typical, extreme and final; path length against distance covered."""
    series = _typical(recording.series["change"])
    early, middle, late = series.tensor_split(3)
    displacement = (recording.final - recording.initial).square().mean((0, 2, 3, 4)).sqrt()
    return {
        "early": early.mean(0),
        "middle": middle.mean(0),
        "late": late.mean(0),
        "max": series.amax(0),
        "variation": series.std(0) / series.mean(0),
        "settling": late.mean(0) / early.mean(0),
        "trend": _slope(series),
        "displacement": displacement,
        "straightness": displacement / series.sum(0),
        "relative_final": series[-1] / _typical(recording.series["std"])[-1],
    }


def oscillation(recording: Recording) -> dict[str, Tensor]:
    """Temporal spectra of probe cells (band shares, centroid, entropy) and ripple of the energy about its trend."""
    probes = _probes(recording)
    power = torch.fft.rfft(probes - probes.mean(0), dim=0).abs().square()[1:].mean((1, 3, 4)).T
    columns = {f"share_band_{i}": band / power.sum(-1) for i, band in enumerate(fields.band_power(power, 4))}
    shape = fields.spectral_shape(power)
    columns |= {"centroid": shape["centroid"], "entropy": shape["entropy"], "slope": shape["slope"]}
    columns["dominant"] = 1.0 + power.argmax(-1)
    columns["peak_share"] = power.amax(-1) / power.sum(-1)
    changes = probes.diff(dim=0)
    columns["turning_share"] = (changes[1:] * changes[:-1] < 0).float().mean((0, 1, 3, 4))
    columns["probe_std"] = _spread(probes).mean((0, 2, 3))
    columns["probe_kurtosis"] = _kurtosis(changes).mean((0, 2, 3))
    log_energy = torch.log(_typical(recording.series["energy"]) + TINY)
    columns["energy_ripple"] = _detrended(log_energy).std(0)
    return columns


def drift(recording: Recording) -> dict[str, Tensor]:
    """Movement of the field's mean, spectrum bands, shape and first Fourier mode between the start and the end."""
    mean = recording.series["mean"]
    shells = _typical(recording.spectrum.shells, keep=1)
    low, high = (fields.band_power(shells, 2)[i] for i in (0, 1))
    columns = {
        "mean_rate": _slope(_typical(mean)),
        "mean_path": mean.diff(dim=0).abs().sum(0).mean((0, 2)),
        "low_band_rate": _slope(torch.log(low + TINY)),
        "high_band_rate": _slope(torch.log(high + TINY)),
        "kurtosis_rate": _slope(_typical(recording.series["kurtosis"])),
        "skewness_rate": _slope(_typical(recording.series["skewness"])),
        "entropy_rate": _slope(_typical(recording.series["spectral_entropy"])),
    }
    for axis, name in ((-1, "across"), (-2, "along")):
        columns[f"phase_speed_{name}"] = _phase_speed(recording.frames, axis)
    return columns


# ---------------------------------------------------------------- how runs, channels and starts differ


def sensitivity(recording: Recording) -> dict[str, Tensor]:
    """Growth of a small displacement of the start (a finite-time Lyapunov exponent and its course)."""
    divergence = recording.divergence
    log = torch.log(divergence + TINY)
    return {
        "lyapunov": log[-1] / len(log),
        "lyapunov_early": log[: len(log) // 2].mean(0),
        "lyapunov_late": _slope(log[len(log) // 2 :]),
        "gain_first_step": divergence[0],
        "gain_last": divergence[-1],
        "gain_max": divergence.amax(0),
        "gain_min": divergence.amin(0),
        "ripple": _detrended(log).std(0),
    }


def cross_channel(recording: Recording) -> dict[str, Tensor]:
    """Correlations between channels over time and at the end, lagged asymmetry, eigenvalues of their covariance."""
    covariance = recording.covariance.mean(1)
    deviation = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    correlation = covariance / (deviation[..., None] * deviation[..., None, :])
    columns = {}
    for one, other in PAIRS:
        series = correlation[..., one, other]
        columns[f"correlation_{one}_{other}_time_mean"] = series.mean(0)
        columns[f"correlation_{one}_{other}_final"] = series[-1]
        columns[f"correlation_{one}_{other}_time_std"] = series.std(0)
        columns[f"lead_{one}_{other}"] = _lead(recording, one, other)
    values = torch.linalg.eigvalsh(covariance[-1].double()).float().clamp(min=0)  # ascending
    columns |= {f"eigenvalue_{rank}": values[:, -1 - rank] for rank in range(values.shape[-1])}
    columns["condition_number"] = values[:, -1] / (values[:, 0] + 1e-9 * values[:, -1])
    columns["participation"] = values.sum(-1) ** 2 / values.square().sum(-1)
    return columns


def channel(recording: Recording) -> dict[str, Tensor]:
    """Time means of each channel by itself."""
    return {
        f"{name}_{index}": recording.series[name][..., index].mean((0, 1))
        for name in ("mean", "std", "gradient_energy", "change", "spectral_centroid")
        for index in range(recording.frames.shape[3])
    }


def realization(recording: Recording) -> dict[str, Tensor]:
    """Spread of the final statistics over realizations, absolute and relative, and the distance between runs."""
    columns = {}
    for name in ("mean", "std", "energy", "gradient_energy", "spectral_centroid", "change"):
        final = recording.series[name][-1].mean(-1)  # [R, B]
        columns[f"{name}_std"] = _spread(final)
        columns[f"{name}_cv"] = _spread(final) / final.mean(0).abs()
    steps = len(recording.frames)
    for name, step in (("early", steps // 8), ("middle", steps // 2), ("late", steps)):
        frame = recording.frames[step - 1]
        columns[f"distance_{name}"] = _spread(frame).square().mean((1, 2, 3)).sqrt()
    columns["distance_relative"] = columns["distance_late"] / _typical(recording.series["std"])[-1]
    return columns


def quality(recording: Recording) -> dict[str, Tensor]:
    """Share of frames without a non-finite cell, and length of the record."""
    finite = recording.series["energy"].isfinite().float().mean((0, 1, 3))
    return {"finite_share": finite, "steps": torch.full_like(finite, len(recording.frames))}


SUMMARY_GROUPS: dict[str, Group] = {
    group.__name__: group
    for group in (
        amplitude,
        quantiles,
        morphology,
        spectral,
        autocorrelation_space,
        autocorrelation_time,
        growth,
        change,
        oscillation,
        drift,
        sensitivity,
        cross_channel,
        channel,
        realization,
        quality,
    )
}


# ---------------------------------------------------------------- shared arithmetic; time is the first axis


def _typical(series: Tensor, keep: int = 0) -> Tensor:
    """Average `[T, R, B, C, ...]` over realizations and channels; `keep` trailing axes follow the channels."""
    return series.mean((1, series.ndim - 1 - keep))


def _spread(x: Tensor) -> Tensor:
    """The standard deviation over the first axis (faster than `Tensor.std` over a long stride)."""
    return (x - x.mean(0)).square().mean(0).sqrt()


def _mean_of_final(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.mean((0, 2)) for name, value in columns.items()}  # [R, B, C] -> [B]


def _slope(series: Tensor) -> Tensor:
    """The least-squares slope per step of `[T, B]`."""
    time = torch.arange(len(series), dtype=series.dtype)
    time = time - time.mean()
    return (time[:, None] * series).sum(0) / time.square().sum()


def _detrended(series: Tensor) -> Tensor:
    time = torch.arange(len(series), dtype=series.dtype)
    return series - series.mean(0) - (time - time.mean())[:, None] * _slope(series)


def _series_correlation(series: Tensor, lag: int) -> Tensor:
    """The autocorrelation of `[T, B]` at `lag`, biased estimator."""
    centred = series - series.mean(0)
    return (centred[lag:] * centred[:-lag]).sum(0) / centred.square().sum(0)


def _kurtosis(series: Tensor) -> Tensor:
    centred = series - series.mean(0)
    return centred.pow(4).mean(0) / centred.square().mean(0).square() - 3


def _probes(recording: Recording) -> Tensor:
    """The time series `[T, R, B, C, PROBES]` of cells spread evenly over the grid."""
    cells = recording.frames.flatten(-2)
    stride = cells.shape[-1] // PROBES
    # An offset that grows by one per probe keeps them off a single column of the grid.
    places = torch.arange(PROBES) * stride + torch.arange(PROBES) % stride
    return cells[..., places]


def _lead(recording: Recording, one: int, other: int) -> Tensor:
    """How much better `one` late matches `other` T / 8 steps earlier than the reverse, by correlation."""
    lag = len(recording.frames) // 8
    now, past = recording.final, recording.frames[-1 - lag]
    forward = fields.correlation(now[:, :, one], past[:, :, other])
    backward = fields.correlation(now[:, :, other], past[:, :, one])
    return (forward - backward).mean(0)


def _phase_speed(frames: Tensor, axis: int) -> Tensor:
    """The mean drift of the first Fourier mode along `axis` in cells per step, positive if forward."""
    grid = frames.shape[-1]
    other = -2 if axis == -1 else -1
    profile = frames.mean(other)  # [T, R, B, C, grid]
    angle = 2 * torch.pi * torch.arange(grid) / grid
    mode = torch.complex(profile @ angle.cos(), -(profile @ angle.sin()))
    turn = torch.angle(mode[1:] * mode[:-1].conj())
    return -turn.mean((0, 1, 3)) * grid / (2 * torch.pi)
