"""One style of registry for whatever comes in kinds: strategies, encoders, quantizers, codecs, samplers, figures.

An entry is one line, `name: "package.module:object"`. The module is imported when the entry is asked for and not
before, so that listing names, checking a config or printing `--help` costs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Generic, TypeVar

from spinlock_dist.errors import ConfigError, did_you_mean

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Maps names to objects of one kind, e.g. `STRATEGIES["waterfill"]`; iterates in the order of registration."""

    def __init__(self, kind: str, targets: Mapping[str, str]):
        """`kind` is what error messages call an entry; `targets` maps each name to `package.module:object`."""
        self.kind = kind
        self._targets = dict(targets)

    def register(self, name: str, target: str) -> None:
        """Add an entry. Raises `ValueError` if the name is taken."""
        if name in self._targets:
            raise ValueError(f"{self.kind} '{name}' is registered already, as {self._targets[name]}")
        self._targets[name] = target

    def unregister(self, name: str) -> None:
        """Remove an entry."""
        del self._targets[name]

    def check(self, name: str) -> str:
        """`name`. Raises `ConfigError` naming the nearest known one if there is no such entry."""
        if name not in self._targets:
            raise ConfigError(f"unknown {self.kind} '{name}'{did_you_mean(name, self._targets)}")
        return name

    def __getitem__(self, name: str) -> T:
        """Import and return the entry. Raises `KeyError` if there is none: `check` has the message for users."""
        module, _, attribute = self._targets[name].partition(":")
        found: T = getattr(import_module(module), attribute)
        return found

    def __contains__(self, name: object) -> bool:
        """Whether there is such an entry; imports nothing, unlike `Mapping`'s own."""
        return name in self._targets

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)
