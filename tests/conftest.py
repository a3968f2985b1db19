"""A home of their own for the tests, before anything imports Ray; the tiers; and one Ray for all tests that share it.

Ray probes cloud metadata addresses unless `~/ray_bootstrap_config.yaml` exists, and reports usage unless told not to.
Simulated data is kept in the repository's `.cache`, so that it is made once.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from results.records.trial_record import TrialRecord
from spinlock_dist.config import SimulatorConfig
from spinlock_dist.metrics.record import Metrics

REPOSITORY = Path(__file__).resolve().parent.parent
HOME = Path(tempfile.mkdtemp(prefix="spinlock_dist_home_"))

(HOME / "ray_bootstrap_config.yaml").write_text("{}\n")
os.environ.update(
    HOME=str(HOME),
    OMP_NUM_THREADS="1",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_USAGE_STATS_REPORT_URL="http://127.0.0.1:9/",
    RAY_AUTH_MODE="disabled",
)
os.environ.setdefault("SPINLOCK_DIST_CACHE", str(REPOSITORY / ".cache"))
# A shell that runs the tests in the background has them ignore Ctrl-C, nohup the end of a terminal, and every process
# that they start inherits it.
with suppress(ValueError):  # not the main thread
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
# The same inputs at every run of CI, so that a change is judged by what it changes; elsewhere new ones each time.
# No deadline: how fast a machine is belongs in benchmarks/.
settings.register_profile("anywhere", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "anywhere")


TIERS = {"faults": "faults", "integration": "ray", "unit": "unit", "contracts": "contract", "golden": "golden"}
"""The marker of each folder, the slowest first."""


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its tier, and put the slow tiers first: the others then fill the cores beside them."""

    def folder(item: pytest.Item) -> str:
        return item.path.relative_to(REPOSITORY / "tests").parts[0]

    for item in items:
        item.add_marker(TIERS[folder(item)])
    items.sort(key=lambda item: list(TIERS).index(folder(item)))


@pytest.hookimpl(tryfirst=True)  # before any fixture of the test
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop the shared Ray before a test that knows nothing of it."""
    if "shared_ray" not in getattr(item, "fixturenames", ()):
        stop_shared_ray()


def pytest_sessionfinish() -> None:
    stop_shared_ray()


def pytest_unconfigure() -> None:
    """Remove the home when the tests are over."""
    shutil.rmtree(HOME, ignore_errors=True)


_shared_ray: list[Any] = []
"""What `ray.init` returned, while the shared Ray runs."""


@pytest.fixture
def shared_ray() -> None:
    """A cluster of eight CPUs and eight GPUs, which are logical: Ray hands them out, torch finds none.

    It is started once for all tests that ask for it and come one after another.
    """
    import ray

    if not _shared_ray:
        cluster = {"address": "local", "num_cpus": 8, "num_gpus": 8, "include_dashboard": False}
        _shared_ray.append(ray.init(**cluster, log_to_driver=False))


def stop_shared_ray() -> None:
    if _shared_ray:
        _shared_ray.clear()
        sys.modules["ray"].shutdown()


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def spinlock_file(repository: Path) -> Path:
    """A real file made by Spinlock's own generator, 32 operators; the test is skipped where there is none."""
    path = repository.parent / "shared" / "data" / "spinlock_layout_32rows.h5"
    if not path.exists():
        pytest.skip("no file made by Spinlock at hand")
    return path


@pytest.fixture(scope="session")
def operators_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small file of the simulator's: 120 operators on a grid of 8 x 8."""
    from spinlock_dist.simulator import generate_dataset  # needs torch, which the environment above tells

    config = SimulatorConfig(samples=120, grid=8, steps=8, realizations=1)
    return generate_dataset(config, tmp_path_factory.mktemp("operators") / "operators.h5", workers=1)


@pytest.fixture(scope="session")
def make_metrics() -> Callable[..., Metrics]:
    """Return a builder of metrics from FVU per category; other fields are healthy unless given."""

    def build(*fvu: float, split: str = "validation", **given: float) -> Metrics:
        named = {f"c{index}": value for index, value in enumerate(fvu)}
        worst = max(named, key=lambda name: named[name])
        imbalance = max(1.0, max(fvu) / max(min(fvu), 1e-6))
        figures = {
            "fvu_mean": sum(fvu) / len(fvu),
            "imbalance_by_chance": 1.0,
            "imbalance_raw": imbalance,
            "gini": 0.0,
            "utilization": 1.0,
            "utilization_split": 1.0,
            "perplexity_ratio": 0.8,
            "entropy_ratio": 0.9,
            "bits_per_sample": 100.0,
            "bits_carried_per_sample": 85.0,
            "reference_imbalance": 1.0,
            "reference_distance": 1.5,
            "topographic_pre": 0.9,
            "topographic_post": 0.9,
        }
        return Metrics(
            split=split,
            fvu=named,
            mse_raw=named,
            reference_fvu=named,
            fvu_worst=max(fvu),
            worst_category=worst,
            imbalance=imbalance,
            log10_imbalance=math.log10(imbalance),
            collapsed=sum(value >= 0.98 for value in fvu),
            dead_codes=0,
            **{**figures, **given},
        )

    return build


@pytest.fixture(scope="session")
def make_record(make_metrics: Callable[..., Metrics]) -> Callable[..., TrialRecord]:
    """Return a builder of complete records from FVU per category."""

    def build(number: int, *fvu: float, **given: object) -> TrialRecord:
        fields = {"phase": "search", "arm": f"trial-{number}", "state": "complete", "seed": 0}
        metrics = make_metrics(*fvu) if fvu else None
        return TrialRecord(**{**fields, "number": number, "metrics": metrics, **given})  # type: ignore[arg-type]

    return build
