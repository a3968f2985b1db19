from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinlock_dist.config import STRATEGIES, Bounds, Section, TrialConfig
from spinlock_dist.config_file import dump_config, load_config
from spinlock_dist.errors import ConfigError
from spinlock_dist.features.encoders.identity import IdentityEncoder
from spinlock_dist.features.encoders.mlp import MLPEncoder
from spinlock_dist.features.encoders.temporal_cnn import TemporalCNNEncoder
from spinlock_dist.features.encoders.temporal_stats import TemporalStats
from tests.fuzz import bounded, inputs

in_one_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # rewritten for every example


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(written(folder, text))
    return str(error.value)


# ---------------------------------------------------------------- round trip


@st.composite
def bounds(draw: st.DrawFn) -> Bounds:
    low = draw(st.floats(0.01, 3.9))
    return Bounds(low=low, high=draw(st.floats(low, 4, exclude_min=True)))


families = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.one_of(
        st.builds(IdentityEncoder),
        st.builds(TemporalStats),
        st.builds(MLPEncoder, hidden=st.lists(st.integers(1, 512), max_size=3).map(tuple), calibrate=st.booleans()),
        st.builds(TemporalCNNEncoder, embedding=st.integers(1, 64), seed=st.integers()),
    ),
    max_size=3,
)

overrides = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(),
        "prepare.dataset": st.none() | st.text(),
        "prepare.families": st.none() | families.map(lambda given: {k: v.model_dump() for k, v in given.items()}),
        "prepare.normalization": st.sampled_from(["standard", "robust", "quantile"]),
        "compression.strategy": st.sampled_from(sorted(STRATEGIES)),
        "compression.bounds.L1": bounds().map(Bounds.model_dump),
        "compression.sharpness": st.floats(1e-6, 1e6),
        "model.levels": st.sampled_from(["residual", "parallel"]),
        "loss.commitment": st.floats(0, 1e3),
        "training.patience": st.none() | st.integers(1, 1000),
    },
)


@in_one_file
@given(overrides)
def test_what_is_written_is_read_back(tmp_path: Path, given_overrides: dict[str, Any]) -> None:
    config = TrialConfig().with_overrides(given_overrides)
    assert load_config(written(tmp_path, dump_config(config))) == config


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "# nothing\n")) == TrialConfig()


def test_what_is_left_out_keeps_its_default(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "training: {epochs: 3}\n"))
    assert config.training == TrialConfig().training.model_copy(update={"epochs": 3})


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrialConfig().seed = 1  # type: ignore[misc]


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("training:\n  epochs: 3\n  epoch: 4\n", ["line 3", "training.epoch'", "did you mean 'epochs'"]),
        ("trainig: {}\n", ["line 1", "did you mean 'training'"]),
        ("prepare:\n  families:\n    summary: {encoder: mlp, hiden: [3]}\n", ["line 3", "did you mean 'hidden'"]),
        ("prepare:\n  split:\n    sead: 1\n", ["line 3", "did you mean 'seed'"]),
        ("\nmodel:\n  levels: paralel\n", ["line 3", "model.levels", "'residual' or 'parallel'", "'paralel'"]),
        ("compression:\n  bounds:\n    L0: {low: 2, high: 1}\n", ["line 3", "low must be below high", "2 and 1"]),
        ("compression:\n  bounds:\n    L0: {low: 1, high: 1}\n", ["line 3", "low must be below high"]),
        ("compression:\n  bounds:\n    L0: {low: 1, span: 1}\n", ["line 3", "span must be above 1"]),
        ("compression:\n  bounds:\n    L0: {low: one, span: 2}\n", ["line 3", "must be numbers"]),
        ("prepare:\n  split: {train: 0.9}\n", ["line 2", "must be 1, is 1.2"]),
        ("prepare:\n  cleaning: {clip_percentiles: [99, 1]}\n", ["line 2", "0 <= low < high <= 100"]),
        ("training: {learning_rate: .nan}\n", ["line 1", "learning_rate", "finite"]),
        ("training: {epochs: 0}\n", ["line 1", "epochs", "greater than or equal to 1", "0"]),
        ("training: {epochs: 3\n", ["not valid YAML"]),
        ("training:\n  epochs: 3\n  epochs: 4\n", ["line 3", "'epochs' is given twice"]),
        ("- 1\n", ["expected a mapping", "list"]),
        ("just words\n", ["expected a mapping", "str"]),
    ],
)
def test_a_refusal_names_file_line_and_reason(tmp_path: Path, text: str, parts: list[str]) -> None:
    message = refused(tmp_path, text)
    assert message.startswith(str(tmp_path / "config.yaml"))
    assert len(message.splitlines()) <= 2
    for part in parts:
        assert part in message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "absent.yaml")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"\x89HDF\r\n\x1a\n\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "config.yaml")


# ---------------------------------------------------------------- overrides


def test_overrides_replace_by_dotted_name() -> None:
    config = TrialConfig().with_overrides({"compression.bounds.L0.low": 0.3, "seed": 5})
    assert Bounds(low=0.3, high=1.0) == config.compression.bounds.L0
    assert config.seed == 5
    assert config.compression.bounds.L1 == TrialConfig().compression.bounds.L1


@given(st.floats(0.05, 3), st.floats(1.01, 20))
def test_span_sets_high_relative_to_low_and_at_most_4(low: float, span: float) -> None:
    names = {"compression.bounds.L2.span": span, "compression.bounds.L2.low": low}
    assert TrialConfig().with_overrides(names).compression.bounds.L2.high == min(4.0, low * span)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("training.epoch", "did you mean 'epochs'"),
        ("trainin.epochs", "did you mean 'training'"),
        ("training.epochs.more", "not a setting"),
        ("compression.bounds.L3.low", "known: L0, L1, L2"),
        ("", "not a setting"),
    ],
)
def test_an_override_of_nothing_is_refused(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="my space: ") as error:
        TrialConfig().with_overrides({name: 1}, "my space")
    assert hint in str(error.value)


# ---------------------------------------------------------------- anything at all


def section_names(section: type[Section]) -> set[str]:
    names = set(section.model_fields)
    for field in section.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            names |= section_names(field.annotation)
    return names


keys = st.sampled_from([*sorted(section_names(TrialConfig)), "span", "encoder"]) | st.text(max_size=5) | st.integers()
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


def only_config_error_escapes(path: Path) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(load_config(path), TrialConfig)


@settings(in_one_file, max_examples=inputs(300))
@given(st.dictionaries(st.sampled_from(sorted(TrialConfig.model_fields)), trees, min_size=1))
@bounded
def test_any_tree_is_read_or_refused(tmp_path: Path, tree: Any) -> None:
    only_config_error_escapes(written(tmp_path, yaml.safe_dump(tree)))


@settings(in_one_file, max_examples=inputs(300))
@given(st.text(st.sampled_from("aL01:-[]{}&*!|>?%@`'\"\\,. \n\t#<\x00\x85é"), max_size=40))
@bounded
def test_any_text_is_read_or_refused(tmp_path: Path, text: str) -> None:
    only_config_error_escapes(written(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "&a [*a]",
        "prepare: &a {split: *a}",
        "? [1, 2]\n: 3",
        "!!python/object/apply:os.system ['true']",
        "seed: 99999999999999999999e99999",
        "seed: 2001-99-99",
        "compression: {bounds: {L0: {low: [1], span: {}}}}",
        "compression: {bounds: {L0: {low: 1, span: .nan}}}",
        "compression: {bounds: {L0: {low: .inf, span: 2}}}",
        "[" * 3000,
        "<<: 3",
    ],
)
def test_known_traps_are_refused(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, text).count("\n") <= 1


def test_settings_of_trained_pilots_are_read_and_left_out() -> None:
    earlier = {"compression": {"feedback": {"start": "waterfill", "rounds": 2, "step": 0.8}}}
    assert TrialConfig(**earlier) == TrialConfig(compression={"feedback": {"rounds": 2}})


def test_a_strategy_that_is_not_there_is_refused_with_its_line(tmp_path: Path) -> None:
    said = refused(tmp_path, "compression:\n  strategy: waterfil\n")
    assert "line 2" in said and "unknown strategy 'waterfil'; did you mean 'waterfill'?" in said
