"""Weights & Biases: the trainings of a study as runs of one group, and one run for the study itself.

W&B's own environment says where: `WANDB_PROJECT`, `WANDB_ENTITY`, `WANDB_MODE=offline` for files in the study's folder,
which `wandb sync` sends later.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

from results.analysis.tables import figures
from results.records.study_folder import StudyFolder
from results.records.study_record import StudyRecord
from spinlock_dist.atomic_files import read_json, write_json
from spinlock_dist.command import PROGRAM, tool
from spinlock_dist.errors import ConfigError
from study.events import Ending
from study.monitor.registry import MonitorSetup
from study.monitor.tracking import TrackedRun, TrackerKind, Tracking, final_files

OF_STUDY = "study"
NOT_THE_DRIVERS: dict[str, Any] = {
    "console": "off",
    "save_code": False,
    "disable_git": True,
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_save_requirements": False,
}
"""W&B would store with every run what the driver prints, its load and its environment: a worker has trained it."""


def mode() -> str:
    """`online` or `offline`, as W&B is set up here."""
    import wandb

    return str(wandb.setup(settings=wandb.Settings(silent=True)).settings.mode)


def project() -> str:
    """The project that runs are sent to."""
    return os.environ.get("WANDB_PROJECT") or PROGRAM


def address(folder: StudyFolder) -> str:
    """Where the runs of a study are."""
    if mode() == "online":
        return f"project {project()}, group {folder.name}"
    return f"{mode()}, in {folder.wandb}; send it: {tool('wandb')} sync {folder.wandb}/offline-run-*"


def check_login() -> None:
    """Raise `ConfigError` if runs are to be sent and nobody is logged in: W&B would ask, and nobody hear it."""
    import wandb

    if mode() == "online" and not wandb.login(prompt=False, verify=False):
        raise ConfigError(f"--track wandb: not logged in: {tool('wandb')} login, or set WANDB_MODE=offline")


class WandbTracker:
    """Stores the runs of one study. Their ids follow from the study's, so that one sent again takes its own place."""

    def __init__(self, folder: StudyFolder, study_id: str):
        self._folder = folder
        self._study_id = study_id
        self._mode = mode()
        self._ledger = folder.wandb / "sent.json"
        self._known: dict[str, list[str]] = read_json(self._ledger) if self._ledger.exists() else {}

    def sent(self) -> set[str]:
        """Keys of the runs that it has, whole: W&B cannot be asked about what is offline."""
        return set(self._known.get(self._mode, ()))

    def send(self, run: TrackedRun) -> None:
        """Store a run: figures in its summary, its curve under `curve/`, all its settings as its config."""
        record = run.record
        settings = run.params if run.config is None else run.config.model_dump(mode="json")
        config = {**settings, "trial": run.labels}
        tags = [record.phase, record.state, *(["infeasible"] if record.broken_guards else [])]
        with self._run(run.key, config, job_type=record.phase, tags=tags, notes=record.reason or None) as sent:
            for row in record.curve:
                sent.log({f"curve/{_plain(name)}": value for name, value in row.items()}, step=int(row["epoch"]))
            sent.summary.update({_plain(name): value for name, value in run.figures.items()})
            sent.finish(exit_code=int(run.has_failed))
        self._known.setdefault(self._mode, []).append(run.key)
        write_json(self._ledger, self._known)

    def close(self, study: StudyRecord, ending: Ending) -> None:
        """Store the conclusion, the best trial's figures and the files of a finished study."""
        if ending != "finished" or study.verdict is None:
            return
        conclusion = study.verdict.get("conclusion", "")
        with self._run(OF_STUDY, study.description, job_type=OF_STUDY, notes=conclusion) as sent:
            best = study.best
            known: dict[str, Any] = {} if best is None else {"best": best.arm, **figures(best)}
            sent.summary.update({_plain(name): value for name, value in known.items()} | {"conclusion": conclusion})
            for path in final_files(study):
                sent.save(str(path), base_path=str(study.folder.path), policy="now")
            sent.finish(exit_code=0)

    def _run(self, key: str, config: dict[str, Any], **given: Any) -> Any:
        import wandb

        run_id = f"{self._study_id[:12]}-{key}"
        for half in self._folder.wandb.glob(f"*run-*-{run_id}"):
            shutil.rmtree(half, ignore_errors=True)
        return wandb.init(
            project=project(),
            group=self._folder.name,
            name=self._folder.name if key == OF_STUDY else key,
            id=run_id,
            config=config,
            dir=self._folder.path,
            reinit="create_new",  # the user's own run in this process, if there is one, goes on
            settings=wandb.Settings(silent=True, **NOT_THE_DRIVERS),
            **given,
        )


def _plain(name: str) -> str:
    """A name that W&B's pages can plot and sort by: a dot would be a level of its own there."""
    return name.replace(".", "/")


WANDB = TrackerKind(title="Weights & Biases", package="wandb", address=address, open=WandbTracker, check=check_login)


def make_wandb(setup: MonitorSetup) -> Tracking | None:
    """What sends to Weights & Biases, if the study asks for it."""
    return Tracking(WANDB) if "wandb" in setup.config.track else None
