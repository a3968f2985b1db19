"""A trial as Spinlock reads it: its YAML, and the categories beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord, arm_of
from results.verdict.sentences import spoken
from spinlock_dist.atomic_files import read_json, write_json, write_text
from spinlock_dist.checkpoint_metadata import META, read_meta
from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.ratios import allocate_ratios
from spinlock_dist.compression.strategies import get_strategy
from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import parse_config
from spinlock_dist.errors import ConfigError, SpinlockError
from spinlock_dist.interop.spinlock_writer import to_spinlock
from spinlock_dist.outputs import OutputKind, check_output, file_head

FORMAT_LINE = "# written by results.export\n"
"""First line of every exported YAML file, by which it is recognized when it is written again."""


def _is_export(path: Path) -> bool:
    return file_head(path).startswith(FORMAT_LINE)


def _begins_as_earlier_exports(path: Path) -> bool:
    first = file_head(path).partition("\n")[0]
    return _is_export(path) or (first.startswith("# ") and " of study " in first)


EXPORT = OutputKind(name="an export", is_ours=_is_export, resembles=_begins_as_earlier_exports)


def check_sidecars(out: Path, overwrite: bool) -> None:
    """Raise `ConfigError` unless the category files beside `out` are absent, or those of the export that is there."""
    by_name = OutputKind(
        name=f"what an export to {out} writes beside it",
        is_ours=lambda path: out.exists() and EXPORT.is_ours(out) and _names(out, path),
        resembles=lambda path: out.exists() and EXPORT.resembles(out) and _names(out, path),
    )
    for path in _sidecars(out):
        check_output(path, by_name, overwrite=overwrite)


def _names(out: Path, sidecar: Path) -> bool:
    return sidecar.name in out.read_text(encoding="utf-8", errors="replace")


def _sidecars(out: Path) -> tuple[Path, Path]:
    return out.with_suffix(".columns.json"), out.with_suffix(".categories.json")


def scores_in_words(record: TrialRecord) -> str:
    metrics = record.metrics
    if metrics is None:
        return record.state
    imbalance, worst, mean = (metrics.in_words(name) for name in ("imbalance", "fvu_worst", "fvu_mean"))
    return f"imbalance {imbalance}, FVU worst {worst} and mean {mean} on the validation rows"


def export_spinlock(
    folder: StudyFolder, record: TrialRecord, config: TrialConfig, out: Path
) -> tuple[list[Path], list[str]]:
    """Write a trial as Spinlock's YAML, with its categories beside it; return the files and what they leave out.

    `<out>.columns.json` holds the column numbers of each category, which Spinlock reads, `<out>.categories.json` the
    feature names, which this program reads. Raises `SpinlockError` if ratios or categories cannot be determined.
    """
    ratios = trial_ratios(folder, record, config)
    names = _kept(folder.categories)
    order = {name: column for column, name in enumerate(_columns(folder))}
    unknown = [name for features in names.values() for name in features if name not in order]
    if unknown or ratios.keys() != names.keys():
        raise SpinlockError(f"{folder.prepared}: the files in it contradict each other; run the study again")
    columns, categories = _sidecars(out)
    families = list(dict.fromkeys(name.split("::")[0] for name in order))
    text, notes = to_spinlock(config, ratios, families, str(columns))
    notes.append(
        "category_mapping_file holds column numbers after this program's cleaning; if Spinlock's cleaning keeps other "
        f"columns, use the names in {categories}; to read them here: --set prepare.categories.mapping={categories}"
    )
    head = f"{spoken(record.arm)} of study {folder.name}, {scores_in_words(record)}"
    write_json(columns, {category: [order[name] for name in features] for category, features in names.items()})
    write_json(categories, names)
    write_text(out, f"{FORMAT_LINE}# {head}\n" + "".join(f"# left out: {note}\n" for note in notes) + text)
    return [out, columns, categories], notes


def trial_ratios(folder: StudyFolder, record: TrialRecord, config: TrialConfig) -> dict[str, list[float]]:
    """The ratios of L0, L1 and L2 by category: from the trial's checkpoint, else computed by its strategy.

    Raises `SpinlockError` for a strategy that trains pilots if the checkpoint with their outcome was not kept.
    """
    own = folder.arm(arm_of(record.arm)).checkpoint(record.number) if record.phase == "search" else None
    for path in filter(None, (own, folder.best / "checkpoint")):
        if path.is_dir() and (meta := read_meta(path)) and (path == own or _config_of(meta) == config):
            try:
                return dict(zip(meta["categories"], meta["plan"]["ratios"], strict=True))
            except (KeyError, TypeError, ValueError):
                raise SpinlockError(f"{path / META}: holds no ratios") from None
    strategy = config.compression.strategy
    if get_strategy(strategy).measured:
        raise SpinlockError(
            f"{spoken(record.arm)} of {folder.name}: the ratios of {strategy} are measured by pilots, and the "
            "checkpoint that holds them was not kept; use --format native, or a study with more --keep-checkpoints"
        )
    found = _kept(folder.summary)["characteristics"]
    each = [Characteristics(**{**one, "spectrum": tuple(one["spectrum"])}) for one in found.values()]
    return dict(zip(found, np.asarray(allocate_ratios(config.compression, each)).tolist(), strict=True))


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
