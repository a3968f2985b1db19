"""The dataset file: determinism, resuming, layout and refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children
from pathlib import Path

import h5py
import numpy as np
import pytest

from spinlock_dist.config import SimulatorConfig
from spinlock_dist.errors import DataError, SpinlockError
from spinlock_dist.simulator import cached_dataset, dataset, generate_dataset
from spinlock_dist.simulator.extract import BLOCK_ROWS
from spinlock_dist.simulator.layout import FEATURE_PATHS

SMALL = SimulatorConfig(samples=300, grid=8, steps=8, realizations=2, seed=3)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_dataset(SMALL, tmp_path_factory.mktemp("data") / "small.h5", workers=1)


def arrays(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, node: found.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None)
    return found


def assert_same(one: Path, other: Path) -> None:
    left, right = arrays(one), arrays(other)
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_same_parameters_give_the_same_bits(small: Path, tmp_path: Path) -> None:
    assert_same(small, generate_dataset(SMALL, tmp_path / "again.h5", workers=1))


def test_two_workers_give_the_same_bits_as_one(small: Path, tmp_path: Path) -> None:
    assert_same(small, generate_dataset(SMALL, tmp_path / "two.h5", workers=2))


def test_another_seed_gives_other_operators(small: Path, tmp_path: Path) -> None:
    other = generate_dataset(SMALL.model_copy(update={"seed": 4}), tmp_path / "other.h5", workers=1)
    assert not np.array_equal(arrays(small)["parameters/params"], arrays(other)["parameters/params"])
    assert not np.array_equal(arrays(small)["inputs/fields"], arrays(other)["inputs/fields"])


def test_a_smaller_dataset_is_the_head_of_a_larger_one(small: Path, tmp_path: Path) -> None:
    head = arrays(generate_dataset(SMALL.model_copy(update={"samples": 20}), tmp_path / "head.h5"))
    for name, values in arrays(small).items():
        np.testing.assert_array_equal(head[name], values[:20], err_msg=name)


def test_interrupted_generation_resumes_to_the_same_bits(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "resumed.h5"

    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_dataset(SMALL, path, interrupt, workers=1)
    assert not path.exists()
    assert len(list(dataset.partial_folder(path).glob("block_*.npz"))) == 1
    seen: list[int] = []
    generate_dataset(SMALL, path, lambda done, total: seen.append(done), workers=1)
    assert seen[0] == BLOCK_ROWS  # the finished block was not simulated again
    assert seen[-1] == SMALL.samples
    assert_same(small, path)
    assert not dataset.partial_folder(path).exists()


def test_layout_registries_and_attributes(small: Path) -> None:
    with h5py.File(small) as file:
        assert file.attrs["complete"]
        assert file.attrs["format_version"] == 1
        assert json.loads(file.attrs["simulator"])["seed"] == SMALL.seed
        for family, path in FEATURE_PATHS.items():
            registry = json.loads(file[f"features/{family}"].attrs["feature_registry"])
            columns = [column for group in registry.values() for column in group.values()]
            assert columns == list(range(file[path].shape[-1]))
            assert file[path].dtype == np.float32
            assert file[path].compression == "gzip"
        assert file["features/temporal/features"].shape[:2] == (300, 8)
        assert file["features/temporal/features"].shape[2] >= 16
        assert file["features/summary/aggregated/features"].shape[1] >= 120
        assert file["inputs/fields"].shape == (300, 3, 8, 8)
        params = file["parameters/params"]
        assert params.shape == (300, len(params.attrs["dimension_names"]))
        assert set(file["metadata/evolution_policies"][()]) == {b"residual", b"convex", b"autoregressive"}
        assert set(file["metadata/noise_regimes"][()]) == {b"low", b"medium", b"high"}
        assert (file["metadata/grid_sizes"][()] == 8).all()


def test_no_column_is_all_nan_and_nearly_all_values_are_finite(small: Path) -> None:
    for name, values in arrays(small).items():
        if name.startswith("features"):
            finite = np.isfinite(values).reshape(-1, values.shape[-1])
            assert finite.mean() > 0.97, name  # a field of 64 cells is sometimes constant
            assert finite.any(axis=0).all(), name


def test_a_complete_file_is_kept(small: Path) -> None:
    before = small.stat().st_mtime_ns
    generate_dataset(SMALL, small)
    assert small.stat().st_mtime_ns == before


def test_a_file_made_with_other_parameters_is_refused(small: Path) -> None:
    with pytest.raises(DataError, match="seed 3, not 9"):
        generate_dataset(SMALL.model_copy(update={"seed": 9}), small)


def test_a_partial_folder_of_other_parameters_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    dataset._open_partial(SMALL, dataset.partial_folder(path))
    with pytest.raises(DataError, match="grid 8, not 16"):
        generate_dataset(SMALL.model_copy(update={"grid": 16}), path)


def test_two_callers_at_once_make_the_dataset_once(tmp_path: Path) -> None:
    path = tmp_path / "shared.h5"
    reports: list[list[int]] = [[], []]

    def call(report: list[int]) -> Path:
        return generate_dataset(SMALL, path, lambda done, total: report.append(done), workers=1)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(call, reports)) == [path, path]
    assert sorted(map(len, reports)) == [1, 5]  # start, three blocks, end; the other only saw the end
    assert [file.name for file in tmp_path.iterdir()] == ["shared.h5"]


def test_a_killed_worker_is_reported_and_its_dataset_resumed(small: Path, tmp_path: Path) -> None:
    longer = SMALL.model_copy(update={"samples": 12 * BLOCK_ROWS})  # long enough to be killed in the middle

    def kill_a_worker(done: int, total: int) -> None:
        if done:
            active_children()[0].kill()

    with pytest.raises(SpinlockError, match="a worker ended early"):
        generate_dataset(longer, tmp_path / "killed.h5", kill_a_worker, workers=2)
    resumed = arrays(generate_dataset(longer, tmp_path / "killed.h5", workers=1))
    for name, values in arrays(small).items():
        np.testing.assert_array_equal(resumed[name][: len(values)], values, err_msg=name)


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        generate_dataset(SMALL, tmp_path / "file" / "data.h5")


def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.h5"
    path.write_text("not a dataset")
    with pytest.raises(DataError, match="not made by this simulator"):
        generate_dataset(SMALL, path)
    assert path.read_text() == "not a dataset"


def test_the_cache_is_keyed_by_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINLOCK_DIST_CACHE", str(tmp_path))
    tiny = SMALL.model_copy(update={"samples": 10})
    first = cached_dataset(tiny)
    assert first.parent == tmp_path
    assert cached_dataset(tiny) == first
    assert cached_dataset(tiny.model_copy(update={"seed": 5})) != first


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPINLOCK_DIST_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert dataset.cache_folder() == Path("/somewhere/spinlock_dist")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert dataset.cache_folder() == Path.home() / ".cache" / "spinlock_dist"


def test_an_unguarded_script_ends_with_advice_instead_of_waiting_for_ever(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from pathlib import Path\n"
        "from spinlock_dist.config import SimulatorConfig\n"
        "from spinlock_dist.simulator import generate_dataset\n"
        "config = SimulatorConfig(samples=256, grid=8, steps=8)\n"
        f"generate_dataset(config, Path({str(tmp_path / 'o.h5')!r}), workers=2)\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert ended.returncode != 0
    assert "__main__" in ended.stderr
