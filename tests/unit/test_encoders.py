from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from spinlock_dist.config import FamilyEncoder, IdentityEncoder, MLPEncoder, TemporalCNNEncoder, TemporalStats
from spinlock_dist.errors import ConfigError
from spinlock_dist.features.encoders import FittedEncoder, fit_encoder
from spinlock_dist.features.temporal_stats import STATISTICS, encode

STATIC = ("a", "b", "c")
SMALL_MLP = MLPEncoder(hidden=(16, 8), output=5)
SMALL_CNN = TemporalCNNEncoder(embedding=6)
ALL: list[FamilyEncoder] = [IdentityEncoder(), TemporalStats(), SMALL_MLP, SMALL_CNN]


def raw(config: FamilyEncoder, rows: int = 40) -> np.ndarray:
    """Return raw values of three columns whose scales differ by twelve orders of magnitude, with gaps."""
    is_series = isinstance(config, TemporalStats | TemporalCNNEncoder)
    shape = (rows, 20, 3) if is_series else (rows, 3)
    values = np.random.default_rng(3).normal(size=shape) * [1e-6, 1.0, 1e6]
    values[1, ..., 0] = np.nan
    values[2, ..., 1] = np.inf
    return values.astype(np.float32)


def fit(config: FamilyEncoder, values: np.ndarray) -> FittedEncoder:
    return fit_encoder("family", config, STATIC, values)


@pytest.mark.parametrize("config", ALL, ids=lambda config: config.encoder)
class TestEveryEncoder:
    def test_one_named_column_each(self, config: FamilyEncoder) -> None:
        encoder = fit(config, raw(config))
        encoded = encoder.encode(raw(config))
        assert encoded.shape == (40, len(encoder.names))
        assert encoded.dtype == np.float64
        assert len(set(encoder.names)) == len(encoder.names)

    def test_rows_do_not_depend_on_their_company(self, config: FamilyEncoder) -> None:
        values = raw(config, rows=600)
        encoder = fit(config, values)
        together = encoder.encode(values)
        for rows in (slice(0, 1), slice(3, 300), slice(599, 600)):
            np.testing.assert_allclose(encoder.encode(values[rows]), together[rows], rtol=1e-9, atol=1e-12)

    def test_state_survives_json_and_arrays(self, config: FamilyEncoder) -> None:
        encoder = fit(config, raw(config))
        copy = FittedEncoder.from_meta(json.loads(json.dumps(encoder.meta())), encoder.arrays)
        assert copy.names == encoder.names
        np.testing.assert_array_equal(copy.encode(raw(config)), encoder.encode(raw(config)))

    def test_global_random_state_is_left_alone(self, config: FamilyEncoder) -> None:
        before = torch.random.get_rng_state()
        fit(config, raw(config)).encode(raw(config))
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_the_input_is_left_alone(self, config: FamilyEncoder) -> None:
        values = raw(config)
        fit(config, values).encode(values)
        np.testing.assert_array_equal(values, raw(config))

    def test_no_rows(self, config: FamilyEncoder) -> None:
        encoder = fit(config, raw(config))
        assert encoder.encode(raw(config)[:0]).shape == (0, len(encoder.names))


@pytest.mark.parametrize("config", [SMALL_MLP, SMALL_CNN], ids=lambda config: config.encoder)
class TestNetworks:
    def test_seed_and_family_decide_the_weights(self, config: FamilyEncoder) -> None:
        values = raw(config)
        same = fit(config, values).encode(values)
        other_seed = fit(config.model_copy(update={"seed": 1}), values).encode(values)
        other_family = fit_encoder("other", config, STATIC, values).encode(values)
        np.testing.assert_array_equal(fit(config, values).encode(values), same)
        assert not np.allclose(other_seed, same)
        assert not np.allclose(other_family, same)

    def test_missing_values_do_not_spread(self, config: FamilyEncoder) -> None:
        assert np.isfinite(fit(config, raw(config)).encode(raw(config))).all()

    def test_calibration_hears_every_column(self, config: FamilyEncoder) -> None:
        values = np.nan_to_num(raw(config), posinf=0)
        shuffled = values.copy()
        shuffled[..., 0] = shuffled[::-1, ..., 0]  # the column with a scale of 1e-6
        heard = fit(config, values)
        deaf = fit(config.model_copy(update={"calibrate": False}), values)
        change = np.abs(heard.encode(shuffled) - heard.encode(values)).max() / heard.encode(values).std()
        assert change > 0.1
        raw_change = np.abs(deaf.encode(shuffled) - deaf.encode(values)).max() / deaf.encode(values).std()
        assert raw_change < 1e-6

    def test_uncalibrated_passes_raw_scales_through(self, config: FamilyEncoder) -> None:
        values = np.nan_to_num(raw(config), posinf=0)
        deaf = fit(config.model_copy(update={"calibrate": False}), values)
        assert deaf.encode(values).std() > 1e3
        assert fit(config, values).encode(values).std() < 10

    def test_calibrated_hidden_units_are_standardized(self, config: FamilyEncoder) -> None:
        arrays = fit(config, raw(config)).arrays
        variances = [array for name, array in arrays.items() if name.endswith("running_var")]
        assert variances
        assert all((array != 1).any() for array in variances)


def test_identity_keeps_names_and_values() -> None:
    values = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, 6.0]], np.float32)
    encoder = fit(IdentityEncoder(), values)
    assert encoder.names == STATIC
    np.testing.assert_array_equal(encoder.encode(values), values)


def test_learned_columns_are_numbered() -> None:
    assert fit(SMALL_MLP, raw(SMALL_MLP)).names == tuple(f"feature_{column}" for column in range(5))


@pytest.mark.parametrize(
    ("config", "other"), [(IdentityEncoder(), TemporalStats()), (SMALL_CNN, SMALL_MLP)], ids=["static", "series"]
)
def test_wrong_shape_says_what_fits(config: FamilyEncoder, other: FamilyEncoder) -> None:
    with pytest.raises(ConfigError, match=r"families.family: encoder '.*' takes \[.*use one of: "):
        fit(config, raw(other))


class TestTemporalStats:
    def test_names_are_readable(self) -> None:
        names = fit(TemporalStats(), raw(TemporalStats())).names
        assert names[: len(STATISTICS)] == ("a.mean", "a.std", "a.min", "a.max", "a.trend", "a.autocorrelation")

    def test_against_plain_formulas(self) -> None:
        series = np.random.default_rng(0).normal(size=50).cumsum()
        deviation = series - series.mean()
        expected = [
            series.mean(),
            series.std(),
            series.min(),
            series.max(),
            np.polyfit(np.linspace(0, 1, 50), series, 1)[0],
            (deviation[1:] * deviation[:-1]).sum() / (deviation**2).sum(),
        ]
        np.testing.assert_allclose(encode(series[None, :, None])[0], expected, rtol=1e-10)

    def test_gaps_are_passed_over(self) -> None:
        series = np.linspace(2.0, 5.0, 31)
        gappy = series.copy()
        gappy[[0, 7, 30]] = np.nan
        statistics = dict(zip(STATISTICS, encode(gappy[None, :, None])[0], strict=True))
        assert statistics["mean"] == pytest.approx(np.nanmean(gappy))
        assert statistics["trend"] == pytest.approx(3.0)
        assert statistics["max"] == series[29]

    @pytest.mark.parametrize("level", [0.0, 0.1, 1e12 / 3])
    def test_constant_series(self, level: float) -> None:
        statistics = encode(np.full((1, 64, 1), level))[0]
        np.testing.assert_array_equal(statistics, [level, 0.0, level, level, 0.0, 0.0])

    def test_series_without_values_is_missing(self) -> None:
        assert np.isnan(encode(np.full((1, 8, 1), np.nan))).all()

    def test_single_step(self) -> None:
        np.testing.assert_array_equal(encode(np.array([[[3.0]]]))[0], [3.0, 0.0, 3.0, 3.0, 0.0, 0.0])


def test_readable_encoders_cost_no_torch() -> None:
    code = "import sys, spinlock_dist.features.pipeline; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
