"""The preset `spinlock`: what it sets, how a file goes over it, and that it prepares real layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spinlock_dist.compression.capacity import latent_dim, plan_capacity
from spinlock_dist.compression.strategies import UNIFORM_RATIOS, get_strategy
from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import dump_config, load_config
from spinlock_dist.errors import ConfigError, DataError
from spinlock_dist.prepare import prepare
from tests.synthetic import write_table

SIMULATED = "{samples: 40, grid: 8, steps: 8, realizations: 1}"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def preset(tmp_path: Path) -> TrialConfig:
    return load_config(written(tmp_path / "preset.yaml", "preset: spinlock\n"))


def test_the_preset_holds_the_published_settings(preset: TrialConfig) -> None:
    families = preset.prepare.families
    assert families is not None
    assert {name: encoder.encoder for name, encoder in families.items()} == {
        "initial": "initial_hybrid",
        "summary": "mlp",
        "temporal": "temporal_cnn",
    }
    assert all(encoder.model_dump()["calibrate"] is False for encoder in families.values())
    assert (preset.compression.strategy, preset.compression.rule) == ("balanced", "spinlock")
    assert preset.compression.capacity == "latent"
    assert (preset.model.levels, preset.model.decoder, preset.model.initialization) == ("parallel", "shared", "random")
    assert (preset.quantizer.ema_decay, preset.quantizer.expiry_share) == (0.99, 0)
    assert preset.loss.model_dump() == {
        "commitment": 0.45,
        "informativeness": 0.1,
        "orthogonality": 0.1,
        "topographic": 0.02,
        "reconstruction_balance": "features",
    }
    training = preset.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (100, 512, 7e-4)
    assert (training.evaluate_every, training.patience, preset.seed) == (5, 50, 42)


def test_a_file_goes_over_its_preset(tmp_path: Path) -> None:
    text = """
preset: spinlock
prepare: {families: {initial: {encoder: identity}, summary: {encoder: identity}}}
model: {decoder: category}
"""
    config = load_config(written(tmp_path / "trial.yaml", text))
    assert config.prepare.families is not None
    encoders = {name: encoder.encoder for name, encoder in config.prepare.families.items()}
    assert encoders == {"initial": "identity", "summary": "identity", "temporal": "temporal_cnn"}
    assert (config.model.decoder, config.model.levels) == ("category", "parallel")
    assert config.loss.commitment == 0.45


def test_a_resolved_preset_is_an_ordinary_config(preset: TrialConfig, tmp_path: Path) -> None:
    assert load_config(written(tmp_path / "dumped.yaml", dump_config(preset))) == preset


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("preset: spinloc\n", "unknown preset 'spinloc'; did you mean 'spinlock'"),
        ("preset: 7\n", "unknown preset '7'"),
        ("preset: [spinlock]\n", "unknown preset"),
        ("preset: spinlock\nmodel: {hiden: 3}\n", r"line 2: unknown setting 'model\.hiden'; did you mean 'hidden'"),
        ("preset: spinlock\nmodel: 3\n", "line 2: model"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path / "trial.yaml", text))


def test_it_prepares_simulated_operators(tmp_path: Path) -> None:
    config = load_config(written(tmp_path / "t.yaml", f"preset: spinlock\nprepare: {{simulator: {SIMULATED}}}\n"))
    data = prepare(config.prepare)
    assert set(data.families) == {"initial", "summary", "temporal"}
    assert [len(data.split.part(name)) for name in ("train", "validation", "test")] == [32, 4, 4]


def test_it_prepares_a_file_of_spinlock_and_sizes_it_by_its_rules(preset: TrialConfig, spinlock_file: Path) -> None:
    data = prepare(preset.with_overrides({"prepare.dataset": str(spinlock_file)}).prepare)
    assert set(data.families) == {"initial", "summary", "temporal"}
    plan = plan_capacity(preset.compression, data.characteristics, len(data.split.train))
    published = get_strategy("balanced").published
    assert published is not None
    assert plan.ratios.tolist() == [list(published(each)) for each in data.characteristics]
    uniform = [[latent_dim(len(category), ratio) for ratio in UNIFORM_RATIOS] for category in data.categories]
    assert plan.dims.sum() == np.sum(uniform), "its ratios, rescaled to the total of uniform ones"
    assert plan.codes[:, 0].min() >= 15, "codebooks have their published size even on 26 training rows"


def test_a_dataset_of_other_families_is_refused_and_taken_without(tmp_path: Path) -> None:
    dataset = write_table(tmp_path / "table.npz", rows=60)
    path = tmp_path / "trial.yaml"
    with pytest.raises(DataError, match="no family 'temporal'"):
        prepare(load_config(written(path, f"preset: spinlock\nprepare: {{dataset: {dataset}}}\n")).prepare)
    text = f"preset: spinlock\nprepare: {{dataset: {dataset}, families: null}}\n"
    assert set(prepare(load_config(written(path, text)).prepare).families) == {"summary"}
