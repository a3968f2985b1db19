from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from spinlock_dist.config import FamilyEncoder
from spinlock_dist.data.initial_fields import Fields
from spinlock_dist.errors import ConfigError, DataError
from spinlock_dist.features.encoders import temporal_stats
from spinlock_dist.features.encoders.fitted import FittedEncoder, fit_encoder
from spinlock_dist.features.encoders.identity import IdentityEncoder
from spinlock_dist.features.encoders.initial_hybrid import InitialHybridEncoder
from spinlock_dist.features.encoders.mlp import MLPEncoder
from spinlock_dist.features.encoders.temporal_cnn import TemporalCNNEncoder
from spinlock_dist.features.encoders.temporal_stats import STATISTICS, TemporalStats

STATIC = ("a", "b", "c")
SMALL_MLP = MLPEncoder(hidden=(16, 8), output=5)
SMALL_CNN = TemporalCNNEncoder(embedding=6)
SMALL_HYBRID = InitialHybridEncoder(embedding=4)
NETWORKS: list[FamilyEncoder] = [SMALL_MLP, SMALL_CNN, SMALL_HYBRID]
ALL: list[FamilyEncoder] = [IdentityEncoder(), TemporalStats(), *NETWORKS]


def raw(config: FamilyEncoder, rows: int = 40) -> np.ndarray:
    """Return what an encoder sees: three columns or channels whose scales differ by twelve orders of magnitude, with
    gaps. For `initial_hybrid` these are the fields `[N, H, W, C]`; its columns come from `columns_of`."""
    shapes = {"temporal_stats": (rows, 20, 3), "temporal_cnn": (rows, 20, 3), "initial_hybrid": (rows, 8, 12, 3)}
    shape = shapes.get(config.encoder, (rows, 3))
    values = np.random.default_rng(3).normal(size=shape) * [1e-6, 1.0, 1e6]
    values[1, ..., 0] = np.nan
    values[2, ..., 1] = np.inf
    return values.astype(np.float32)


def columns_of(seen: np.ndarray) -> np.ndarray:
    return np.nan_to_num(seen.mean(axis=(1, 2)), posinf=0)


def split(config: FamilyEncoder, seen: np.ndarray) -> tuple[np.ndarray, Fields | None]:
    """Return the values and the fields that make up what an encoder sees."""
    if isinstance(config, InitialHybridEncoder):
        return columns_of(seen), Fields(np.moveaxis(seen, -1, 1))
    return seen, None


def fit(config: FamilyEncoder, seen: np.ndarray, family: str = "family") -> FittedEncoder:
    values, fields = split(config, seen)
    return fit_encoder(family, config, STATIC, values, fields)


def encode(encoder: FittedEncoder, seen: np.ndarray) -> np.ndarray:
    return encoder.encode(*split(encoder.config, seen))


def learned(encoder: FittedEncoder, seen: np.ndarray) -> np.ndarray:
    """Return the columns that the network gives, without those that `initial_hybrid` passes through."""
    return encode(encoder, seen)[:, len(STATIC) if isinstance(encoder.config, InitialHybridEncoder) else 0 :]


@pytest.mark.parametrize("config", ALL, ids=lambda config: config.encoder)
class TestEveryEncoder:
    def test_one_named_column_each(self, config: FamilyEncoder) -> None:
        encoder = fit(config, raw(config))
        encoded = encode(encoder, raw(config))
        assert encoded.shape == (40, len(encoder.names))
        assert encoded.dtype == np.float64
        assert len(set(encoder.names)) == len(encoder.names)

    def test_rows_do_not_depend_on_their_company(self, config: FamilyEncoder) -> None:
        values = raw(config, rows=600)
        encoder = fit(config, values)
        together = encode(encoder, values)
        for rows in (slice(0, 1), slice(3, 300), slice(599, 600)):
            np.testing.assert_allclose(encode(encoder, values[rows]), together[rows], rtol=1e-9, atol=1e-12)

    def test_state_survives_json_and_arrays(self, config: FamilyEncoder) -> None:
        encoder = fit(config, raw(config))
        copy = FittedEncoder.from_metadata(json.loads(json.dumps(encoder.metadata())), encoder.arrays)
        assert copy.names == encoder.names
        np.testing.assert_array_equal(encode(copy, raw(config)), encode(encoder, raw(config)))

    def test_global_random_state_is_left_alone(self, config: FamilyEncoder) -> None:
        before = torch.random.get_rng_state()
        encode(fit(config, raw(config)), raw(config))
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_the_input_is_left_alone(self, config: FamilyEncoder) -> None:
        values = raw(config)
        encode(fit(config, values), values)
        np.testing.assert_array_equal(values, raw(config))

    def test_no_rows(self, config: FamilyEncoder) -> None:
        encoder = fit(config, raw(config))
        assert encode(encoder, raw(config)[:0]).shape == (0, len(encoder.names))


@pytest.mark.parametrize("config", NETWORKS, ids=lambda config: config.encoder)
class TestNetworks:
    def test_seed_and_family_decide_the_weights(self, config: FamilyEncoder) -> None:
        values = raw(config)
        same = learned(fit(config, values), values)
        other_seed = learned(fit(config.model_copy(update={"seed": 1}), values), values)
        other_family = learned(fit(config, values, family="other"), values)
        np.testing.assert_array_equal(learned(fit(config, values), values), same)
        assert not np.allclose(other_seed, same)
        assert not np.allclose(other_family, same)

    def test_missing_values_do_not_spread(self, config: FamilyEncoder) -> None:
        assert np.isfinite(learned(fit(config, raw(config)), raw(config))).all()

    def test_calibration_hears_every_column(self, config: FamilyEncoder) -> None:
        values = np.nan_to_num(raw(config), posinf=0)
        shuffled = values.copy()
        shuffled[..., 0] = shuffled[::-1, ..., 0]  # the column with a scale of 1e-6
        heard = fit(config, values)
        deaf = fit(config.model_copy(update={"calibrate": False}), values)
        change = np.abs(learned(heard, shuffled) - learned(heard, values)).max() / learned(heard, values).std()
        assert change > 0.1
        raw_change = np.abs(learned(deaf, shuffled) - learned(deaf, values)).max() / learned(deaf, values).std()
        assert raw_change < 1e-6

    def test_uncalibrated_passes_raw_scales_through(self, config: FamilyEncoder) -> None:
        values = np.nan_to_num(raw(config), posinf=0)
        deaf = fit(config.model_copy(update={"calibrate": False}), values)
        assert learned(deaf, values).std() > 1e3
        assert learned(fit(config, values), values).std() < 10

    def test_calibrated_hidden_units_are_standardized(self, config: FamilyEncoder) -> None:
        arrays = fit(config, raw(config)).arrays
        variances = [array for name, array in arrays.items() if name.endswith("running_var")]
        assert variances
        assert all((array != 1).any() for array in variances)


def test_identity_keeps_names_and_values() -> None:
    values = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, 6.0]], np.float32)
    encoder = fit(IdentityEncoder(), values)
    assert encoder.names == STATIC
    np.testing.assert_array_equal(encode(encoder, values), values)


def test_learned_columns_are_numbered() -> None:
    assert fit(SMALL_MLP, raw(SMALL_MLP)).names == tuple(f"feature_{column}" for column in range(5))
    assert fit(SMALL_HYBRID, raw(SMALL_HYBRID)).names == (*STATIC, "cnn_0", "cnn_1", "cnn_2", "cnn_3")


def test_the_hybrid_keeps_manual_features_and_adds_what_its_cnn_sees() -> None:
    seen = raw(SMALL_HYBRID)
    encoder = fit(SMALL_HYBRID, seen)
    np.testing.assert_array_equal(encode(encoder, seen)[:, : len(STATIC)], columns_of(seen))
    other_fields = encoder.encode(columns_of(seen), Fields(np.moveaxis(seen[::-1], -1, 1)))
    np.testing.assert_array_equal(other_fields[:, : len(STATIC)], columns_of(seen))
    np.testing.assert_allclose(other_fields[:, len(STATIC) :], learned(encoder, seen)[::-1], rtol=1e-9)


def test_calibration_holds_the_statistics_of_the_training_rows() -> None:
    """Of the hybrid's first layer, against plain formulas of a circular convolution of standardized channels."""
    fields = np.random.default_rng(0).normal(3.0, 2.0, size=(50, 3, 8, 8))
    arrays = fit_encoder("initial", SMALL_HYBRID, STATIC, np.zeros((50, 3)), Fields(fields)).arrays
    fields = fields.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(arrays["center"], fields.mean(axis=(0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(arrays["scale"], fields.std(axis=(0, 2, 3)), rtol=1e-9)
    x = (fields - arrays["center"][:, None, None]) / arrays["scale"][:, None, None]
    weight, bias = arrays["network.layers.0.weight"], arrays["network.layers.0.bias"]
    shifted = {(i, j): np.roll(x, (1 - i, 1 - j), axis=(2, 3))[..., ::2, ::2] for i in range(3) for j in range(3)}
    hidden = sum(np.einsum("oc,nchw->nohw", weight[:, :, i, j], shifted[i, j]) for i, j in shifted)
    hidden = hidden + bias[:, None, None]
    np.testing.assert_allclose(arrays["network.layers.1.running_mean"], hidden.mean(axis=(0, 2, 3)), atol=1e-9)
    np.testing.assert_allclose(arrays["network.layers.1.running_var"], hidden.var(axis=(0, 2, 3), ddof=1), rtol=1e-9)
    left_alone = SMALL_HYBRID.model_copy(update={"calibrate": False})
    arrays = fit_encoder("initial", left_alone, STATIC, np.zeros((50, 3)), Fields(fields)).arrays
    assert (arrays["network.layers.1.running_mean"] == 0).all() and (arrays["network.layers.1.running_var"] == 1).all()
    assert (arrays["center"] == 0).all() and (arrays["scale"] == 1).all()


def test_the_hybrids_cnn_knows_no_edges() -> None:
    """Fields are periodic: moving one by a multiple of the strides (8 cells) changes nothing but the order of sums."""
    fields = np.random.default_rng(0).normal(size=(20, 16, 16, 3)).astype(np.float32)
    encoder = fit_encoder("initial", SMALL_HYBRID, STATIC, columns_of(fields), Fields(np.moveaxis(fields, -1, 1)))
    moved = np.roll(fields, (8, 8), axis=(1, 2))
    np.testing.assert_allclose(learned(encoder, moved), learned(encoder, fields), rtol=1e-9, atol=1e-12)


def test_fields_with_another_number_of_channels_are_refused() -> None:
    seen = raw(SMALL_HYBRID)
    encoder = fit(SMALL_HYBRID, seen)
    with pytest.raises(DataError, match="initial fields have 2 channels, the encoder was fitted on 3"):
        encoder.encode(columns_of(seen), Fields(np.moveaxis(seen[..., :2], -1, 1)))


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
        np.testing.assert_allclose(temporal_stats.statistics(series[None, :, None])[0], expected, rtol=1e-10)

    def test_gaps_are_passed_over(self) -> None:
        series = np.linspace(2.0, 5.0, 31)
        gappy = series.copy()
        gappy[[0, 7, 30]] = np.nan
        statistics = dict(zip(STATISTICS, temporal_stats.statistics(gappy[None, :, None])[0], strict=True))
        assert statistics["mean"] == pytest.approx(np.nanmean(gappy))
        assert statistics["trend"] == pytest.approx(3.0)
        assert statistics["max"] == series[29]

    @pytest.mark.parametrize("level", [0.0, 0.1, 1e12 / 3])
    def test_constant_series(self, level: float) -> None:
        statistics = temporal_stats.statistics(np.full((1, 64, 1), level))[0]
        np.testing.assert_array_equal(statistics, [level, 0.0, level, level, 0.0, 0.0])

    def test_series_without_values_is_missing(self) -> None:
        assert np.isnan(temporal_stats.statistics(np.full((1, 8, 1), np.nan))).all()

    def test_single_step(self) -> None:
        np.testing.assert_array_equal(temporal_stats.statistics(np.array([[[3.0]]]))[0], [3.0, 0.0, 3.0, 3.0, 0.0, 0.0])


def test_readable_encoders_cost_no_torch() -> None:
    code = "import sys, spinlock_dist.features.pipeline; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_encoder_beyond_the_memory_is_refused_before_it_is_made() -> None:
    config = MLPEncoder(encoder="mlp", hidden=(10**7, 10**7))
    with pytest.raises(ConfigError, match=r"the encoder of family 'summary' would need 4\d\d TB of memory"):
        config.fit("summary", np.zeros((20, 3), np.float32), None)
