"""The monitors: a new one is a file with a function like those named here, and a line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console

from spinlock_dist.registry import Registry
from study.config import StudyConfig
from study.events import Broadcast, StudyEvents


@dataclass(frozen=True)
class MonitorSetup:
    """What a monitor may look at to decide whether it is wanted, and how it works."""

    config: StudyConfig
    console: Console


MONITORS: Registry[Callable[[MonitorSetup], StudyEvents | None]] = Registry(
    "monitor",
    {
        "terminal": "study.monitor.terminal:make_terminal",
        "prometheus": "study.monitor.prometheus:make_prometheus",
        "tensorboard": "study.monitor.tensorboard:make_tensorboard",
        "mlflow": "study.monitor.mlflow:make_mlflow",
        "wandb": "study.monitor.wandb:make_wandb",
    },
)
"""Functions that return a monitor, or None where the study does not ask for it. One that raises here refuses the study
before anything is done; later it is left out."""


def make_monitors(setup: MonitorSetup) -> Broadcast:
    """Events sent to every monitor that the study asks for."""
    made = {name: make(setup) for name, make in MONITORS.items()}
    return Broadcast({name: monitor for name, monitor in made.items() if monitor is not None})
