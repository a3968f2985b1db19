"""Studies: who decides what is tried, and where it runs. The only package that imports Ray and Optuna.

`run(StudyConfig(name=...)) -> StudyResult` is `python -m study.launch` as a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from study.cluster.environment import prepare_environment, read_by_ray
from study.config import StudyConfig

if TYPE_CHECKING:
    from study.pipeline import StudyResult, run

__all__ = ["StudyConfig", "StudyResult", "run"]

prepare_environment()
read_by_ray()


def __getattr__(name: str) -> Any:
    """Import what needs Ray, Optuna and torch only when it is asked for: `--help` must not wait for them."""
    if name in ("StudyResult", "run"):
        from study import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'study' has no attribute '{name}'")
