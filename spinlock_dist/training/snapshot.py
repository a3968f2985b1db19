"""Snapshots of a training on disk, from which an interrupted one resumes as if nothing had happened.

A snapshot is one file: the SHA-256 of what follows, then tensors in the safetensors format with JSON text as their
metadata. Nothing in it can execute code.
"""

from __future__ import annotations

import glob
import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from spinlock_dist.atomic_files import replacing

DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class State:
    """Everything that the rest of a training depends on. `metadata` is plain data, its floats exact."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix`, by the rest of their names."""
        return {name.removeprefix(prefix): each for name, each in self.tensors.items() if name.startswith(prefix)}


class Snapshots:
    """The newest two snapshots of one training, at `path` and beside it, written at least `every` seconds apart.

    Attributes: `epoch`, the one a training resumed from (0: it began at the start); `notice`, a line on what `load`
    found wrong, empty if nothing.
    """

    def __init__(self, path: Path, every: float):
        self.path, self.every = path, every
        self.epoch = 0
        self.notice = ""
        self._identity = ""
        self._saved = time.monotonic()

    def load(self, identity: str, members: Sequence[str] = ()) -> State | None:
        """The newest snapshot that is whole and belongs to the training called `identity`, None without one.

        Of a training of several members it has those of the identities `members`, and maybe others. Snapshots saved
        from now on carry the same identity.
        """
        self._identity = identity
        present = [path for path in (self.path, _before(self.path)) if path.exists()]
        for path in present:
            state = unpacked(path)
            if state is not None and state.metadata["identity"] == identity and _has(state, members):
                self.epoch = state.metadata["epoch"]
                if path is not present[0]:
                    self.notice = f"{present[0]} is damaged: resumed from the one before, epoch {self.epoch}"
                return state
        if present:
            self.notice = f"{present[0]} is damaged or of another training: trained from the start"
        return None

    def part(self, name: str) -> Snapshots:
        """The snapshots of a training that is one of several, beside these."""
        return Snapshots(self.path.with_name(f"{self.path.name}.{name}"), self.every)

    @property
    def due(self) -> bool:
        """Whether `every` seconds have passed since the last snapshot, or since the start."""
        return time.monotonic() - self._saved >= self.every

    def save(self, state: State) -> None:
        """Write a snapshot; the last one is kept beside it. Raises `OSError`."""
        with replacing(self.path) as draft:
            draft.write_bytes(packed(State(state.tensors, {**state.metadata, "identity": self._identity})))
            if self.path.exists():
                self.path.replace(_before(self.path))
        self._saved = time.monotonic()


def packed(state: State) -> bytes:
    """The bytes of a file that `unpacked` reads."""
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.tensors.items()}
    content = save(tensors, {"facts": json.dumps(state.metadata)})
    return hashlib.sha256(content).digest() + content


def unpacked(path: Path) -> State | None:
    """The content of a snapshot, None if it is not what was written."""
    try:
        content = path.read_bytes()
        digest, content = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return State(load(content), json.loads(header["__metadata__"]["facts"]))
    except (OSError, ValueError, KeyError, SafetensorError):
        return None


def discard(path: Path) -> None:
    """Remove the snapshots at `path`, of a training that is over, and those of its parts."""
    for each in (path, *path.parent.glob(f"{glob.escape(path.name)}.*")):
        each.unlink(missing_ok=True)


def _has(state: State, members: Sequence[str]) -> bool:
    return not Counter(members) - Counter(member["identity"] for member in state.metadata.get("members", ()))


def _before(path: Path) -> Path:
    return path.with_name(path.name + ".before")
