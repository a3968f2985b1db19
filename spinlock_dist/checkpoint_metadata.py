"""What a checkpoint says of itself, in `meta.json`: read without torch, whose import takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spinlock_dist.atomic_files import restore
from spinlock_dist.errors import CheckpointError

FORMAT_VERSION = 3
META = "meta.json"


def read_meta(folder: Path) -> dict[str, Any]:
    """The metadata of a checkpoint. Raises `CheckpointError` if there is none, or of another version."""
    folder = Path(folder)
    if not folder.exists():
        restore(folder)
    path = folder / META
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: not a checkpoint (no {META})") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from None
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path}: format version {version}, this program reads {FORMAT_VERSION}")
    return meta
