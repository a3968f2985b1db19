"""What happened in a study: `results.load("runs/mine")` reads one, finished or not, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results.dataframes import LoadedStudy

__all__ = ["load"]


def load(folder: Path | str) -> LoadedStudy:
    """Read the study in `folder` as it stands, e.g. `load("runs/mine").trials`.

    Its DataFrames are `trials`, `curves` and `categories`; `record` has the same as objects, and its `problems` name
    what is damaged or missing. Raises `ConfigError` if there is no study, or not even its study.yaml can be read.
    """
    from results.dataframes import (
        load_study,  # only now: a command that imports this package need not wait for pandas
    )

    return load_study(Path(folder))
