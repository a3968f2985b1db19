"""The folder of a study: the paths in it, and the lock of its driver."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock, Timeout

from spinlock_dist.atomic_files import read_json, replacing, write_json, write_text
from spinlock_dist.documents import read_document
from spinlock_dist.errors import ConfigError, SpinlockError, did_you_mean

if TYPE_CHECKING:
    from spinlock_dist.prepare import PreparedData


FORMAT = 2
"""Of a study's files, recorded in study.yaml; raised when earlier versions can no longer read them."""


@dataclass(frozen=True)
class StudyFolder:
    """Paths of `<runs>/<study>/`. Only the study that holds `lock()` writes in it."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.path.name

    @property
    def description(self) -> Path:
        """study.yaml: resolved config, versions, git commit, fingerprint, hardware."""
        return self.path / "study.yaml"

    @property
    def journal(self) -> Path:
        """Optuna's storage: the record of the search."""
        return self.path / "optuna.journal"

    @property
    def elsewhere(self) -> Path:
        """storage.json, in the place of the journal: the URL of another Optuna storage, and the search's name there."""
        return self.path / "storage.json"

    @property
    def has_search(self) -> bool:
        """Whether the search of this folder has begun."""
        return self.journal.exists() or self.elsewhere.exists()

    @property
    def searches(self) -> dict[str, StudyFolder]:
        """Folders of the searches that have begun, by arm: of a tournament one a search, else the only one."""
        arms = {"": self, **{path.name: StudyFolder(path) for path in sorted(self.path.glob("tournament/*"))}}
        return {name: folder for name, folder in arms.items() if folder.has_search}

    @property
    def prepared(self) -> Path:
        """Folder that describes the prepared data."""
        return self.path / "prepared"

    @property
    def summary(self) -> Path:
        """summary.json: fingerprint, rows of each split, characteristics of each category."""
        return self.prepared / "summary.json"

    @property
    def tune(self) -> Path:
        """Folder of the trials' files."""
        return self.path / "tune"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard files, if they are asked for."""
        return self.path / "tensorboard"

    @property
    def tracking(self) -> Path:
        """tracking.json: the id under which experiment trackers know the study; there only if it is sent to one."""
        return self.path / "tracking.json"

    @property
    def mlflow(self) -> Path:
        """Folder of MLflow's store, if it is asked for and nothing says where else."""
        return self.path / "mlflow"

    @property
    def wandb(self) -> Path:
        """Folder of the files of Weights & Biases, if it is asked for."""
        return self.path / "wandb"

    @property
    def scratch(self) -> Path:
        """Folder of Ray Tune's own state, while it runs."""
        return self.tune / "ray"

    @property
    def categories(self) -> Path:
        """The categories of the prepared data, as a mapping file."""
        return self.prepared / "categories.json"

    @property
    def tournament(self) -> Path:
        """tournament.json: the arms of a tournament in order; the same as a table in tournament.parquet."""
        return self.path / "tournament.json"

    @property
    def device_faults(self) -> Path:
        """device_faults.json: which devices failed under which training; there only if any did."""
        return self.path / "device_faults.json"

    def arm(self, name: str) -> StudyFolder:
        """Folder of one search of a tournament; this one for the only search of a study, whose name is empty."""
        return StudyFolder(self.path / "tournament" / name) if name else self

    def checkpoint(self, trial: int) -> Path:
        """Folder of the checkpoint of a finished trial of the search."""
        return self.tune / "checkpoints" / f"trial-{trial:04d}"

    @property
    def snapshots(self) -> Path:
        """Folder of the snapshots that interrupted trainings resume from."""
        return self.tune / "snapshots"

    def records(self, phase: str) -> Path:
        """JSON file of the records of `baseline` or `final`; it exists when that phase is done."""
        return self.path / f"{phase}.json"

    @property
    def trials(self) -> Path:
        """trials.parquet: one row a trial."""
        return self.path / "trials.parquet"

    @property
    def curves(self) -> Path:
        """curves.parquet: one row a report."""
        return self.path / "curves.parquet"

    @property
    def verdict(self) -> Path:
        """verdict.json: what was found about each finalist, with the figures it rests on."""
        return self.path / "verdict.json"

    @property
    def report(self) -> Path:
        """report.html: what the study found, for people."""
        return self.path / "report.html"

    def diagnosis(self, name: str) -> Path:
        """The diagnosis of `best` or `baseline` as a page."""
        return self.path / "diagnosis" / f"{name}.html"

    @property
    def baseline_checkpoint(self) -> Path:
        """Folder of the checkpoint of the uniform baseline's first training."""
        return self.tune / "checkpoints" / "baseline"

    @property
    def best(self) -> Path:
        """Folder of the exported best config."""
        return self.path / "best"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the study, so that no second driver works on it; a killed driver's lock is free at once.

        Raises `SpinlockError` if another driver holds it, `ConfigError` if the folder cannot be written.
        """
        held = FileLock(self.path / ".lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            held.acquire(timeout=0)
        except Timeout:
            raise SpinlockError(
                f"study '{self.name}' is being run by {self._driver()}; wait for it or stop it"
            ) from None
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written: {error.strerror}") from None
        try:
            with self._driver_named():
                yield
        finally:
            with suppress(OSError):  # a disk that has become read-only; what ended the study says so
                self._holder.unlink(missing_ok=True)
                if not self.description.exists():  # the study did not get as far as leaving anything
                    (self.path / ".lock").unlink(missing_ok=True)
                    self.path.rmdir()
            held.release()

    @contextmanager
    def _driver_named(self) -> Iterator[None]:
        """Say in `.driver` who holds the study, and keep that file locked meanwhile, for `is_running` to see.

        Whoever looks takes a shared lock on `.driver`, never the `.lock` that decides who may drive: if it took that,
        a driver that starts at the same moment would be refused. Here the driver waits for it, which takes
        microseconds. A killed driver leaves the file, but not its lock.
        """
        with ExitStack() as opened:
            with suppress(OSError):  # this is for others to read; a full disk shows where it matters
                file = opened.enter_context(self._holder.open("a+"))
                fcntl.flock(file, fcntl.LOCK_EX)
                file.truncate(0)
                file.write(f"{_this_process()} since {datetime.now().isoformat(' ', 'seconds')}")
                file.flush()
            yield

    @property
    def is_running(self) -> bool:
        """Whether another process drives the study at this moment. Disturbs no driver, not even one that starts."""
        if self._driver().startswith(f"{_this_process()} "):
            return False
        try:
            with self._holder.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # no such file, or a file system without locks
            return False
        return False

    @property
    def _holder(self) -> Path:
        return self.path / ".driver"  # beside the lock, which whoever tries it empties

    def _driver(self) -> str:
        """Who holds the lock, in words."""
        try:
            return self._holder.read_text()
        except OSError:
            return "another process"

    def write_description(self, content: dict[str, Any]) -> None:
        """Write study.yaml."""
        write_text(self.description, yaml.safe_dump(content, sort_keys=False))

    def read_description(self) -> dict[str, Any]:
        """The content of study.yaml. Raises `ConfigError` if it is damaged."""
        content, _ = read_document(self.description)
        is_description = isinstance(content, dict) and isinstance(content.get("config"), dict)
        if not is_description or "fingerprint" not in content:
            raise ConfigError(f"{self.description}: does not describe a study")
        return content

    @property
    def identity(self) -> str:
        """What the files of the study belong to, also of one of its searches; empty in those of earlier versions."""
        root = next((each for each in (self.path, *self.path.parents[:2]) if (each / "study.yaml").exists()), self.path)
        try:
            return str(StudyFolder(root).read_description().get("identity", ""))
        except ConfigError:
            return ""

    def write_prepared(self, data: PreparedData) -> None:
        """Describe the prepared data: summary.json, categories.json (a mapping file) and ledger.parquet."""
        names = data.feature_names
        categories = {category.name: [names[column] for column in category.columns] for category in data.categories}
        characteristics = {
            category.name: asdict(scores)
            for category, scores in zip(data.categories, data.characteristics, strict=True)
        }
        rows = {part: len(data.split.part(part)) for part in ("train", "validation", "test")}
        summary = {"fingerprint": data.fingerprint, "rows": rows, "characteristics": characteristics}
        import pandas as pd  # only whoever writes needs it, and it takes half a second

        write_json(self.summary, summary)
        write_json(self.categories, categories)
        with replacing(self.prepared / "ledger.parquet") as draft:
            pd.DataFrame([asdict(entry) for entry in data.pipeline.cleaning.ledger]).to_parquet(draft, index=False)

    def category_names(self) -> list[str]:
        """The categories of the prepared data, in their order."""
        return list(read_json(self.categories))


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def open_study(runs: Path, name: str) -> StudyFolder:
    """The folder of an existing study. Raises `ConfigError` naming the nearest one if there is none."""
    folder = StudyFolder(runs / name)
    if not os.path.exists(folder.description):  # which a name that is too long is not either
        raise ConfigError(f"no study '{name}' in {runs}{did_you_mean(name, study_names(runs))}")
    return folder


def study_names(runs: Path) -> list[str]:
    """The names of the studies in `runs`, oldest first."""
    found = [StudyFolder(path.parent) for path in runs.glob("*/study.yaml")]
    return [folder.name for folder in sorted(found, key=lambda folder: folder.description.stat().st_mtime)]
