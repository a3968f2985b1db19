"""The best config of a study as files that work without the study: config, checkpoint, and what they score."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from results.files import write_text
from results.study_folder import StudyFolder
from results.trial_record import TrialRecord
from spinlock_dist.config import TrialConfig, dump_config
from spinlock_dist.metrics.record import Metrics

FIGURES = ("imbalance", "fvu_worst", "fvu_mean", "utilization", "perplexity_ratio", "bits_per_sample")


def export_config(folder: StudyFolder, record: TrialRecord, config: TrialConfig) -> Path:
    """Write best/config.yaml and best/checkpoint, and return the config's path.

    `python -m spinlock_dist.train --config best/config.yaml` trains the same model again.
    """
    path = folder.best / "config.yaml"
    write_text(path, dump_config(config))
    draft = folder.best / ".checkpoint"
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(folder.checkpoint(record.number), draft)
    shutil.rmtree(folder.best / "checkpoint", ignore_errors=True)
    draft.rename(folder.best / "checkpoint")
    return path


def withdraw_export(folder: StudyFolder) -> None:
    """Remove an export that is no longer the best."""
    shutil.rmtree(folder.best, ignore_errors=True)


def export_readme(
    folder: StudyFolder, record: TrialRecord, baseline: TrialRecord, finals: Sequence[TrialRecord], conclusion: str
) -> None:
    """Write best/README.md: what this is, what was found, the figures beside the baseline's, how to use it."""
    ours = [final for final in finals if final.arm == record.arm]
    theirs = [final for final in finals if final.arm == "baseline"]
    columns = [("validation", record.metrics, baseline.metrics)]
    columns += [(f"test, seed {a.seed}", a.test, b.test) for a, b in zip(ours, theirs, strict=False)]
    shown = [(name, mine, base) for name, mine, base in columns if mine is not None and base is not None]
    text = [
        f"# Best config of study {folder.name}: trial {record.number}",
        conclusion,
        _table(shown),
        "Each cell: this config / uniform baseline. FVU is the fraction of variance unexplained: 0 perfect, 1 useless.",
        "```\npython -m spinlock_dist.train --config config.yaml    # trains it again\n```",
        "`checkpoint/` is the trial's own model, for `spinlock_dist.checkpoint.load_checkpoint`.",
    ]
    write_text(folder.best / "README.md", "\n\n".join(text) + "\n")


def _table(columns: Sequence[tuple[str, Metrics, Metrics]]) -> str:
    lines = ["| | " + " | ".join(name for name, _, _ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for figure in FIGURES:
        cells = [f"{getattr(mine, figure):.4g} / {getattr(base, figure):.4g}" for _, mine, base in columns]
        lines.append(f"| {figure} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
