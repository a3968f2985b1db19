"""Checkpoints of Spinlock: read as data, rebuilt exactly, diagnosed on the rows that it kept from its training."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import spinlock_dist.diagnose
from spinlock_dist.errors import CheckpointError, ConfigError, DataError
from spinlock_dist.interop.spinlock_checkpoint import SpinlockCheckpoint, read_spinlock_checkpoint
from spinlock_dist.interop.spinlock_tokenizer import as_tokenizer, its_split, its_table

ROWS, SUMMARY, STEPS, PER_STEP, MANUAL, SIDE = 60, 12, 16, 5, 6, 16
OUTPUT, EMBEDDING, CNN = 7, 6, 4
HIDDEN, GROUP = 8, 10
CODES, DIMS = ((9, 5, 3), (6, 4, 2)), ((4, 8, 8), (4, 4, 8))
LOST = 3
"""A column, among those that cleaning kept, that is in no category."""


class Residual(nn.Module):
    """As its encoders of series and fields are made up."""

    def __init__(self, conv: Any, norm: Any, inputs: int, outputs: int):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, 3, stride=2, padding=1, bias=False), norm(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, 3, padding=1, bias=False), norm(outputs)
        self.skip = nn.Sequential(conv(inputs, outputs, 1, stride=2, bias=False), norm(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(inner + self.skip(x))


class ResNet(nn.Module):
    """`[B, C, ...]` to `[B, output]`."""

    def __init__(self, conv: Any, norm: Any, pool: Any, inputs: int, output: int):
        super().__init__()
        first = conv(inputs, 32, 7, stride=2, padding=3, bias=False)
        self.stage1 = nn.Sequential(first, norm(32), nn.ReLU(), pool(3, stride=2, padding=1))
        self.stage2 = Residual(conv, norm, 32, 64)
        self.stage3 = Residual(conv, norm, 64, 128)
        self.stage4 = Residual(conv, norm, 128, 256)
        self.fc, self.bn_final = nn.Linear(256, output), nn.BatchNorm1d(output)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stage4(self.stage3(self.stage2(self.stage1(x))))
        return self.bn_final(self.fc(x.flatten(2).mean(dim=2)))


class MLP(nn.Module):
    def __init__(self, activation: nn.Module):
        super().__init__()
        hidden = [nn.Linear(SUMMARY, 16), nn.BatchNorm1d(16), activation, nn.Dropout(0.1)]
        self.encoder = nn.Sequential(*hidden, nn.Linear(16, OUTPUT), nn.BatchNorm1d(OUTPUT))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x)


class Theirs(nn.Module):
    """Its model, with the names that it gives its parts."""

    def __init__(self, columns: dict[str, list[int]], width: int):
        super().__init__()
        self.columns = columns
        mlps, heads = {}, {}
        for group, (name, own) in enumerate(columns.items()):
            net = nn.Sequential(
                *(nn.Linear(len(own), HIDDEN), nn.ReLU(), nn.Dropout(0.1)),
                *(nn.Linear(HIDDEN, GROUP), nn.LayerNorm(GROUP)),
            )
            mlps[name] = nn.ModuleDict({"net": net})
            heads[name] = nn.ModuleList(
                nn.Sequential(nn.Linear(GROUP, dim), nn.Dropout(0.1), nn.LayerNorm(dim)) for dim in DIMS[group]
            )
        self.feature_extractor = nn.ModuleDict({"group_mlps": nn.ModuleDict(mlps)})
        self.projector = nn.ModuleDict({"projection_heads": nn.ModuleDict(heads)})
        sizes = [size for group in range(len(columns)) for size in zip(CODES[group], DIMS[group], strict=True)]
        self.vq_layers = nn.ModuleList(nn.ModuleDict({"embedding": nn.Embedding(*size)}) for size in sizes)
        total = sum(map(sum, DIMS))
        self.shared_decoder = nn.Sequential(nn.Linear(total, 256), nn.ReLU(), nn.Dropout(0.1), nn.Linear(256, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        codes = []
        for name, own in self.columns.items():
            embedding = self.feature_extractor["group_mlps"][name]["net"](x[:, own])
            for head in self.projector["projection_heads"][name]:
                book = self.vq_layers[len(codes)]["embedding"].weight
                away = (head(embedding)[:, None] - book[None]).square().sum(dim=2)
                codes.append(book[away.argmin(dim=1)])
        return self.shared_decoder(torch.cat(codes, dim=1))


class Case:
    """A dataset, a checkpoint that Spinlock could have written of it, and what the model makes of all rows."""

    def __init__(self, folder: Path, hybrid: bool, robust: bool, method: str | None, activation: str = "relu"):
        torch.manual_seed(3)
        self.rng = np.random.default_rng(3)
        self.folder, self.hybrid, self.robust, self.method = folder, hybrid, robust, method
        self.dataset, self.path = folder / "d.h5", folder / "best_model.pt"
        self.mlp = MLP({"relu": nn.ReLU(), "gelu": nn.GELU(), "tanh": nn.Tanh()}[activation])
        self.activation = activation
        self.series = ResNet(nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d, PER_STEP, EMBEDDING)
        self.cnn = ResNet(nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, 1, CNN)
        for network in (self.mlp, self.series, self.cnn):  # statistics as after a training
            for module in network.modules():
                if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                    nn.init.uniform_(module.running_mean, -0.1, 0.1)
                    nn.init.uniform_(module.running_var, 0.5, 2)
        self.write()

    def write(self) -> None:
        summary = self.rng.standard_normal((ROWS, SUMMARY)).astype(np.float32)
        summary[3, 2] = np.nan
        series = self.rng.standard_normal((ROWS, STEPS, PER_STEP)).cumsum(axis=1).astype(np.float32)
        manual = self.rng.standard_normal((ROWS, MANUAL)).astype(np.float32)
        fields = self.rng.standard_normal((ROWS, 3, SIDE, SIDE)).astype(np.float32)
        with h5py.File(self.dataset, "w") as file:
            file["features/summary/aggregated/features"] = summary
            file["features/temporal/features"] = series
            file["features/initial/aggregated/features"] = manual
            file["inputs/fields"] = fields
        with torch.no_grad():
            parts = [
                self.series.eval()(torch.from_numpy(series).transpose(1, 2)).numpy(),
                manual,
                self.mlp.eval()(torch.from_numpy(np.nan_to_num(summary))).numpy(),
            ]
            inside = self.cnn.eval()(torch.from_numpy(fields).mean(dim=1, keepdim=True)).numpy()
        x = np.concatenate(parts, axis=1).astype(np.float64)
        manual_at = np.arange(x.shape[1])
        is_manual = (manual_at >= EMBEDDING) & (manual_at < EMBEDDING + MANUAL)
        mask = np.ones(x.shape[1], dtype=bool)
        mask[[1, EMBEDDING + MANUAL + 2]] = self.method is None
        raw = x[:, mask]
        protected = is_manual[mask] & self.hybrid
        clean = np.where(protected, raw, self.clip(raw))
        columns = {
            "a": list(range(0, raw.shape[1], 2)),
            "b": [column for column in range(1, raw.shape[1], 2) if column != LOST],
        }
        statistics = {name: self.statistics(clean[:, own]) for name, own in columns.items()}
        for name, own in columns.items():
            first, second = statistics[name].__dict__.values()
            clean[:, own] = (clean[:, own] - first) / second
        ours = columns
        if self.hybrid:
            behind = int(np.flatnonzero(protected)[-1]) + 1
            clean = np.concatenate([clean[:, :behind], inside, clean[:, behind:]], axis=1)
            ours = {name: [c if c < behind else c + CNN for c in own] for name, own in columns.items()}
            ours["a"] = sorted([*ours["a"], *range(behind, behind + CNN)])
        self.values, self.columns = clean, ours
        model = Theirs(ours, clean.shape[1]).eval()
        with torch.no_grad():
            self.output = model(torch.from_numpy(clean).float()).numpy()
        self.save(model, columns, statistics, mask)

    def clip(self, x: np.ndarray) -> np.ndarray:
        if self.method is None:
            return x
        if self.method == "percentile":
            low, high = np.percentile(x, (2, 98), axis=0)
        elif self.method == "iqr":
            low, high = (
                np.percentile(x, at, axis=0) + by * np.subtract(*np.percentile(x, (75, 25), axis=0))
                for at, by in ((25, -1.2), (75, 1.2))
            )
        else:
            median = np.median(x, axis=0)
            reach = 2.5 * np.median(np.abs(x - median), axis=0)
            low, high = median - reach, median + reach
        return np.clip(x, low, high)

    def statistics(self, x: np.ndarray) -> Any:
        module = sys.modules["spinlock.encoding.normalization"]
        if not self.robust:
            return module.NormalizationStats(mean=x.mean(axis=0), std=x.std(axis=0))
        median = np.median(x, axis=0)
        return module.RobustNormalizationStats(median=median, mad=1.4826 * np.median(np.abs(x - median), axis=0))

    def save(self, model: Theirs, columns: Any, statistics: Any, mask: np.ndarray) -> None:
        weights = model.state_dict()
        if self.hybrid:
            cnn = {f"initial_encoder.cnn_encoder.{name}": each for name, each in self.cnn.state_dict().items()}
            weights = OrderedDict(cnn | {f"vqvae.{name}": each for name, each in weights.items()})
        hybrid = {"encoder": "InitialHybridEncoder", "encoder_params": {"manual_dim": MANUAL, "cnn_embedding_dim": CNN}}
        identity = {"encoder": "IdentityEncoder", "encoder_params": {}}
        series = {"encoder": "TemporalCNNEncoder", "encoder_params": {"embedding_dim": EMBEDDING}}
        mlp = {"encoder": "MLPEncoder", "encoder_params": {"output_dim": OUTPUT, "activation": self.activation}}
        families = {"temporal": series, "initial": hybrid if self.hybrid else identity, "summary": mlp}
        cleaning = {
            "outlier_method": self.method,
            "percentile_range": [2.0, 98.0],
            "iqr_multiplier": 1.2,
            "mad_threshold": 2.5,
        }
        states = {
            family: {
                "encoder_name": families[family]["encoder"],
                "encoder_params": families[family]["encoder_params"],
                "state_dict": network.state_dict(),
            }
            for family, network in (("temporal", self.series), ("summary", self.mlp))
        }
        self.content = {
            "epoch": 4,
            "model_state_dict": weights,
            "val_loss": np.float64(1.5),
            "config": {"dataset_path": pathlib.PosixPath(self.dataset), "families": families, "random_seed": 11},
            "pre_model_group_indices": columns,
            "normalization_stats": statistics,
            "encoder_state_dicts": states,
            "model_config": {"group_indices": self.columns},
        }
        if self.method is not None:
            self.content |= {"feature_mask": mask, "feature_cleaning_params": cleaning}
        torch.save(self.content, self.path)

    def fvu(self, rows: np.ndarray, mean_of: np.ndarray) -> dict[str, float]:
        found = {}
        for name, own in self.columns.items():
            target = self.values[rows][:, own]
            left = np.square(target - self.output[rows][:, own]).sum()
            found[name] = float(left / np.square(target - self.values[mean_of][:, own].mean(axis=0)).sum())
        return found


@pytest.fixture(scope="module", autouse=True)
def its_classes() -> Iterator[None]:
    """Its classes of statistics, under their names, while files are written; not while they are read."""
    module = types.ModuleType("spinlock.encoding.normalization")
    for name in ("NormalizationStats", "RobustNormalizationStats"):
        made = type(name, (), {"__init__": lambda self, **given: self.__dict__.update(given)})
        made.__module__ = module.__name__
        setattr(module, name, made)
    known = {name: types.ModuleType(name) for name in ("spinlock", "spinlock.encoding")} | {module.__name__: module}
    sys.modules.update(known)
    yield
    for name in known:
        sys.modules.pop(name, None)


CASES = {
    "percentiles": (False, False, "percentile", "relu"),
    "quartiles, MAD": (False, True, "iqr", "gelu"),
    "MAD": (False, False, "mad", "tanh"),
    "not cleaned": (False, False, None, "relu"),
    "a CNN inside": (True, False, "percentile", "relu"),
    "a CNN inside, not cleaned": (True, True, None, "relu"),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, its_classes: None) -> Case:
    return Case(tmp_path_factory.mktemp("case"), *CASES[request.param])


@pytest.fixture
def one(tmp_path: Path) -> Case:
    return Case(tmp_path, *CASES["percentiles"])


def diagnosis(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert spinlock_dist.diagnose.main([*map(str, arguments), "--json", "--device", "cpu"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_its_model_is_rebuilt_exactly(case: Case) -> None:
    checkpoint = read_spinlock_checkpoint(case.path)
    assert (checkpoint.codes.tolist(), checkpoint.dims.tolist()) == ([*map(list, CODES)], [*map(list, DIMS)])
    table = its_table(checkpoint, None)
    tokenizer = as_tokenizer(checkpoint, table, "cpu")
    used = sorted(column for own in case.columns.values() for column in own)
    values = tokenizer.pipeline.transform(table)
    assert values == pytest.approx(case.values[:, used], rel=1e-4, abs=1e-4)
    tokens = tokenizer.encode(table)
    assert tokens.shape == (ROWS, 2, 3)
    decoded = tokenizer.pipeline.normalize(tokenizer.decode(tokens))
    assert decoded == pytest.approx(case.output[:, used], rel=1e-3, abs=1e-3)


def test_diagnosed_on_the_rows_that_it_did_not_train_on(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    order = np.random.RandomState(11).permutation(ROWS)
    found = diagnosis(capsys, case.path)
    assert (found["rows"], found["row_count"], found["codebook_row_count"]) == ("validation", ROWS // 10, 54)
    assert found["is_training_data"]
    expected = case.fvu(order[54:], order[:54])
    assert {each["name"]: each["fvu"] for each in found["categories"]} == pytest.approx(expected, rel=1e-4)
    names = {feature["family"] for each in found["categories"] for feature in each["features"]}
    assert names == {"temporal", "initial", "summary"}


def test_another_dataset_is_scored_on_all_rows(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    found = diagnosis(capsys, case.path, "--dataset", case.dataset)
    everything = np.arange(ROWS)
    assert (found["rows"], found["row_count"]) == ("all", ROWS)
    expected = case.fvu(everything, everything)
    assert {each["name"]: each["fvu"] for each in found["categories"]} == pytest.approx(expected, rel=1e-4)


def test_what_cannot_be_expressed_is_said(one: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert spinlock_dist.diagnose.main([str(one.path), "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "a model of Spinlock after 4 epochs; not converted to a checkpoint" in told
    assert "1 of its 17 columns are in no category and not scored" in told


def test_rows_of_other_statistics_are_no_training_data(one: Case, tmp_path: Path) -> None:
    with h5py.File(one.dataset, "a") as file:
        file["features/initial/aggregated/features"][:] += 1
    checkpoint = read_spinlock_checkpoint(one.path)
    assert as_tokenizer(checkpoint, its_table(checkpoint, None), "cpu").fingerprint == ""


def test_its_rows_are_a_permutation_by_its_seed(one: Case) -> None:
    split = its_split(read_spinlock_checkpoint(one.path), ROWS)
    assert sorted([*split.train, *split.validation]) == [*range(ROWS)]
    assert split.validation.tolist() == sorted(np.random.RandomState(11).permutation(ROWS)[54:])


class TestRefusals:
    """What a file may not be, each in a line."""

    def refused(self, path: Path) -> str:
        with pytest.raises(CheckpointError) as refusal:
            read_spinlock_checkpoint(path)
        assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)
        return str(refusal.value)

    def changed(self, case: Case, **content: Any) -> Path:
        torch.save({**case.content, **content}, case.path)
        return case.path

    def test_what_would_run_code_is_not_run(self, tmp_path: Path) -> None:
        class Attack:
            def __reduce__(self) -> Any:
                return os.mkdir, (str(tmp_path / "proof"),)

        torch.save({"model_state_dict": {}, "config": Attack()}, tmp_path / "evil.pt")
        assert "mkdir, which would run code" in self.refused(tmp_path / "evil.pt")
        assert not (tmp_path / "proof").exists()

    def test_files_of_others(self, tmp_path: Path) -> None:
        (tmp_path / "text.pt").write_text("no checkpoint")
        assert "damaged, or not a file that Spinlock wrote" in self.refused(tmp_path / "text.pt")
        (tmp_path / "empty.pt").write_bytes(b"")
        self.refused(tmp_path / "empty.pt")
        torch.save([1, 2], tmp_path / "list.pt")
        assert "no model_state_dict" in self.refused(tmp_path / "list.pt")

    def test_a_truncated_file(self, one: Case) -> None:
        one.path.write_bytes(one.path.read_bytes()[:-2000])
        self.refused(one.path)

    def test_weights_that_are_not_finite(self, one: Case) -> None:
        weights = dict(one.content["model_state_dict"])
        weights["shared_decoder.0.bias"] = torch.full((256,), torch.nan)
        assert "not finite" in self.refused(self.changed(one, model_state_dict=weights))

    @pytest.mark.parametrize("missing", ["shared_decoder.3.bias", "vq_layers.5.embedding.weight"])
    def test_weights_that_are_not_there(self, one: Case, missing: str) -> None:
        weights = {name: each for name, each in one.content["model_state_dict"].items() if name != missing}
        assert missing in self.refused(self.changed(one, model_state_dict=weights))

    @pytest.mark.parametrize(
        "content",
        [
            {"model_config": {"group_indices": {"a": [0, 0], "b": [1]}}},
            {"model_config": {"group_indices": {"a": [0], "b": [99]}}},
            {"model_config": {"group_indices": {"a": [0, 1], "b": [2]}}},
            {"model_config": {"group_indices": {"c": [0, 1]}}},
            {"model_config": {}, "pre_model_group_indices": {}},
            {"normalization_stats": {}},
            {"config": {}},
            {"config": 3},
            {"feature_mask": np.ones(3, dtype=bool)},
        ],
    )
    def test_contents_that_contradict_each_other(self, one: Case, content: dict[str, Any]) -> None:
        self.refused(self.changed(one, **content))

    def test_an_encoder_that_is_not_known(self, one: Case) -> None:
        families = {**one.content["config"]["families"], "initial": {"encoder": "WaveletEncoder"}}
        path = self.changed(one, config={**one.content["config"], "families": families})
        checkpoint = read_spinlock_checkpoint(path)
        with pytest.raises(CheckpointError, match="WaveletEncoder is not known"):
            as_tokenizer(checkpoint, its_table(checkpoint, None))


@pytest.mark.parametrize(
    ("path", "shape", "message"),
    [
        ("features/initial/aggregated/features", (ROWS, MANUAL + 1), "columns, and .* was trained on"),
        ("features/summary/aggregated/features", (ROWS, SUMMARY + 1), "an encoder does not fit"),
        ("features/temporal/features", (ROWS, EMBEDDING), "takes 3 axes, the dataset has 2"),
    ],
)
def test_a_dataset_of_other_columns_is_refused(one: Case, path: str, shape: tuple[int, ...], message: str) -> None:
    with h5py.File(one.dataset, "a") as file:
        del file[path]
        file[path] = np.zeros(shape, np.float32) + np.arange(ROWS)[:, None]
    checkpoint: SpinlockCheckpoint = read_spinlock_checkpoint(one.path)
    with pytest.raises((CheckpointError, DataError), match=message):
        as_tokenizer(checkpoint, its_table(checkpoint, None))


def test_a_dataset_that_has_moved_is_asked_for(one: Case, tmp_path: Path) -> None:
    one.dataset.rename(tmp_path / "moved.h5")
    checkpoint = read_spinlock_checkpoint(one.path)
    with pytest.raises(DataError, match=r"d\.h5.*--dataset FILE names it"):
        its_table(checkpoint, None)
    assert len(its_table(checkpoint, str(tmp_path / "moved.h5"))) == ROWS


def test_it_has_a_page_and_no_figures(one: Case, tmp_path: Path) -> None:
    """Figures are drawn from levels that its model does not have."""
    page, figures = tmp_path / "page.html", tmp_path / "figures"
    diagnosed = [str(one.path), "--device", "cpu"]
    with pytest.raises(ConfigError, match="--figures: drawn of checkpoints of this program alone"):
        spinlock_dist.diagnose.main([*diagnosed, "--figures", str(figures)])
    assert not figures.exists()
    assert spinlock_dist.diagnose.main([*diagnosed, "--html", str(page)]) == 0
    assert page.read_text().startswith("<!doctype html>")


def test_a_pointer_of_git_lfs_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n")
    with pytest.raises(CheckpointError, match=r"m\.pt: is a pointer of Git LFS, .*git lfs pull"):
        read_spinlock_checkpoint(tmp_path / "m.pt")
