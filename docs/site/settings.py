"""Writes docs/settings.md, every setting by its dotted name, from the classes of the program.

    python docs/site/settings.py

A test holds the page to be what this writes.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from spinlock_dist.config import ENCODERS, QUANTIZERS, STRATEGIES, Section, TrialConfig
from study.config import SAMPLERS, StudyConfig

PAGE = Path(__file__).resolve().parents[1] / "settings.md"
HEAD = """# Settings

Every setting by its dotted name, from the program's own classes (`python docs/site/settings.py` writes this page). The
dotted name is what `--set` takes and what search spaces vary. In YAML the parts of a name are nested:
`training.epochs` stands as `epochs` under `training`.

A `study.yaml` has the settings of a study, with those of its trials under `base`. The config of one training has those
of a trial alone. `launch --set` takes both kinds, `train --set` those of a trial."""
REGISTRIES = {
    "Strategies (`compression.strategy`)": STRATEGIES,
    "Quantizers (`quantizer.kind`)": QUANTIZERS,
    "Family encoders (`prepare.families`)": ENCODERS,
    "Samplers (`sampler`, or the dotted name of any of Optuna's)": SAMPLERS,
}
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
WORDS = {int: "whole number", float: "number", bool: "true or false"}
BAR = "\\|"
Row = tuple[str, str, str, str]


def page() -> str:
    """The whole page."""
    study = (row for row in _rows(StudyConfig(name="x"), "") if not row[0].startswith("base."))
    names = [f"- {what}: {', '.join(f'`{name}`' for name in registry)}" for what, registry in REGISTRIES.items()]
    trial = _rows(TrialConfig(), "")
    parts = (HEAD, "## Of a study", _table(study), "## Of a trial", _table(trial), "## Names", "\n".join(names))
    return "\n\n".join(parts) + "\n"


def _rows(section: Section, prefix: str) -> Iterator[Row]:
    """Yield name, default, what is allowed and what it is, of a section and of those in it."""
    docs = _docs(type(section))
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _rows(value, f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() and not prefix else _shown(value)
            yield f"{prefix}{name}", default, _allowed(field), docs.get(name, "")


def _docs(section: type[Section]) -> dict[str, str]:
    """The text below each field."""
    [tree] = ast.parse(inspect.getsource(section)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            words = " ".join(str(ast.literal_eval(text.value)).split())
            found[field.target.id] = re.sub(r"In `[A-Z]+`", "One of [those below](#names)", words)
    return found


def _shown(value: Any) -> str:
    """A value as it is written in YAML; nothing for what is absent."""
    if value is None:
        return ""
    return f"`{yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}`"


def _allowed(field: FieldInfo) -> str:
    """Types in words, choices, and bounds."""
    limits = [(sign, getattr(each, key, None)) for key, sign in SIGNS.items() for each in field.metadata]
    bounds = [f"{sign} {limit:g}" for sign, limit in limits if limit is not None]
    return ", ".join([" or ".join(dict.fromkeys(_kinds(field.annotation))), *bounds])


def _kinds(annotation: Any) -> Iterator[str]:
    origin = get_origin(annotation)
    if origin is Literal:
        yield from (f"`{choice}`" for choice in get_args(annotation))
    elif origin in (Union, UnionType):
        for each in get_args(annotation):
            if each is not NoneType:
                yield from _kinds(each)
    elif hasattr(annotation, "__metadata__"):
        yield from _kinds(get_args(annotation)[0])
    elif origin in (tuple, list):
        yield "list"
    elif origin is dict:
        yield "mapping"
    else:
        yield WORDS.get(annotation, "text")


def _table(rows: Iterable[Row]) -> str:
    lines = ["| setting | default | allowed | what it is |", "|---|---|---|---|"]
    for name, *cells in rows:
        lines.append(f"| `{name}` | {' | '.join(cell.replace('|', BAR) for cell in cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
