"""Whose a search in Optuna's storage is."""

from __future__ import annotations

from pathlib import Path

import optuna

from spinlock_dist.errors import ConfigError

OWNER = "belongs_to"
"""Attribute of a search: the identity of its study, its name when it began, and its data."""


def claim(search: optuna.Study, identity: str, name: str, data: str, where: Path) -> None:
    """Mark a search that begins as that of the study with this identity. Raises `ConfigError` if it is another's.

    A study of an earlier version has no identity; its searches are taken as they are.
    """
    owner = search.user_attrs.get(OWNER)
    if not identity or (owner is not None and owner["identity"] == identity):
        return
    if owner is None and not search.get_trials(deepcopy=False):
        search.set_user_attr(OWNER, {"identity": identity, "study": name, "data": data})
        return
    of = f"'{owner['study']}' on data {owner['data'][:12]}" if owner else f"'{search.study_name}' of an earlier version"
    raise ConfigError(f"{where}: belongs to the study {of}, not to '{name}'; restore the one that was here")
