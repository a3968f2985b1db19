"""What the benchmarks have in common: the machine they ran on, runs side by side, tables, and JSON kept."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

KEPT = Path(__file__).parent / "results"
"""Where `keep` writes."""


def machine() -> dict[str, Any]:
    """Return what figures depend on beside the code. `load`: other work at the start; figures want it near 0."""
    packages = {name: version(name) for name in ("torch", "ray", "optuna", "numpy")}
    return {"machine": _processor(), "cpus": os.cpu_count(), "load": os.getloadavg()[0], **packages}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def tell_machine() -> dict[str, Any]:
    """Print the machine in a line, and return it."""
    found = machine()
    print(", ".join(f"{name} {value}" for name, value in found.items()), flush=True)
    return found


def interleaved(
    arms: Mapping[str, Callable[[], object]], repeats: int = 5, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the median seconds of each arm by `clock`, run in turns after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(repeats + 1):
        for name, run in arms.items():
            began = clock()
            run()
            if turn:
                seconds[name].append(clock() - began)
    return {name: median(each) for name, each in seconds.items()}


def tell(part: str, figures: Mapping[str, float]) -> None:
    """Print figures as a table."""
    print(f"\n| {part} | |\n|---|--:|")
    for name, value in figures.items():
        print(f"| {name} | {value:.4g} |", flush=True)


def keep(name: str, figures: Mapping[str, Any], machine: Mapping[str, Any]) -> Path:
    """Write figures and machine as `benchmarks/results/<name>.json`."""
    KEPT.mkdir(exist_ok=True)
    path = KEPT / f"{name}.json"
    path.write_text(json.dumps({"machine": machine, **figures}, indent=2) + "\n", encoding="utf-8")
    print(f"\nkept as {path}")
    return path
