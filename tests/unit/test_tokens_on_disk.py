"""Tokens on disk: read back they are those written, and what they decode to has the reported error."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from spinlock_dist import detokenize, tokenize
from spinlock_dist.checkpoint import load_checkpoint
from spinlock_dist.config import TrialConfig
from spinlock_dist.data.load import load_table
from spinlock_dist.errors import ConfigError, DataError
from spinlock_dist.prepare import prepare
from spinlock_dist.run import TrialOutcome, run_trial
from spinlock_dist.token_files import (
    MARK,
    TokenBatch,
    TokenHead,
    from_columns,
    open_tokens,
    token_columns,
    writing_tokens,
)
from tests.synthetic import write_table

ROWS = 333


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("data") / "table.npz", ROWS)


@pytest.fixture(scope="module", params=[1, 3])
def outcome(request: pytest.FixtureRequest, dataset: Path) -> TrialOutcome:
    """With one codebook a level, and with up to three."""
    config = TrialConfig(
        prepare={"dataset": str(dataset), "categories": {"count": 3}},
        training={"epochs": 3, "batch_size": 64, "device": "cpu"},
        model={"hidden": 8},
        compression={"max_codebooks": request.param, "max_codes": 16},
    )
    return run_trial(config, prepare(config.prepare))


@pytest.fixture
def checkpoint(outcome: TrialOutcome, tmp_path: Path) -> str:
    outcome.save(tmp_path / "checkpoint")
    return str(tmp_path / "checkpoint")


@pytest.fixture(params=["parquet", "h5"])
def tokens(
    request: pytest.FixtureRequest, checkpoint: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setattr(tokenize, "BATCH_ROWS", 100)
    out = tmp_path / f"tokens.{request.param}"
    assert tokenize.main([checkpoint, str(dataset), "--out", str(out), "--device", "cpu"]) == 0
    return out


def test_tokens_read_back_are_those_of_the_tokenizer(tokens: Path, checkpoint: str, outcome: TrialOutcome) -> None:
    tokenizer = load_checkpoint(checkpoint, device="cpu")
    found = open_tokens(tokens)
    found.require_made_by(tokenizer)
    batches = list(found.batches(70))
    assert found.rows == ROWS
    assert np.array_equal(np.concatenate([batch.rows for batch in batches]), np.arange(ROWS))
    read = np.concatenate([batch.tokens for batch in batches])
    assert read.dtype == np.uint8  # no codebook has more than 16 codes
    assert np.array_equal(from_columns(read, tokenizer), tokenizer.encode(load_table(outcome.config.prepare)))


def test_the_file_says_what_its_columns_are(tokens: Path, outcome: TrialOutcome) -> None:
    plan = outcome.tokenizer.plan
    switched_on = [(place, codes) for place, _, codes in plan.codebooks()]
    columns = open_tokens(tokens).head.columns
    names = [category.name for category in outcome.tokenizer.categories]
    assert [(each.category, int(each.level[1]), each.codebook - 1) for each in columns] == [
        (names[category], level, book) for (category, level, book), _ in switched_on
    ]
    assert [each.codes for each in columns] == [codes for _, codes in switched_on]
    if tokens.suffix == ".parquet":
        assert list(pd.read_parquet(tokens).columns) == ["row", *(each.name for each in columns)]
    else:
        with h5py.File(tokens) as file:
            assert file["tokens"].shape == (ROWS, len(columns))


@pytest.mark.parametrize("suffix", ["parquet", "h5", "npz", "csv"])
def test_features_rebuilt_from_a_file_have_the_reported_error(
    tokens: Path, checkpoint: str, outcome: TrialOutcome, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"features.{suffix}"
    assert detokenize.main([checkpoint, str(tokens), "--out", str(out), "--device", "cpu"]) == 0
    pipeline, data = outcome.tokenizer.pipeline, outcome.data
    rebuilt = load_table(outcome.config.prepare.model_copy(update={"dataset": str(out)}))
    assert tuple(f"summary::{name}" for name in rebuilt.names["summary"]) == pipeline.feature_names
    rows = data.split.validation
    target = pipeline.invert(data.values[rows])
    error = np.square(target - rebuilt.columns["summary"][rows].astype(np.float64)).mean(axis=0)
    for category in outcome.tokenizer.categories:
        found = error[list(category.columns)].mean()
        assert found == pytest.approx(outcome.validation.mse_raw[category.name], rel=1e-4)


def test_decoded_batch_by_batch_the_error_is_the_reported_one_to_the_last_digits(
    tokens: Path, checkpoint: str, outcome: TrialOutcome
) -> None:
    tokenizer = load_checkpoint(checkpoint, device="cpu")
    parts = [tokenizer.decode(from_columns(batch.tokens, tokenizer)) for batch in open_tokens(tokens).batches(90)]
    rows = outcome.data.split.validation
    error = np.square(tokenizer.pipeline.invert(outcome.data.values[rows]) - np.concatenate(parts)[rows]).mean(axis=0)
    for category in outcome.tokenizer.categories:
        reported = outcome.validation.mse_raw[category.name]
        assert error[list(category.columns)].mean() == pytest.approx(reported, rel=1e-6)


def test_tokens_of_another_checkpoint_are_refused(tokens: Path, outcome: TrialOutcome, tmp_path: Path) -> None:
    other = run_trial(outcome.config.with_overrides({"seed": 5}), outcome.data)
    other.save(tmp_path / "other")
    with pytest.raises(DataError, match="made by another checkpoint"):
        detokenize.main([str(tmp_path / "other"), str(tokens), "--out", str(tmp_path / "f.csv"), "--device", "cpu"])
    assert not (tmp_path / "f.csv").exists()


def test_a_copied_checkpoint_is_the_same_one(checkpoint: str, outcome: TrialOutcome, tmp_path: Path) -> None:
    outcome.save(tmp_path / "copy")
    identities = {load_checkpoint(each, device="cpu").identity for each in (checkpoint, tmp_path / "copy")}
    assert identities == {outcome.tokenizer.identity}


def test_what_is_no_file_of_tokens_is_refused(checkpoint: str, dataset: Path, tokens: Path, tmp_path: Path) -> None:
    plain, cut = tmp_path / "plain.parquet", tmp_path / f"cut{tokens.suffix}"
    pd.DataFrame({"summary::a": [1.0]}).to_parquet(plain)
    cut.write_bytes(tokens.read_bytes()[:-700])
    for path, said in ((plain, "holds no tokens"), (cut, "not a readable file of tokens"), (dataset, "not a readable")):
        with pytest.raises(DataError, match=said) as refusal:
            detokenize.main([checkpoint, str(path), "--out", str(tmp_path / "features.csv")])
        assert "\n" not in str(refusal.value)


def test_a_token_beyond_its_codebook_is_refused(checkpoint: str, tmp_path: Path) -> None:
    tokenizer = load_checkpoint(checkpoint, device="cpu")
    head = TokenHead(tokenizer.identity, "x", token_columns(tokenizer))
    with writing_tokens(tmp_path / "bad.h5", head) as write:
        write(TokenBatch(np.arange(2), np.full((2, len(head.columns)), 255)))
    said = rf"bad\.h5: damaged: token 255 in place 0 lies beyond its codebook, {head.columns[0].name} of"
    with pytest.raises(DataError, match=said):
        detokenize.main([checkpoint, str(tmp_path / "bad.h5"), "--out", str(tmp_path / "features.npz")])
    assert not (tmp_path / "features.npz").exists()


def empty(file: h5py.File) -> None:
    file["tokens"].resize(0, axis=0)
    file["row"].resize(0, axis=0)


def replaced(name: str, content: Any) -> Callable[[h5py.File], None]:
    def replace(file: h5py.File) -> None:
        wide = file["tokens"].shape
        del file[name]
        if isinstance(content, h5py.ExternalLink | h5py.SoftLink):
            file[name] = content
        else:
            file.create_dataset(name, wide, content, chunks=(50, wide[1]))

    return replace


def from_elsewhere(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(file["tokens"].shape, np.uint8)
    layout[:] = h5py.VirtualSource("gone.h5", "tokens", layout.shape)
    del file["tokens"]
    file.create_virtual_dataset("tokens", layout)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (empty, "has no rows of tokens"),
        (replaced("tokens", np.uint8), f"{ROWS} of {ROWS} rows were never written"),
        (replaced("tokens", np.float32), "'tokens' is not there, or not of its kind"),
        (
            replaced("tokens", h5py.ExternalLink("/etc/passwd", "/x")),
            "lies in another file, /etc/passwd; copy the data",
        ),
        (replaced("row", h5py.SoftLink("/nowhere")), "is a link to /nowhere, which is not there"),
        (from_elsewhere, "lies in another file, .*gone.h5; copy the data into the file$"),
    ],
)
def test_tokens_that_are_not_there_are_not_read_as_zeros(
    checkpoint: str, dataset: Path, tmp_path: Path, change: Callable[[h5py.File], None], said: str
) -> None:
    path = tmp_path / "tokens.h5"
    assert tokenize.main([checkpoint, str(dataset), "--out", str(path), "--device", "cpu"]) == 0
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(DataError, match=said):
        detokenize.main([checkpoint, str(path), "--out", str(tmp_path / "f.h5"), "--device", "cpu"])
    assert not (tmp_path / "f.h5").exists()


@pytest.mark.parametrize("said", [5, None])
def test_a_parquet_file_of_tokens_that_names_no_tokenizer_is_refused(
    checkpoint: str, dataset: Path, tmp_path: Path, said: object
) -> None:
    path = tmp_path / "tokens.parquet"
    assert tokenize.main([checkpoint, str(dataset), "--out", str(path), "--device", "cpu"]) == 0
    table = pyarrow.parquet.read_table(path)
    head = json.loads(table.schema.metadata[MARK.encode()]) | {"checkpoint": said}
    pyarrow.parquet.write_table(table.replace_schema_metadata({MARK: json.dumps(head)}), path)
    with pytest.raises(DataError, match="damaged: 'checkpoint' and 'dataset' are not texts"):
        detokenize.main([checkpoint, str(path), "--out", str(tmp_path / "f.h5"), "--device", "cpu"])


def test_a_family_made_of_fields_alone_is_tokenized_row_by_row(tmp_path: Path) -> None:
    fields = np.random.default_rng(0).normal(size=(40, 1, 16, 16)).astype(np.float32)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["inputs/fields"] = fields
        file["features/summary/features"] = np.zeros((40, 2), np.float32)  # not asked for
    config = TrialConfig(
        prepare={"dataset": str(tmp_path / "f.h5"), "families": {"initial": {"encoder": "initial_hybrid"}}},
        training={"epochs": 1, "batch_size": 16, "device": "cpu"},
        model={"hidden": 8},
    )
    run_trial(config, prepare(config.prepare)).save(tmp_path / "c")
    assert tokenize.main([str(tmp_path / "c"), "--out", str(tmp_path / "t.h5"), "--device", "cpu"]) == 0
    tokenizer = load_checkpoint(tmp_path / "c", device="cpu")
    [batch] = open_tokens(tmp_path / "t.h5").batches(1000)
    assert np.array_equal(from_columns(batch.tokens, tokenizer), tokenizer.encode(load_table(config.prepare)))


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_that_is_stopped_while_it_writes_leaves_nothing_half(
    checkpoint: str, dataset: Path, tmp_path: Path, repository: Path, stop: signal.Signals
) -> None:
    with np.load(dataset) as archive:
        rows = np.tile(archive["features"], (2000, 1))
        np.savez(tmp_path / "large.npz", features=rows, feature_names=archive["feature_names"])
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-m", "spinlock_dist.tokenize", checkpoint, str(tmp_path / "large.npz"), "--out"]
    with subprocess.Popen(
        [*command, str(tmp_path / "out" / "t.h5"), "--device", "cpu"], stderr=subprocess.PIPE, text=True, cwd=repository
    ) as process:
        while process.poll() is None and not any((tmp_path / "out").iterdir()):
            time.sleep(0.01)
        process.send_signal(stop)
        _, said = process.communicate()
    assert process.returncode == 130 and said.endswith("interrupted\n") and "Traceback" not in said
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (lambda names: names[::-1], "they come in another order"),
        (lambda names: ["zzz", *names[1:]], "is not there, 'zzz' was not there then"),
    ],
)
def test_other_columns_are_named(
    checkpoint: str, dataset: Path, tmp_path: Path, columns: Callable[[list[str]], list[str]], said: str
) -> None:
    with np.load(dataset) as archive:
        names = columns([name.partition("::")[2] for name in archive["feature_names"]])
        families = [name.partition("::")[0] for name in archive["feature_names"]]
        renamed = [f"{family}::{name}" for family, name in zip(families, names, strict=True)]
        np.savez(tmp_path / "d.npz", features=archive["features"], feature_names=renamed)
    with pytest.raises(DataError, match=said):
        tokenize.main([checkpoint, str(tmp_path / "d.npz"), "--out", str(tmp_path / "t.h5"), "--device", "cpu"])


def test_outputs_replace_their_own_kind_alone(checkpoint: str, dataset: Path, tokens: Path, tmp_path: Path) -> None:
    again = [checkpoint, str(dataset), "--device", "cpu", "--out"]
    assert tokenize.main([*again, str(tokens)]) == 0
    features = tmp_path / f"features{tokens.suffix}"
    for _ in range(2):
        assert detokenize.main([checkpoint, str(tokens), "--out", str(features), "--device", "cpu"]) == 0
    (tmp_path / "mine.parquet").write_bytes(features.read_bytes())
    before = dataset.read_bytes()
    with pytest.raises(ConfigError, match="something else than a file of tokens"):
        tokenize.main([*again, str(features)])
    with pytest.raises(ConfigError, match="something else than a file of rebuilt features"):
        detokenize.main([checkpoint, str(tokens), "--out", str(dataset)])
    with pytest.raises(ConfigError, match="end the name with one"):
        tokenize.main([*again, str(tmp_path / "tokens.txt")])
    assert dataset.read_bytes() == before


def test_json_says_what_came_of_it(
    checkpoint: str, dataset: Path, tmp_path: Path, outcome: TrialOutcome, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tokens.parquet"
    tokenize.main([checkpoint, str(dataset), "--out", str(out), "--device", "cpu", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["rows"] == ROWS
    assert said["bits_per_sample"] == pytest.approx(outcome.validation.bits_per_sample)
    assert 0 < said["bits_carried"] <= said["bits_per_sample"]


def test_families_with_encoders_are_read_batch_by_batch_with_their_fields(
    operators_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    families = {"initial": {"encoder": "initial_hybrid"}, "temporal": {"encoder": "temporal_cnn"}}
    config = TrialConfig(
        prepare={"dataset": str(operators_file), "families": families, "categories": {"count": 3}},
        training={"epochs": 1, "batch_size": 32, "device": "cpu"},
        model={"hidden": 8},
    )
    run_trial(config, prepare(config.prepare)).save(tmp_path / "checkpoint")
    monkeypatch.setattr(tokenize, "BATCH_ROWS", 50)
    checkpoint, tokens = str(tmp_path / "checkpoint"), tmp_path / "tokens.h5"
    assert tokenize.main([checkpoint, "--out", str(tokens), "--device", "cpu"]) == 0  # what it was trained on
    tokenizer = load_checkpoint(checkpoint, device="cpu")
    [batch] = open_tokens(tokens).batches(1000)
    assert np.array_equal(from_columns(batch.tokens, tokenizer), tokenizer.encode(load_table(config.prepare)))
    assert detokenize.main([checkpoint, str(tokens), "--out", str(tmp_path / "f.h5"), "--device", "cpu"]) == 0
    assert "those of initial, temporal as encoded" in capsys.readouterr().out


def test_rows_too_few_to_train_on_are_tokenized(checkpoint: str, dataset: Path, tmp_path: Path) -> None:
    with np.load(dataset) as archive:
        np.savez(tmp_path / "two.npz", features=archive["features"][:2], feature_names=archive["feature_names"])
    assert tokenize.main([checkpoint, str(tmp_path / "two.npz"), "--out", str(tmp_path / "two.h5")]) == 0
    assert open_tokens(tmp_path / "two.h5").rows == 2


def test_flipped_bytes_are_read_or_refused(tokens: Path, checkpoint: str, tmp_path: Path) -> None:
    tokenizer = load_checkpoint(checkpoint, device="cpu")
    sound, rng, refusals = tokens.read_bytes(), np.random.default_rng(0), list[str]()
    path = tmp_path / f"damaged{tokens.suffix}"
    for _ in range(60):
        damaged = bytearray(sound)
        for place in rng.integers(0, len(sound), rng.integers(1, 30)):
            damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            found = open_tokens(path)
            found.require_made_by(tokenizer)
            for batch in found.batches(100):
                tokenizer.decode(from_columns(batch.tokens, tokenizer))
        except DataError as error:
            refusals.append(str(error))
    assert refusals
    assert not any("\n" in said for said in refusals)
