"""No metric is finite where its inputs are not, and no checkpoint is used that is not finite or not what it says."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from spinlock_dist.categories.category import Category
from spinlock_dist.checkpoint import load_checkpoint
from spinlock_dist.checkpoint_metadata import META, WEIGHTS
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import CheckpointError, SpinlockError
from spinlock_dist.metrics.codebook_usage import codebook_usage
from spinlock_dist.metrics.reconstruction import gini, imbalance
from spinlock_dist.metrics.score import score
from spinlock_dist.metrics.scored import Codebook, Scored
from spinlock_dist.metrics.topology import row_distances
from spinlock_dist.prepare import prepare
from spinlock_dist.run import run_trial
from tests.fuzz import bounded, inputs
from tests.synthetic import write_table

ROWS, COLUMNS = 20, 6
CATEGORIES = (Category("a", (0, 1, 2)), Category("b", (3, 4, 5)))
MEASURED = ("fvu_mean", "fvu_worst", "imbalance", "log10_imbalance", "imbalance_by_chance", "imbalance_raw", "gini")
MEASURED += ("utilization", "utilization_split", "perplexity_ratio", "entropy_ratio", "reference_distance")
MEASURED += ("topographic_pre", "bits_carried_per_sample")


def scored(spoil: Callable[[np.ndarray], None] = lambda _: None, constant: bool = False) -> Scored:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(ROWS, COLUMNS))
    output = target + 0.1 * rng.normal(size=target.shape)
    if constant:
        target[:, :3] = output[:, :3] = 0.0
    spoil(output)
    usage = codebook_usage(np.array([3, 4, 0, 13]))
    latents = row_distances(output @ rng.normal(size=(COLUMNS, 3)))
    return Scored(
        split="validation",
        target_ND=target,
        output_ND=output,
        train_mean_D=np.zeros(COLUMNS),
        raw_target_ND=target * 3,
        raw_output_ND=output * 3,
        categories=CATEGORIES,
        spectra=[[2.0, 0.7, 0.3]] * 2,
        bits_C=np.array([2.0, 2.0]),
        codebooks=[Codebook("a", "L0", 4, usage, usage)],
        distances=row_distances(target),
        latents=(latents, latents),
    )


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("places", [slice(0, 1), slice(None)])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_no_metric_is_finite_where_its_inputs_are_not(value: float, places: slice, constant: bool) -> None:
    def spoil(output: np.ndarray) -> None:
        output[places, :] = value

    found = [score(scored(change, constant)) for change in (lambda _: None, spoil)]
    whole, broken = (each.scalars() for each in found)
    for name, estimate in found[1].estimates.items():
        assert math.isfinite(found[0].estimates[name].value) and not math.isfinite(estimate.value)
    assert all(math.isfinite(whole[name]) for name in MEASURED)
    assert not [name for name in MEASURED if math.isfinite(broken[name])]
    assert broken["collapsed"] == len(CATEGORIES)


def test_one_broken_category_is_the_worst() -> None:
    def spoil(output: np.ndarray) -> None:
        output[0, 4] = math.nan

    found = score(scored(spoil))
    assert found.worst_category == "b" and math.isnan(found.fvu_worst) and math.isfinite(found.fvu["a"])


@pytest.mark.parametrize("errors", [[math.nan, 1.0], [1.0, math.nan], [math.inf, 1.0], [math.nan] * 2])
def test_ratios_know_what_is_not_finite_in_any_order(errors: list[float]) -> None:
    assert math.isnan(imbalance(errors)) and math.isnan(gini(errors))


# ---------------------------------------------------------------- checkpoints


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    dataset = write_table(folder / "table.npz", rows=120)
    config = TrialConfig().with_overrides(
        {
            "prepare.dataset": str(dataset),
            "prepare.families": {"summary": {"encoder": "mlp", "hidden": [8], "output": 6}},
            "training.epochs": 1,
            "model.hidden": 4,
        }
    )
    run_trial(config, prepare(config.prepare)).save(folder / "saved")
    return folder / "saved"


Meta = dict[str, Any]


def changed(saved: Path, folder: Path, meta: Callable[[Meta], object], weights: Callable[[dict], object]) -> Path:
    content = json.loads((saved / META).read_text())
    tensors = load_file(saved / WEIGHTS)
    meta(content)
    weights(tensors)
    folder.mkdir(exist_ok=True)
    (folder / META).write_text(json.dumps(content))
    save_file(tensors, folder / WEIGHTS)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(folder, device="cpu")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused_by_name(saved: Path, tmp_path: Path, value: float) -> None:
    names = [name for name, tensor in load_file(saved / WEIGHTS).items() if tensor.is_floating_point()]
    for name in names:
        folder = changed(saved, tmp_path / "c", lambda _: None, lambda t, name=name: t[name].view(-1)[0].fill_(value))
        assert f"1 of the {load_file(saved / WEIGHTS)[name].numel()} values of {name} are not finite" in refusal(folder)


LIES: dict[str, Callable[[Meta], object]] = {
    "codes": lambda meta: meta["plan"].update(codes=[[[10**12] for _ in row] for row in meta["plan"]["codes"]]),
    "dims": lambda meta: meta["plan"].update(dims=[[10**12 for _ in row] for row in meta["plan"]["dims"]]),
    "hidden": lambda meta: meta["config"]["model"].update(hidden=10**12),
    "encoder": lambda meta: meta["pipeline"]["encoders"]["summary"]["config"].update(hidden=[10**6, 10**6]),
    "no codes": lambda meta: meta["plan"].update(codes=[[[0] for _ in row] for row in meta["plan"]["codes"]]),
    "shares": lambda meta: meta["plan"].update(dims=[[1.5 for _ in row] for row in meta["plan"]["dims"]]),
    "columns": lambda meta: meta["categories"].update({next(iter(meta["categories"])): [10**9]}),
    "names": lambda meta: meta["pipeline"]["encoders"]["summary"].update(columns=["a"]),
    "normalization": lambda meta: meta["pipeline"].update(normalization="none such"),
    "list": lambda meta: meta.update(plan=[]),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_checkpoint_says_of_itself_must_be_so(saved: Path, tmp_path: Path, lie: str) -> None:
    assert "damaged" in refusal(changed(saved, tmp_path / "c", LIES[lie], lambda _: None))


def test_pipes_and_folders_in_the_place_of_its_files_are_refused(saved: Path, tmp_path: Path) -> None:
    for name in (META, WEIGHTS):
        folder = changed(saved, tmp_path / name, lambda _: None, lambda _: None)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        assert "is a device or a pipe" in refusal(folder)


def parts(tree: Any, path: tuple = ()) -> list[tuple]:
    """The paths of everything in a tree."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path] * bool(path) + [found for key, value in inner for found in parts(value, (*path, key))]


others = st.sampled_from([None, -1, 0, 1.5, 10**9, 2**63, "", "x", [], {}, [[]], True, "cuda:99"])


@settings(max_examples=inputs(40), deadline=None)
@given(st.data())
@bounded
def test_any_checkpoint_with_one_thing_wrong_is_used_or_refused(
    saved: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = json.loads((saved / META).read_text())
    path = data.draw(
        st.sampled_from(parts({name: content[name] for name in ("config", "categories", "plan", "pipeline")}))
    )

    def meta(tree: Meta) -> None:
        for key in path[:-1]:
            tree = tree[key]
        if data.draw(st.booleans()):
            del tree[path[-1]]
        else:
            tree[path[-1]] = data.draw(others)

    def weights(tensors: dict[str, torch.Tensor]) -> None:
        how = data.draw(st.sampled_from(["none", "drop", "shape", "kind"]))
        name = data.draw(st.sampled_from(sorted(tensors)))
        if how == "drop":
            del tensors[name]
        elif how == "shape":
            tensors[name] = torch.zeros(data.draw(st.lists(st.integers(0, 3), max_size=3)))
        elif how == "kind":
            tensors[name] = tensors[name].to(data.draw(st.sampled_from([torch.int8, torch.bfloat16, torch.bool])))

    folder = changed(saved, tmp_path_factory.mktemp("any") / "c", meta, weights)
    said = ""
    try:
        tokenizer = load_checkpoint(folder, device="cpu")
        assert np.isfinite(tokenizer.decode(np.zeros((2, *tokenizer.token_shape), int))).all()
    except SpinlockError as error:
        said = str(error)
    assert "\n" not in said
