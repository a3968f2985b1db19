"""What Ray's own pages tell of a study while it runs, through the interfaces that they are made of."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RpcError
from ray.job_submission import JobSubmissionClient
from ray.util.state import list_actors, list_tasks
from ray.util.state.exception import RayStateApiException
from rich.console import Console

from results.records.trial_record import TrialRecord
from study import run
from study.config import ClusterConfig
from study.events import Ending, PhaseStart, SearchStart, StudyEvents
from study.monitor.registry import MONITORS, MonitorSetup
from tests.toy import make_toy, small_study, write_dataset


class Looking(StudyEvents):
    """Looks at Ray's pages as the study goes on."""

    def __init__(self) -> None:
        self.page = ""
        self.jobs: list[dict[str, str]] = []
        self.workers: set[tuple[str, str]] = set()
        self.tasks: set[str] = set()
        self.heading = ""
        self.timeline: set[str] = set()

    @property
    def dashboard(self) -> str:
        return self.page.split("/#/")[0]

    def on_search_start(self, search: SearchStart) -> None:
        [self.page] = [address for shown, address in search.addresses.items() if shown.startswith("Ray")]

    def on_trial_end(self, record: TrialRecord) -> None:
        self.workers |= until(lambda: all_workers(self.dashboard))

    def on_phase_start(self, start: PhaseStart) -> None:
        if start.phase == "finals":
            self.heading = until(lambda: log_of_a_trial(self.dashboard))

    def on_study_end(self, ending: Ending) -> None:
        jobs = JobSubmissionClient(self.dashboard).list_jobs()
        self.jobs = [job.metadata for job in jobs if job.job_id and job.job_id in self.page]
        self.tasks = until(lambda: all_tasks(self.dashboard))
        self.timeline = {event["name"] for event in ray.timeline() or ()}


def all_workers(dashboard: str) -> set[tuple[str, str]] | None:
    actors = list_actors(dashboard, detail=True, filters=[("state", "=", "ALIVE")])
    return {(actor.class_name, actor.repr_name) for actor in actors} or None


def all_tasks(dashboard: str) -> set[str] | None:
    """Return the names of all tasks; None if Ray does not know the last of them yet."""
    names = {task.name for task in list_tasks(dashboard, limit=10_000)}
    return names if any(name.startswith("verification") for name in names) else None


def log_of_a_trial(dashboard: str) -> str | None:
    """Return what Ray keeps as the log of the first call of a trial; None if it does not know it yet."""
    calls = [task for task in list_tasks(dashboard, detail=True, limit=10_000) if task.name.startswith("trial-0002")]
    first = min(calls, key=lambda task: task.start_time_ms or 0, default=None)
    if first is None or first.state != "FINISHED" or first.task_log_info is None:
        return None
    kept = first.task_log_info
    return Path(kept["stdout_file"]).read_bytes()[kept["stdout_start"] : kept["stdout_end"]].decode()


def until(look: Callable[[], Any]) -> Any:
    """Return what `look` finds as soon as it finds something: Ray hands events on every second."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(RayStateApiException, RpcError, ConnectionError):  # what serves the pages starts after Ray
            if (found := look()) is not None:
                return found
        time.sleep(0.5)
    raise TimeoutError("Ray does not tell")


looking = Looking()


def make_looking(setup: MonitorSetup) -> Looking:
    return looking


@pytest.fixture
def watched() -> Iterator[Looking]:
    MONITORS.register("looking", f"{__name__}:make_looking")
    yield looking
    MONITORS.unregister("looking")


def test_rays_pages_name_the_study_its_workers_and_its_trials(tmp_path: Path, watched: Looking):
    config = small_study(
        tmp_path, write_dataset(tmp_path / "table.parquet"), cluster=ClusterConfig(gpus=0, max_concurrent=2)
    )
    told = io.StringIO()
    result = run(config, objective=make_toy(seconds=0.1), console=Console(file=told, width=300))
    assert "monitor" not in told.getvalue()
    assert watched.page.endswith("/#/jobs/01000000")
    [job] = watched.jobs
    assert (job["job_name"], job["trials"], job["stopping.rule"]) == ("s", "4", "none")
    assert job["base.prepare.dataset"] == str(tmp_path / "table.parquet")
    assert watched.workers == {("s", "s worker 1"), ("s", "s worker 2")}
    trials = {f"trial-{record.number:04d} {record.params['compression.strategy']}" for record in result.search}
    others = {f"{record.phase}-{record.arm}-{record.number}" for record in (*result.baseline, *result.finals)}
    assert watched.tasks >= {*trials, *others}
    [heading] = [f"{name} starts\n" for name in trials if name.startswith("trial-0002")]
    assert watched.heading == heading
    assert {*trials, *others} <= watched.timeline
