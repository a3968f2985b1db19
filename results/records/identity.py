"""What a file of a study belongs to, told by the content of config and data: names, folders and paths may change."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from spinlock_dist.config import TrialConfig


def training_identity(config: TrialConfig, fingerprint: str) -> str:
    """The SHA-256 of all that decides a training's figures: config with its seed, and data by its fingerprint.

    Settings at their defaults are left out, so that one that a later version adds changes nothing.
    """
    # How the data was prepared is in its fingerprint, and where it lies decides nothing.
    content = config.model_dump(mode="json", exclude_defaults=True, exclude={"prepare": True, "training": {"device"}})
    return digest_of(content, fingerprint)


def digest_of(*content: Any) -> str:
    """The SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
