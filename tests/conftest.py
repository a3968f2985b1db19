"""A home of their own for the tests, before anything imports Ray.

Ray probes cloud metadata addresses unless `~/ray_bootstrap_config.yaml` exists, and reports usage unless told not to.
Simulated data is kept in the repository's `.cache`, so that it is made once.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

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
# The same inputs at every run of CI, so that a change is judged by what it changes; elsewhere new ones each time.
# No deadline: how fast a machine is belongs in benchmarks/.
settings.register_profile("anywhere", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "anywhere")


def pytest_unconfigure() -> None:
    """Remove the home when the tests are over."""
    shutil.rmtree(HOME, ignore_errors=True)


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
