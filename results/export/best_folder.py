"""The folder `best/` of a study: config, checkpoint and README of the trial that was chosen."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord
from results.verdict.contrasts import FIGURES
from results.verdict.finding import Finding
from results.verdict.sentences import spoken
from spinlock_dist.atomic_files import replacing_folder, write_text
from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import dump_config

WRITTEN = (
    "config.yaml",
    "checkpoint",
    "README.md",
    "spinlock.yaml",
    "spinlock.columns.json",
    "spinlock.categories.json",
)
"""What is in the folder of the best trial."""


def export_config(best: Path, config: TrialConfig, checkpoint: Path) -> Path:
    """Write config.yaml and a copy of the checkpoint into the folder `best`, and return the config's path.

    `python -m spinlock_dist.train --config best/config.yaml` trains the same model again.
    """
    path = best / "config.yaml"
    write_text(path, dump_config(config))
    with replacing_folder(best / "checkpoint") as draft:
        shutil.copytree(checkpoint, draft, dirs_exist_ok=True)
    return path


def withdraw_export(folder: StudyFolder) -> None:
    """Remove an export that is no longer the best; files that somebody else put beside it stay."""
    for written in folder.best.glob("*"):
        if written.name in WRITTEN:
            shutil.rmtree(written, ignore_errors=True) if written.is_dir() else written.unlink(missing_ok=True)
    with suppress(OSError):
        folder.best.rmdir()


def export_readme(
    folder: StudyFolder, record: TrialRecord, baseline: TrialRecord, finding: Finding, conclusion: str
) -> None:
    """Write best/README.md: what this is, what was found, the figures beside the baseline's, how to use it."""
    text = [
        f"# Best config of study {folder.name}: {spoken(record.arm)}",
        conclusion,
        _table(record, baseline, finding),
        "Validation: each row of the folds scored by a model that has not seen it; these figures steered the search. "
        "Test: ratios on held-out rows that steered nothing, with their intervals; the control has this config's "
        "training settings and uniform ratios. FVU is the fraction of variance unexplained: 0 is perfect, 1 useless. "
        "All figures are in `verdict.json` beside this folder.",
        "```\npython -m spinlock_dist.train --config config.yaml    # trains it again\n```",
        "`checkpoint/` is the trial's own model, for `spinlock_dist.checkpoint.load_checkpoint`. `spinlock.yaml` is "
        "its config for Spinlock's `train-vqvae`, with the categories beside it; its head says what it leaves out and "
        "which command writes the dataset that it names.",
    ]
    write_text(folder.best / "README.md", "\n\n".join(text) + "\n")


def _table(record: TrialRecord, baseline: TrialRecord, finding: Finding) -> str:
    ours, theirs = record.metrics, baseline.metrics
    assert ours is not None and theirs is not None
    heads = ("", "validation: this / baseline", "test: ratio to the baseline's", "to the control's")
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|---|"]
    for name in FIGURES:
        ratios = " | ".join(str(effects.get(name, "")) for effects in (finding.effects, finding.against_control))
        lines.append(f"| {name} | {ours.estimate(name):.4g} / {theirs.estimate(name):.4g} | {ratios} |")
    for name in ("utilization", "bits_per_sample", "bits_carried_per_sample"):
        found = (getattr(each, name) for each in (ours, theirs))
        lines.append(f"| {name} | {' / '.join('?' if value is None else f'{value:.4g}' for value in found)} | | |")
    return "\n".join(lines)
