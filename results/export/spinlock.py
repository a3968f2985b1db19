"""A trial as Spinlock reads it: its YAML, the categories beside it, and its features where they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from results.records.stage import OUTCOMES
from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord, arm_of
from results.verdict.sentences import spoken
from spinlock_dist.atomic_files import read_json, write_json, write_text
from spinlock_dist.checkpoint_metadata import META, read_meta
from spinlock_dist.compression.capacity import CapacityPlan, plan_capacity
from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.strategies import get_strategy
from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import parse_config
from spinlock_dist.errors import ConfigError, SpinlockError
from spinlock_dist.interop.spinlock_writer import Carried, module_names, size_table, to_spinlock
from spinlock_dist.outputs import OutputKind, check_output, file_head

if TYPE_CHECKING:
    from spinlock_dist.prepare import PreparedData

FORMAT_LINE = "# written by results.export\n"
"""First line of every exported YAML file, by which it is recognized when it is written again."""


def _is_export(path: Path) -> bool:
    return file_head(path).startswith(FORMAT_LINE)


def _begins_as_earlier_exports(path: Path) -> bool:
    first = file_head(path).partition("\n")[0]
    return _is_export(path) or (first.startswith("# ") and " of study " in first)


EXPORT = OutputKind(name="an export", is_ours=_is_export, resembles=_begins_as_earlier_exports)


def check_sidecars(out: Path, overwrite: bool, with_data: bool) -> None:
    """Raise `ConfigError` unless what goes beside `out` is absent, or of the export that is there."""
    by_name = OutputKind(
        name=f"what an export to {out} writes beside it",
        is_ours=lambda path: out.exists() and EXPORT.is_ours(out) and _names(out, path),
        resembles=lambda path: out.exists() and EXPORT.resembles(out) and _names(out, path),
    )
    for path in _sidecars(out):
        check_output(path, by_name, overwrite=overwrite)
    if _dataset(out) == out:
        raise ConfigError(f"--out {out}: is where the features of this export go; name a .yaml file")
    if with_data:
        from spinlock_dist.interop.spinlock_dataset import FEATURES

        check_output(_dataset(out), FEATURES, overwrite=overwrite)


def _names(out: Path, sidecar: Path) -> bool:
    return sidecar.name in out.read_text(encoding="utf-8", errors="replace")


def _sidecars(out: Path) -> tuple[Path, Path]:
    return out.with_suffix(".columns.json"), out.with_suffix(".categories.json")


def _dataset(out: Path) -> Path:
    return out.with_suffix(".h5")


def scores_in_words(record: TrialRecord) -> str:
    metrics = record.metrics
    if metrics is None:
        return OUTCOMES[record.state]
    imbalance, worst, mean = (metrics.in_words(name) for name in ("imbalance", "fvu_worst", "fvu_mean"))
    return f"imbalance {imbalance}, FVU worst {worst} and mean {mean} on the validation rows"


def export_spinlock(
    folder: StudyFolder, record: TrialRecord, config: TrialConfig, out: Path, with_data: bool = False
) -> tuple[list[Path], list[str]]:
    """Write a trial as Spinlock's YAML, with its categories beside it; return the files and lines on what is in them.

    `<out>.columns.json` holds the column numbers of each category, which Spinlock reads, `<out>.categories.json` the
    feature names, which this program reads. The YAML names a dataset `<out>.h5` with the features as they were encoded
    and cleaned; it is written only `with_data`, from the study's own dataset, which is prepared again.
    Raises `SpinlockError` if ratios or categories cannot be determined, or the dataset is not the study's any more.
    """
    plan, names = trial_plan(folder, record, config), _kept(folder.categories)
    order = _columns(folder)
    number = {name: column for column, name in enumerate(order)}
    unknown = [name for features in names.values() for name in features if name not in number]
    if unknown or len(plan.ratios) != len(names):
        raise SpinlockError(f"{folder.prepared}: the files in it contradict each other; run the study again")
    columns, categories = _sidecars(out)
    dataset = _dataset(out)
    called = module_names(names)
    # Full paths: it looks for files from the folder that its command is started in.
    carried = Carried(
        categories={called[name]: len(features) for name, features in names.items()},
        plan=plan,
        families=list(dict.fromkeys(name.split("::")[0] for name in order)),
        dataset=str(dataset.absolute()),
        mapping=str(columns.absolute()),
        checkpoints=str(out.with_suffix(".trained").absolute()),
    )
    text, notes = to_spinlock(config, carried)
    notes = [f"left out: {note}" for note in notes]
    notes += [f"category {name}: called {theirs} there" for name, theirs in called.items() if name != theirs]
    notes.append(f"the names of the features of each category: {categories.name}")
    if with_data:
        _write_data(dataset, folder, config)
    else:
        notes.append(
            f"not written: {dataset.name}, without which there is nothing to train on; write it with: python -m "
            f"results.export {folder.name} --format spinlock --with-data --out {out.name}"
        )
    notes += [f"sizes: {line}" for line in size_table(config, carried)]
    head = f"{spoken(record.arm)} of study {folder.name}, {scores_in_words(record)}"
    write_json(columns, {called[category]: [number[name] for name in own] for category, own in names.items()})
    write_json(categories, names)
    write_text(out, f"{FORMAT_LINE}# {head}\n" + "".join(f"# {note}\n" for note in notes) + text)
    return [out, columns, categories, *([dataset] if with_data else [])], notes


def _write_data(path: Path, folder: StudyFolder, config: TrialConfig) -> None:
    # Imported only here: they load torch and the simulator, which no other export needs.
    from spinlock_dist.interop.spinlock_dataset import write_features
    from spinlock_dist.prepare import prepare

    data: PreparedData = prepare(config.prepare)
    if data.fingerprint != _kept(folder.summary).get("fingerprint"):
        source = config.prepare.dataset or "what is simulated"
        raise SpinlockError(f"{source}: is not what study {folder.name} was run on any more; put its dataset back")
    write_features(path, data)


def trial_plan(folder: StudyFolder, record: TrialRecord, config: TrialConfig) -> CapacityPlan:
    """Ratios and sizes of a trial's categories: from its checkpoint, else computed by its strategy.

    Raises `SpinlockError` for a strategy that trains pilots if the checkpoint with their outcome was not kept.
    """
    own = folder.arm(arm_of(record.arm)).checkpoint(record.number) if record.phase == "search" else None
    for path in filter(None, (own, folder.best / "checkpoint")):
        if path.is_dir() and (meta := read_meta(path)) and (path == own or _config_of(meta) == config):
            try:
                return CapacityPlan(**{name: np.array(meta["plan"][name]) for name in ("ratios", "dims", "codes")})
            except (KeyError, TypeError, ValueError):
                raise SpinlockError(f"{path / META}: holds no ratios") from None
    strategy = config.compression.strategy
    if get_strategy(strategy).measured:
        raise SpinlockError(
            f"{spoken(record.arm)} of {folder.name}: the ratios of {strategy} are measured by pilots, and the "
            "checkpoint that holds them was not kept; use --format native, or a study with --set keep_checkpoints=N"
        )
    summary = _kept(folder.summary)
    try:
        given = summary["characteristics"].items()
        found = [{**one, "spectrum": tuple(one["spectrum"]), "name": name} for name, one in given]
        each, rows = [Characteristics(**one) for one in found], int(summary["rows"]["train"])
    except (AttributeError, KeyError, TypeError, ValueError):
        raise SpinlockError(f"{folder.summary}: not a file that a study wrote") from None
    return plan_capacity(config.compression, each, rows, config.quantizer)


def _config_of(meta: dict[str, Any]) -> TrialConfig | None:
    """The config of a checkpoint, None if this version cannot read it."""
    try:
        return parse_config(TrialConfig, meta.get("config"), META)
    except ConfigError:
        return None


def _columns(folder: StudyFolder) -> list[str]:
    """The features that cleaning kept, in the order of the columns."""
    from pyarrow import parquet

    path = folder.prepared / "ledger.parquet"
    try:
        ledger = parquet.ParquetFile(path).read(columns=["feature", "dropped"]).to_pylist()
    except (OSError, ValueError) as error:
        raise SpinlockError(f"{path}: cannot be read: {error}") from None
    return [row["feature"] for row in ledger if row.get("dropped") is None]


def _kept(path: Path) -> Any:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise SpinlockError(f"{path}: cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise SpinlockError(f"{path}: not a file that a study wrote")
    return content
