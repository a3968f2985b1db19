"""The way to an object in an HDF5 file, link by link: nothing outside of the file is reached unless asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import h5py
from h5py import h5d, h5p

from spinlock_dist.errors import DataError
from spinlock_dist.inputs import require_file

MOST_LINKS = 16
"""Soft links followed after each other; more are taken for a circle."""
COPY, ASK = "copy the data into the file", ", or set prepare.linked_files: true to read it there"

Node: TypeAlias = "h5py.Group | h5py.Dataset | h5py.Datatype"


def node_at(group: h5py.Group, place: str, path: Path, linked: bool | None, depth: int = 0) -> Node | None:
    """The object at `place` under `group`, None if there is none. `linked` is None where nobody can ask for it.

    Raises `DataError` for a link that leads nowhere, in a circle, or to another file unless `linked`.
    """
    node: Node = group
    for name in filter(None, place.split("/")):
        if not isinstance(node, h5py.Group):
            return None
        try:
            link = node.get(name, getlink=True)
        except TypeError:
            raise DataError(f"{path}: {_below(node, name)} is a link of an unknown kind") from None
        if link is None:
            return None
        if isinstance(link, h5py.SoftLink):
            start = node.file if link.path.startswith("/") else node
            found = node_at(start, link.path, path, linked, depth + 1) if depth < MOST_LINKS else None
            if found is None:
                raise DataError(
                    f"{path}: {_below(node, name)} is a link to {link.path}, which is not there; "
                    "remove the link or put there what it should lead to"
                )
            node = found
        else:
            if isinstance(link, h5py.ExternalLink):
                target = beside(path, link.filename)
                allow(path, _below(node, name), target, linked)
            node = _opened(node, name)
    return node


def _opened(group: h5py.Group, name: str) -> Node:
    """An object of a group; other files that a dataset needs are looked for beside its own file."""
    if group.get(name, getclass=True) is not h5py.Dataset:
        return group[name]
    access = h5p.create(h5p.DATASET_ACCESS)
    access.set_efile_prefix(b"${ORIGIN}")
    access.set_virtual_prefix(b"${ORIGIN}")
    return h5py.Dataset(h5d.open(group.id, name.encode(), access))


def beside(path: Path, name: str) -> Path:
    """Another file that the file at `path` names; relative names start at its folder."""
    return path.parent / name


def allow(path: Path, place: str, target: Path, linked: bool | None) -> None:
    """Raise `DataError` unless `place` may lie in the file `target` and that is a file."""
    if not linked:
        raise DataError(f"{path}: {place} lies in another file, {target}; {COPY}{'' if linked is None else ASK}")
    require_file(target, DataError, f"is not there, but {place} of {path} lies in it")


def _below(group: h5py.Group, name: str) -> str:
    return f"{(group.name or '').rstrip('/')}/{name}"
