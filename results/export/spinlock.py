"""A trial as Spinlock reads it: its YAML, and the categories beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord, arm_of
from results.verdict.verdict import spoken
from spinlock_dist.atomic_files import read_json, write_json, write_text
from spinlock_dist.checkpoint_metadata import META, read_meta
from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.ratios import allocate_ratios
from spinlock_dist.compression.strategies import get_strategy
from spinlock_dist.config import TrialConfig, parse_config
from spinlock_dist.errors import ConfigError, SpinlockError
from spinlock_dist.interop.spinlock_writer import to_spinlock


def scores_in_words(record: TrialRecord) -> str:
    metrics = record.metrics
    if metrics is None:
        return record.state
    figures = f"imbalance {metrics.imbalance:.4g}, FVU worst {metrics.fvu_worst:.4g} and mean {metrics.fvu_mean:.4g}"
    return f"{figures} on the validation rows"


def export_spinlock(
    folder: StudyFolder, record: TrialRecord, config: TrialConfig, out: Path
) -> tuple[list[Path], list[str]]:
    """Write a trial as Spinlock's YAML, and its categories beside it; return the files and what they cannot say.

    `<out>.columns.json` holds the numbers of each category's columns, as Spinlock reads them, `<out>.categories.json`
    their names, as this program does. Raises `SpinlockError` if ratios or categories are not to be had.
    """
    ratios = trial_ratios(folder, record, config)
    names = _kept(folder.categories)
    order = {name: column for column, name in enumerate(_columns(folder))}
    unknown = [name for features in names.values() for name in features if name not in order]
    if unknown or ratios.keys() != names.keys():
        raise SpinlockError(f"{folder.prepared}: the files there contradict each other; prepare the study anew")
    columns, categories = out.with_suffix(".columns.json"), out.with_suffix(".categories.json")
    families = list(dict.fromkeys(name.split("::")[0] for name in order))
    text, notes = to_spinlock(config, ratios, families, str(columns))
    notes.append(
        "category_mapping_file: numbers of the columns that cleaning left here; where it leaves others there, go by "
        f"their names in {categories}; to read them here: --set prepare.categories.mapping={categories}"
    )
    head = f"{spoken(record.arm)} of study {folder.name}, {scores_in_words(record)}"
    write_json(columns, {category: [order[name] for name in features] for category, features in names.items()})
    write_json(categories, names)
    write_text(out, f"# {head}\n" + "".join(f"# not said: {note}\n" for note in notes) + text)
    return [out, columns, categories], notes


def trial_ratios(folder: StudyFolder, record: TrialRecord, config: TrialConfig) -> dict[str, list[float]]:
    """Return the ratios of L0, L1 and L2 by category: from the trial's checkpoint, else as its strategy gives them.

    Raises `SpinlockError` for a strategy that trains pilots, where the checkpoint that knows their outcome is not kept.
    """
    own = folder.arm(arm_of(record.arm)).checkpoint(record.number)
    for path in (own, folder.best / "checkpoint"):
        if path.is_dir() and (meta := read_meta(path)) and (path == own or _config_of(meta) == config):
            try:
                return dict(zip(meta["categories"], meta["plan"]["ratios"], strict=True))
            except (KeyError, TypeError, ValueError):
                raise SpinlockError(f"{path / META}: says nothing of ratios") from None
    strategy = config.compression.strategy
    if get_strategy(strategy).measured:
        raise SpinlockError(
            f"{spoken(record.arm)} of {folder.name}: the ratios of {strategy} come from pilots, and the checkpoint "
            "that has them is not kept; use --format native, or a study with more --keep-checkpoints"
        )
    found = _kept(folder.summary)["characteristics"]
    each = [Characteristics(**{**one, "spectrum": tuple(one["spectrum"])}) for one in found.values()]
    return dict(zip(found, np.asarray(allocate_ratios(config.compression, each)).tolist(), strict=True))


def _config_of(meta: dict[str, Any]) -> TrialConfig | None:
    """Return the config of a checkpoint, None if this version cannot read it."""
    try:
        return parse_config(TrialConfig, meta.get("config"), META)
    except ConfigError:
        return None


def _columns(folder: StudyFolder) -> list[str]:
    """Return the features that cleaning kept, in the order of the columns."""
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
        raise SpinlockError(f"{path}: not what a study writes there")
    return content
