"""The last part of a training: decoders alone, on the tokens that search finds."""

from __future__ import annotations

import pytest
import torch

from spinlock_dist.config import TrialConfig
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import run_trial
from tests.synthetic import write_table

ENGINES = ("compiled", "torch")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrialConfig:
    dataset = write_table(tmp_path_factory.mktemp("data") / "table.npz", 600, sizes=(8, 4, 36))  # two buckets
    return TrialConfig(
        prepare={"dataset": str(dataset), "categories": {"count": 3}},
        training={"epochs": 6, "evaluate_every": 1, "batch_size": 32, "device": "cpu"},
        model={"hidden": 8},
    )


@pytest.fixture(scope="module")
def data(config: TrialConfig) -> PreparedData:
    return prepare(config.prepare)


@pytest.mark.parametrize("engine", ENGINES)
def test_only_decoders_move_and_the_training_rows_are_rebuilt_better(config, data, engine) -> None:
    parts = {"training.engine": engine, "training.epochs": 3, "training.refine_share": 0}
    first = run_trial(config.with_overrides(parts), data)
    whole = run_trial(config.with_overrides({"training.engine": engine, "training.refine_share": 0.5}), data)
    before, after = (outcome.tokenizer.model.state_dict() for outcome in (first, whole))
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert moved == {name for name in before if ".decoder." in name}
    assert whole.evaluate("train").fvu_mean < 0.99 * first.evaluate("train").fvu_mean


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9])
def test_the_share_is_of_the_epochs_and_at_least_one_trains_all(config, data, share) -> None:
    reports = []
    run_trial(config.with_overrides({"training.refine_share": share}), data, reports.append)
    trained = [report.epoch for report in reports if "commitment" in report.losses]
    assert trained == list(range(1, {0.0: 6, 0.3: 4, 0.5: 3, 0.9: 1}[share] + 1))
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "overrides",
    [
        {"quantizer.beam": 1},
        {"quantizer.kind": "fsq"},
        {"model.decoder": "shared", "model.levels": "parallel"},
    ],
    ids=["greedy", "finite scalars", "shared decoder"],
)
def test_encoders_learn_to_the_end_where_tokens_are_theirs(config, data, overrides) -> None:
    shares = ({"training.refine_share": share} for share in (0, 0.5))
    one, other = (run_trial(config.with_overrides({**overrides, **share}), data) for share in shares)
    assert one.validation == other.validation
