"""The folder `best/` of a study: config, checkpoint and README of the trial that was chosen."""

from __future__ import annotations

import shutil
from pathlib import Path

from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord
from results.verdict.verdict import COMPARED, Finding, spoken
from spinlock_dist.atomic_files import replacing_folder, write_text
from spinlock_dist.config import TrialConfig
from spinlock_dist.config_file import dump_config


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
    """Remove an export that is no longer the best."""
    shutil.rmtree(folder.best, ignore_errors=True)


def export_readme(
    folder: StudyFolder, record: TrialRecord, baseline: TrialRecord, finding: Finding, conclusion: str
) -> None:
    """Write best/README.md: what this is, what was found, the figures beside the baseline's, how to use it."""
    text = [
        f"# Best config of study {folder.name}: {spoken(record.arm)}",
        conclusion,
        _table(record, baseline, finding),
        "Validation: on the study's own split. Test: this config's figure / the uniform baseline's, geometric mean "
        "over the replicates, with its interval. FVU is the fraction of variance unexplained: 0 is perfect, 1 useless. "
        "All figures are in `verdict.json` beside this folder." + _beyond(finding),
        "```\npython -m spinlock_dist.train --config config.yaml    # trains it again\n```",
        "`checkpoint/` is the trial's own model, for `spinlock_dist.checkpoint.load_checkpoint`. `spinlock.yaml` is "
        "its config for Spinlock's `train-vqvae`, with the categories beside it; its head says what it leaves out.",
    ]
    write_text(folder.best / "README.md", "\n\n".join(text) + "\n")


def _beyond(finding: Finding) -> str:
    if finding.new_data is None:
        return ""
    low, high = finding.new_data
    return (
        " Splits of the same rows overlap; for new data of the same kind the interval of the imbalance ratio is "
        f"{low:.3g} to {high:.3g}."
    )


def _table(record: TrialRecord, baseline: TrialRecord, finding: Finding) -> str:
    assert record.metrics is not None and baseline.metrics is not None
    lines = ["| | validation: this / baseline | test: ratio to the baseline's |", "|---|---|---|"]
    for name, figure in COMPARED.items():
        shown = str(finding.effects.get(name, ""))
        lines.append(f"| {name} | {figure(record.metrics):.4g} / {figure(baseline.metrics):.4g} | {shown} |")
    return "\n".join(lines)
