"""What a checkpoint says of itself, in `meta.json`: read without torch, whose import takes seconds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from spinlock_dist.atomic_files import restore
from spinlock_dist.errors import CheckpointError
from spinlock_dist.inputs import really, require_file
from spinlock_dist.outputs import OutputKind

FORMAT_VERSION = 3
META = "meta.json"
WEIGHTS = "model.safetensors"
STATE = "training.state"
"""Where the training ended, in the format of snapshots; there if it can be resumed."""
MOST_BYTES = 256_000_000


def read_meta(folder: Path) -> dict[str, Any]:
    """The metadata of a checkpoint. Raises `CheckpointError` if there is none, or of another version."""
    folder = Path(folder)
    if not os.path.exists(folder / META):
        restore(folder)
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder}: is no folder; a checkpoint of this program is one")
    path = folder / META
    require_file(path, CheckpointError, f"not there: {folder} is not a checkpoint")
    if path.stat().st_size > MOST_BYTES:
        raise CheckpointError(f"{path}: damaged: has {path.stat().st_size / 1e6:.0f} MB")
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: {f'it is {really(path)}' if really(path) else error}") from None
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path}: format version {version!r}, this program reads {FORMAT_VERSION}")
    return meta


def _has_its_files_only(folder: Path) -> bool:
    return all(
        file.name in (META, WEIGHTS, STATE) and file.is_file() and not file.is_symlink() for file in folder.iterdir()
    )


def _is_checkpoint(folder: Path) -> bool:
    try:
        return _has_its_files_only(folder) and (folder / STATE).exists() and bool(read_meta(folder))
    except CheckpointError:
        return False


CHECKPOINT = OutputKind(
    name="a checkpoint",
    is_ours=_is_checkpoint,
    resembles=_has_its_files_only,
    others="of a study, of an earlier version, or a damaged one",
    is_folder=True,
)
"""The folder that `spinlock_dist.train --out` writes: with the state of its training, which a study does not keep."""
