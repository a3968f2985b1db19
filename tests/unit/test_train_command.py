"""python -m spinlock_dist.train: what it prints, what it compares, and how it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from spinlock_dist.baselines import CODECS
from spinlock_dist.checkpoint import load_checkpoint
from spinlock_dist.checkpoint_metadata import STATE
from spinlock_dist.config import TrialConfig
from spinlock_dist.data.load import load_table
from spinlock_dist.errors import ConfigError, DataError, run_command
from spinlock_dist.metrics.record import EpochMetrics, Metrics
from spinlock_dist.prepare import prepare
from spinlock_dist.run import run_trial
from spinlock_dist.tables import TERMS_IN_WORDS, codebook_use, epoch_in_words
from spinlock_dist.train import main
from spinlock_dist.training.trainer import TERMS
from tests.synthetic import write_table

QUICK = ["--epochs", "2", "--device", "cpu", "--set", "model.hidden=8", "--set", "training.batch_size=64"]
SIMULATED = "simulator: {samples: 40, grid: 8, steps: 8, realizations: 1}"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("data") / "table.npz", rows=160)


@pytest.fixture(scope="module")
def config(dataset: Path) -> Path:
    path = dataset.parent / "trial.yaml"
    path.write_text(f"prepare: {{dataset: {dataset}, categories: {{count: 3}}}}\ncompression: {{strategy: balanced}}\n")
    return path


def printed_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run the command as a program would; return its exit code and what it says on stderr."""
    with pytest.raises(SystemExit) as stop:
        run_command(lambda: main(list(arguments)))
    return int(stop.value.code or 0), capsys.readouterr().err


def test_the_table_shows_every_category_with_its_codebooks(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(config), *QUICK]) == 0
    shown = capsys.readouterr().out
    for heading in ("category", "codes", "carried", "bits", "FVU", "raw MSE", "used", "dead"):
        assert heading in shown
    rows = [line.split() for line in shown.splitlines() if line.split()[:1] and line.split()[0].startswith("cluster_")]
    assert len(rows) == 3
    assert all(row[-2].endswith("%") for row in rows)
    total = re.search(r"(\d+) dead codes", shown)
    assert total is not None and int(total[1]) == sum(int(row[-1]) for row in rows)


def test_codebook_use_agrees_with_the_totals(config: Path) -> None:
    trial = TrialConfig().with_overrides(
        {"prepare.dataset": str(config.parent / "table.npz"), "training.epochs": 1, "model.initialization": "random"}
    )
    score = run_trial(trial, prepare(trial.prepare)).validation
    use = {name: codebook_use(score, name) for name in score.fvu}
    assert sum(dead for _, dead in use.values()) == score.dead_codes > 0
    levels = {name: sum(book["category"] == name for book in score.codebooks) for name in score.fvu}
    mean = sum(use[name][0] * levels[name] for name in use) / sum(levels.values())
    assert mean == pytest.approx(score.utilization)
    assert codebook_use(score, "none of this name") == (1.0, 0)


def test_compare_trains_the_baseline_beside_it_on_the_same(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = printed_json(capsys, "--config", str(config), *QUICK, "--compare", "uniform", "--test")
    alone = printed_json(capsys, "--config", str(config), *QUICK, "--set", "compression.strategy=uniform")
    assert (both["strategy"], both["compared"]["strategy"]) == ("balanced", "uniform")
    assert both["fingerprint"] == alone["fingerprint"]
    assert both["compared"]["validation"]["fvu"] == pytest.approx(alone["validation"]["fvu"], rel=1e-3)
    assert both["compared"]["validation"]["bits_per_sample"] == alone["validation"]["bits_per_sample"]
    assert both["validation"]["bits_per_sample"] <= alone["validation"]["bits_per_sample"]
    assert both["test"]["split"] == both["compared"]["test"]["split"] == "test"
    assert "compared" not in alone and "test" not in alone


def test_compare_shows_both_side_by_side(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "checkpoint"
    assert main(["--config", str(config), *QUICK, "--compare", "uniform", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "side by side" in shown and f"checkpoint: {out}" in shown
    assert re.search(r"^balanced, validation: imbalance \S+x", shown, re.MULTILINE)
    for name in ("uniform", "joint_least_squares"):
        assert re.search(rf"^{name}, validation: imbalance \S+x", shown, re.MULTILINE)
    changes = re.findall(r"cluster_\d .*?(\d\.\d{4}) +(\d\.\d{4}) +([+-]\d+)%", shown)
    assert len(changes) == 3
    for before, after, change in changes:
        assert float(after) / float(before) - 1 == pytest.approx(
            int(change) / 100, abs=0.05
        )  # of figures rounded for print
    assert load_checkpoint(out).config.compression.strategy == "balanced"


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_compare_with_a_codec_at_the_same_bits(config: Path, capsys: pytest.CaptureFixture[str], codec: str) -> None:
    both = printed_json(capsys, "--config", str(config), *QUICK, "--compare", codec, "--test")
    other = both["compared"]
    assert (both["strategy"], other["codec"]) == ("balanced", codec) and "strategy" not in other
    assert 0.95 * both["validation"]["bits_per_sample"] <= other["validation"]["bits_per_sample"]
    assert other["validation"]["bits_per_sample"] <= both["validation"]["bits_per_sample"]
    shared = set(other["validation"]) & set(both["validation"])
    assert shared == set(other["validation"]) >= {"fvu", "mse_raw", "imbalance_raw", "worst_category", "dead_codes"}
    for split in ("validation", "test"):
        assert other[split]["split"] == split and other[split]["fvu"].keys() == both[split]["fvu"].keys()
    least = both["without_network"]
    assert least["codec"] == "joint_least_squares"
    assert least["validation"]["bits_per_sample"] == pytest.approx(both["validation"]["bits_per_sample"])


def test_a_codec_is_shown_side_by_side_in_80_columns(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--config", str(config), *QUICK, "--compare", "residual_kmeans"]) == 0
    shown = capsys.readouterr().out
    assert len(re.findall(r"cluster_\d .*?\d\.\d{4} +\d\.\d{4} +[+-]\d+%", shown)) == 3
    assert re.search(r"^residual_kmeans, validation: imbalance \S+x", shown, re.MULTILINE)
    assert "…" not in shown[shown.index("side by side") :]


@pytest.mark.parametrize("columns", [80, 200])
def test_the_progress_line_has_losses_imbalance_and_utilization(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert (
        main(["--config", str(config), *QUICK, "--set", "loss.topographic=0.1", "--set", "training.refine_share=0"])
        == 0
    )
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("2/2"))
    figures = r"loss \d\.\d{3} rec \d\.\d{3}.* worst \d\.\d{3} imbalance \d+\.\d\dx util \d+%$"
    assert re.search(figures, line.rstrip()) and len(line.rstrip()) <= columns
    assert all((term in line) == (columns == 200) for term in ("inform", "topo"))


def test_the_progress_line_drops_terms_from_the_end(make_metrics: Callable[..., Metrics]) -> None:
    losses = {"reconstruction": 0.25, "commitment": 0.125, "total": 0.5}
    epoch = EpochMetrics(
        epoch=1, trained=1, finished=False, losses=losses, validation=make_metrics(0.5, 0.1), seconds=1.0
    )
    rest = " worst 0.500 imbalance 5.00x util 100%"
    whole = "loss 0.500 rec 0.250 commit 0.125" + rest
    assert epoch_in_words(epoch, len(whole)) == whole
    assert epoch_in_words(epoch, len(whole) - 1) == "loss 0.500 rec 0.250" + rest
    assert epoch_in_words(epoch, 10) == "loss 0.500" + rest
    assert set(TERMS_IN_WORDS) == {"total", *TERMS}


def test_flags_override_the_file(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "checkpoint"
    main(["--config", str(config), *QUICK, "--seed", "9", "--set", "compression.strategy=variance", "--out", str(out)])
    kept = load_checkpoint(out).config
    assert (kept.seed, kept.compression.strategy, kept.training.epochs, kept.model.hidden) == (9, "variance", 2, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--compare", "unifrom"], "unknown strategy or codec 'unifrom'; did you mean 'uniform'"),
        (["--compare", "residual_kmean"], "did you mean 'residual_kmeans'"),
        (["--compare", "balanced"], "this is the config's own strategy"),
        (["--set", "compression.strategy=balance"], "did you mean 'balanced'"),
        (["--set", "model.hiden=8"], "did you mean 'hidden'"),
        (["--set", "model.hidden"], "expected NAME=VALUE"),
        (["--dataset", "nowhere.npz"], "nowhere.npz: no such dataset"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--epochs", "0"], "training.epochs"),
    ],
)
def test_what_a_user_can_get_wrong_ends_with_2(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, said = refused(capsys, "--config", str(config), *QUICK, *arguments)
    assert code == 2
    assert message in said and "Traceback" not in said and len(said.splitlines()) <= 2


@pytest.mark.parametrize("compare", [[], ["--compare", "uniform"]])
def test_a_diverged_training_ends_with_1(config: Path, capsys: pytest.CaptureFixture[str], compare: list[str]) -> None:
    code, said = refused(capsys, "--config", str(config), *QUICK, "--set", "training.learning_rate=1e30", *compare)
    assert code == 1
    assert "strategy balanced diverged in epoch" in said and "lower training.learning_rate" in said


def test_the_preset_trains_on_simulated_operators(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "preset.yaml"
    path.write_text(f"preset: spinlock\nprepare: {{{SIMULATED}}}\n")
    result = printed_json(capsys, "--config", str(path), *QUICK, "--compare", "uniform")
    assert result["strategy"] == "balanced"
    assert result["validation"]["bits_per_sample"] == result["compared"]["validation"]["bits_per_sample"]


def test_the_preset_trains_on_a_file_of_spinlock(
    tmp_path: Path, spinlock_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "preset.yaml"
    path.write_text("preset: spinlock\n")
    result = printed_json(capsys, "--config", str(path), "--dataset", str(spinlock_file), *QUICK)
    assert result["validation"]["utilization"] < 1, "codebooks that start as noise and are never revived"


def test_a_yaml_of_spinlock_trains_and_names_what_is_not_mapped(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spinlock.yaml"
    path.write_text(
        f"dataset_path: {dataset}\nmodel: {{group_embedding_dim: 64, compression_ratios: auto}}\n"
        "training: {num_epochs: 2, batch_size: 64, bach_size: 1}\n"
    )
    assert main(["--config", str(path), "--json"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert (result["strategy"], result["epochs"]) == ("balanced", 2)
    assert "not mapped: group_embedding_dim (" in printed.err
    assert "bach_size (unknown key; did you mean 'batch_size'?)" in printed.err


@pytest.mark.parametrize("named", ["", "dataset_path: null\n"])
def test_a_yaml_of_spinlock_without_a_dataset_is_not_trained_on_another(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], named: str
) -> None:
    path = tmp_path / "spinlock.yaml"
    path.write_text(f"{named}random_seed: 3\ntraining: {{batch_size: 64}}\n")
    code, said = refused(capsys, "--config", str(path))
    assert code == 2 and f"{path}: names no dataset_path; add it or give --dataset FILE" in said
    assert printed_json(capsys, "--config", str(path), "--dataset", str(dataset), *QUICK)["epochs"] == 2


def test_errors_are_raised_as_their_kind(config: Path) -> None:
    with pytest.raises(ConfigError):
        main(["--config", str(config), "--compare", "nothing"])
    with pytest.raises(DataError):
        main(["--config", str(config), "--dataset", "nowhere.npz"])


# ---------------------------------------------------------------- a dry run


def test_a_dry_run_says_what_a_training_then_has(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned = printed_json(capsys, "--config", str(config), *QUICK, "--dry-run")
    trained = printed_json(capsys, "--config", str(config), *QUICK)
    assert planned["bits_per_sample"] == trained["validation"]["bits_per_sample"]
    assert [each["name"] for each in planned["categories"]] == list(trained["validation"]["fvu"])
    codes = [book["codes"] for book in trained["validation"]["codebooks"]]
    assert codes == [size for each in planned["categories"] for level in each["codes"] for size in level if size > 1]
    assert sum(planned["rows"].values()) == 160
    assert planned["epochs"] == 2
    assert planned["steps_per_epoch"] == planned["rows"]["train"] // 64


def test_a_dry_run_trains_nothing_and_is_refused_as_the_training_would_be(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(config), *QUICK, "--dry-run", "--out", str(tmp_path / "ckpt")]) == 0
    assert "Nothing was trained" in capsys.readouterr().out
    assert not (tmp_path / "ckpt").exists()
    impossible = ["--set", "compression.min_rows_per_code=1000"]
    code, said = refused(capsys, "--config", str(config), *QUICK, "--dry-run", *impossible)
    assert code == 2 and "every codebook has one code" in said


# ---------------------------------------------------------------- trained on


@pytest.fixture
def trained(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    constant = ["--set", "training.schedule=constant", "--set", "training.refine_share=0"]
    printed_json(capsys, "--config", str(config), *QUICK, *constant, "--out", str(tmp_path / "ckpt"))
    return tmp_path / "ckpt"


def test_resumed_at_a_constant_rate_it_ends_as_if_trained_in_one_go(
    config: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on = printed_json(capsys, "--resume", str(trained), "--epochs", "2", "--out", str(trained))
    on = printed_json(capsys, "--resume", str(trained), "--epochs", "1", "--out", str(trained))
    constant = ["--set", "training.schedule=constant", "--set", "training.refine_share=0"]
    options = [*constant, "--epochs", "5", "--out", str(tmp_path / "once")]
    once = printed_json(capsys, "--config", str(config), *QUICK, *options)
    assert on == once
    weights = [load_checkpoint(folder, device="cpu").model.state_dict() for folder in (trained, tmp_path / "once")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_with_early_stopping_the_best_epoch_so_far_is_kept(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopping = ["--set", "training.patience=2", "--set", "training.evaluate_every=1"]
    first = printed_json(capsys, "--config", str(config), *QUICK, *stopping, "--out", str(tmp_path / "ckpt"))
    on = printed_json(capsys, "--resume", str(tmp_path / "ckpt"), "--epochs", "3", "--out", str(tmp_path / "ckpt"))
    assert on["validation"]["fvu_worst"] <= first["validation"]["fvu_worst"]
    kept = load_checkpoint(tmp_path / "ckpt", device="cpu")
    assert kept.evaluate(load_table(kept.config.prepare), "validation").fvu_worst == on["validation"]["fvu_worst"]


def test_what_cannot_be_resumed_is_refused(
    config: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, said in (
        (["--epochs", "2", "--config", str(config)], "--config: --resume trains the config"),
        (["--epochs", "2", "--compare", "uniform"], "--compare: --resume"),
        ([], "--epochs N"),
        (["--epochs", "2", "--dataset", str(write_table(tmp_path / "other.npz", 160, seed=3))], "other data"),
    ):
        code, text = refused(capsys, "--resume", str(trained), *options)
        assert code == 2 and said in text and "Traceback" not in text
    (trained / STATE).write_bytes((trained / STATE).read_bytes()[:-9])
    assert "damaged" in refused(capsys, "--resume", str(trained), "--epochs", "2")[1]
    (trained / STATE).unlink()
    assert "cannot be resumed" in refused(capsys, "--resume", str(trained), "--epochs", "2")[1]
