"""TensorBoard files of the trials of a search, on request: curves, and settings beside what they scored.

The driver writes them from the reports, so that a trial costs nothing more and a lost worker loses none.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from results.records.trial_record import TrialRecord
from spinlock_dist.command import tool
from spinlock_dist.errors import ConfigError
from study.config import StudyConfig
from study.events import SearchStart, StudyEvents, TrialReport
from study.monitor.registry import MonitorSetup
from study.worker.actor import trial_name


def check_tensorboard(config: StudyConfig) -> None:
    """Raise `ConfigError` if TensorBoard files are asked for and nothing can write them."""
    if config.tensorboard and find_spec("tensorboardX") is None:
        raise ConfigError(
            f"--tensorboard: the package tensorboardX is not installed: {tool('pip')} install tensorboardX"
        )


class TensorBoardWriter(StudyEvents):
    """Writes `<search>/tensorboard/trial-<number>/`, one scalar for each figure of a report, by epoch."""

    def __init__(self) -> None:
        self._folder = Path()
        self._writers: dict[int, Any] = {}

    def on_search_start(self, search: SearchStart) -> None:
        """Write into the folder of the search."""
        self._folder = search.folder.tensorboard

    def on_trial_report(self, report: TrialReport) -> None:
        """Write the figures of a report."""
        for name, value in report.row.items():
            if name != "epoch":
                self._writer(report.number).add_scalar(name.replace(".", "/"), value, report.epoch)

    def on_trial_end(self, record: TrialRecord) -> None:
        """Write the trial's settings beside its scores, and close its file."""
        from tensorboardX.summary import hparams

        if record.metrics is not None:
            writer = self._writer(record.number)
            for summary in hparams(hparam_dict=record.params, metric_dict=record.metrics.scalars()):
                writer.file_writer.add_summary(summary)
        if (writer := self._writers.pop(record.number, None)) is not None:
            writer.close()

    def on_search_end(self) -> None:
        """Close the files of trials that were stopped with the study."""
        for number in list(self._writers):
            self._writers.pop(number).close()

    def _writer(self, number: int) -> Any:
        from tensorboardX import SummaryWriter

        if number not in self._writers:
            self._writers[number] = SummaryWriter(str(self._folder / trial_name(number)))
        return self._writers[number]


def make_tensorboard(setup: MonitorSetup) -> TensorBoardWriter | None:
    """A writer, if the study asks for TensorBoard files."""
    return TensorBoardWriter() if setup.config.tensorboard else None
