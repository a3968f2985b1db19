"""Checkpoints: complete, exact, and refused in one line when damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from spinlock_dist.checkpoint import META, WEIGHTS, load_checkpoint, read_meta
from spinlock_dist.config import TrialConfig
from spinlock_dist.data.load import load_table
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.errors import CheckpointError, DataError, SpinlockError
from spinlock_dist.prepare import prepare
from spinlock_dist.run import TrialOutcome, run_trial
from tests.synthetic import write_table

ARMS = {
    "one codebook a level": {"compression.max_codebooks": 1},
    "several codebooks a level": {"compression.max_codebooks": 4},
    "finite scalars": {"quantizer.kind": "fsq"},
}


@pytest.fixture(scope="module", params=ARMS)
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrialOutcome:
    dataset = write_table(tmp_path_factory.mktemp("data") / "table.npz", sizes=(8, 4, 36))  # two buckets
    config = TrialConfig(
        prepare={"dataset": str(dataset), "categories": {"count": 3}},
        training={"epochs": 4, "batch_size": 64, "device": "cpu"},
        model={"hidden": 8},
    ).with_overrides(ARMS[request.param])
    return run_trial(config, prepare(config.prepare))


@pytest.fixture(scope="module")
def table(outcome: TrialOutcome) -> FeatureTable:
    return load_table(outcome.config.prepare)


@pytest.fixture
def saved(outcome: TrialOutcome, tmp_path: Path) -> Path:
    outcome.save(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_reproduces_its_metrics_from_raw_features(saved: Path, outcome: TrialOutcome, table: FeatureTable) -> None:
    tokenizer = load_checkpoint(saved, device="cpu")
    assert tokenizer.evaluate(table, "validation") == outcome.validation
    assert tokenizer.evaluate(table, "test") == outcome.evaluate("test")
    assert tokenizer.characteristics == outcome.tokenizer.characteristics


def test_metadata_is_complete(saved: Path, outcome: TrialOutcome) -> None:
    meta = read_meta(saved)
    assert meta["metrics"]["imbalance"] == outcome.validation.imbalance
    assert meta["config"] == outcome.config.model_dump(mode="json")
    for name in (
        "fingerprint",
        "seed",
        "feature_names",
        "families",
        "categories",
        "characteristics",
        "plan",
        "versions",
    ):
        assert meta[name] not in (None, [], {}), name


def test_same_tokens_in_another_process_and_another_batch_size(
    saved: Path, table: FeatureTable, tmp_path: Path, repository: Path
) -> None:
    tokens = load_checkpoint(saved, device="cpu").encode(table)
    script = (
        "import sys, numpy as np; from spinlock_dist.checkpoint import load_checkpoint;"
        "from spinlock_dist.data.load import load_table; from spinlock_dist import tokenizer as module;"
        "module.CHUNK = 7; tokenizer = load_checkpoint(sys.argv[1], device='cpu');"
        "np.save(sys.argv[2], tokenizer.encode(load_table(tokenizer.config.prepare)))"
    )
    out = tmp_path / "tokens.npy"
    subprocess.run([sys.executable, "-c", script, str(saved), str(out)], check=True, cwd=repository)
    assert np.array_equal(tokens, np.load(out))


def test_tokens_decode_to_the_reported_error(
    saved: Path, outcome: TrialOutcome, table: FeatureTable, request: pytest.FixtureRequest
) -> None:
    tokenizer = load_checkpoint(saved, device="cpu")
    tokens = tokenizer.encode(table)
    assert tokens.shape[1:] == tokenizer.token_shape
    several = "several" in request.node.name
    assert tokenizer.token_shape == ((3, 3, 2) if several else (3, 3))
    rows = prepare(outcome.config.prepare).split.validation
    raw, rebuilt = tokenizer.pipeline.clean(table)[rows], tokenizer.decode(tokens)[rows]
    for category in tokenizer.categories:
        columns = list(category.columns)
        error = np.square(raw[:, columns] - rebuilt[:, columns]).mean(axis=0).mean()
        assert error == pytest.approx(outcome.validation.mse_raw[category.name], rel=1e-4)


def test_tokens_of_another_shape_or_beyond_a_codebook_are_refused(saved: Path) -> None:
    tokenizer = load_checkpoint(saved, device="cpu")
    with pytest.raises(DataError, match=r"tokens must be \[N, 3, 3(, 2)?\]"):
        tokenizer.decode(np.zeros((5, 2, 3), dtype=int))
    with pytest.raises(DataError, match="beyond its codebook"):
        tokenizer.decode(np.full((5, *tokenizer.token_shape), 10_000))
    assert tokenizer.decode(np.zeros((0, *tokenizer.token_shape), dtype=int)).shape == (
        0,
        len(tokenizer.pipeline.feature_names),
    )


def test_saving_again_replaces_and_leaves_nothing_behind(saved: Path, outcome: TrialOutcome) -> None:
    outcome.save(saved)
    assert sorted(path.name for path in saved.parent.iterdir()) == ["checkpoint"]
    assert load_checkpoint(saved, device="cpu").fingerprint == outcome.tokenizer.fingerprint


def test_damage_is_reported_in_one_line(saved: Path, outcome: TrialOutcome) -> None:
    def message() -> str:
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(saved, device="cpu")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    weights = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(weights[: len(weights) // 2])
    assert "damaged" in message()
    (saved / WEIGHTS).unlink()
    assert "no model.safetensors" in message()
    (saved / WEIGHTS).write_bytes(weights)
    meta = json.loads((saved / META).read_text())
    (saved / META).write_text(json.dumps(meta | {"format_version": 99}))
    assert "format version 99" in message()
    (saved / META).write_text(json.dumps({name: value for name, value in meta.items() if name != "plan"}))
    assert "damaged" in message()
    (saved / META).write_text("{")
    assert "damaged" in message()
    (saved / META).unlink()
    assert "not a checkpoint" in message()


def changed(saved: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change an entry of meta.json, or an array of the weights."""
    if name in (meta := json.loads((saved / META).read_text())):
        (saved / META).write_text(json.dumps(meta | {name: change(meta[name])}))
        return
    tensors = load_file(saved / WEIGHTS)
    (saved / WEIGHTS).write_bytes(save(tensors | {name: np.ascontiguousarray(change(tensors[name]))}))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("categories", lambda each: {n: [float(c) for c in columns] for n, columns in each.items()}, "every column"),
        ("characteristics", lambda each: each[:1], "characteristics or fingerprint are not those of 3 categories"),
        ("fingerprint", lambda _: 5, "characteristics or fingerprint"),
        ("config", lambda _: None, r"checkpoint/meta\.json: expected a mapping"),
        ("format_version", str, "format version '3', this program reads 3"),
        ("pipeline/normalization/scale", lambda scale: scale * 0, "a scale is not above 0"),
        ("pipeline/cleaning/high", lambda high: -np.abs(high) - 1e9, "a lower bound lies above its upper one"),
    ],
)
def test_what_would_be_used_with_wrong_numbers_is_refused(
    saved: Path, name: str, change: Callable[[Any], Any], said: str
) -> None:
    changed(saved, name, change)
    with np.errstate(all="ignore"), pytest.raises(SpinlockError, match=said) as error:
        load_checkpoint(saved, device="cpu")
    assert "\n" not in str(error.value)


def test_weights_so_large_that_nothing_finite_comes_of_them_are_refused(saved: Path) -> None:
    tensors = load_file(saved / WEIGHTS)
    huge = {name: each * 1e30 for name, each in tensors.items() if name.startswith("model/") and each.dtype.kind == "f"}
    (saved / WEIGHTS).write_bytes(save(tensors | {name: each.astype(np.float32) for name, each in huge.items()}))
    with np.errstate(all="ignore"), pytest.raises(CheckpointError, match=r"damaged: (a row of zeros|a token)"):
        load_checkpoint(saved, device="cpu")


@pytest.mark.parametrize("file", [META, WEIGHTS])
def test_a_pointer_of_git_lfs_is_no_checkpoint(saved: Path, file: str) -> None:
    (saved / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n")
    with pytest.raises(CheckpointError, match=rf"{file}: damaged: it is a pointer of Git LFS, .*git lfs pull"):
        load_checkpoint(saved, device="cpu")


def test_what_is_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")
    for name in ("pipe", "file"):
        with pytest.raises(CheckpointError, match=rf"{name}: is no folder; a checkpoint of this program is one"):
            load_checkpoint(tmp_path / name)
