"""The diagnoses that a report leads to: of the best config's checkpoint, and of the uniform baseline's."""

from __future__ import annotations

from pathlib import Path

from results.records.study_folder import StudyFolder
from results.records.study_record import StudyRecord
from results.verdict.sentences import spoken
from spinlock_dist.checkpoint_metadata import META
from spinlock_dist.errors import SpinlockError


def diagnosed(folder: StudyFolder) -> dict[str, tuple[Path, Path]]:
    """The checkpoints that a study diagnoses, as far as they are there, and the page of each."""
    checkpoints = {"best": folder.best / "checkpoint", "baseline": folder.baseline_checkpoint}
    return {name: (path, folder.diagnosis(name)) for name, path in checkpoints.items() if (path / META).exists()}


def write_diagnoses(study: StudyRecord) -> list[str]:
    """Write the page of each checkpoint that has none, or an older one; return what kept it from that, a line each.

    The rows scored are the validation rows of the dataset, which is read once more.
    """
    # Only now: a report is written without torch.
    from spinlock_dist.checkpoint import load_checkpoint
    from spinlock_dist.data.load import load_labels, load_table
    from spinlock_dist.diagnosis.measure import diagnose
    from spinlock_dist.diagnosis.pictures import draw_figures
    from spinlock_dist.diagnosis.render import write_page

    best = "the best config" if study.best is None else spoken(study.best.arm)
    names = {"best": f"{best} of study {study.name}", "baseline": f"the uniform baseline of study {study.name}"}
    problems, table = [], None
    for name, (checkpoint, page) in diagnosed(study.folder).items():
        # When it came here: a copied checkpoint keeps the time at which it was trained.
        if page.exists() and page.stat().st_mtime >= (checkpoint / META).stat().st_ctime:
            continue
        page.unlink(missing_ok=True)  # of another checkpoint
        try:
            tokenizer = load_checkpoint(checkpoint, device="cpu")
            source = tokenizer.config.prepare
            table = load_table(source) if table is None else table
            found = diagnose(tokenizer, table)
            write_page(page, found, draw_figures(tokenizer, table, found, load_labels(source, len(table))), names[name])
        except SpinlockError as error:
            problems.append(f"no diagnosis of {names[name]}: {error}")
    return problems
