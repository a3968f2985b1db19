"""docs/troubleshooting.md quotes what the program says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
SYMPTOMS = re.findall(r"^\| ([^|]+) \|", PAGE, re.MULTILINE)
QUOTED = [message for symptom in SYMPTOMS for message in re.findall(r"`([^`]+)`", symptom)]


def texts(path: Path) -> Iterator[str]:
    """Yield what a module may say: its texts, with a mark for what is filled in."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.fixture(scope="module")
def said() -> str:
    packages = ("results", "search_spaces", "spinlock_dist", "study")
    modules = [path for name in packages for path in sorted((REPOSITORY / name).rglob("*.py"))]
    every = [text for path in modules for text in texts(path)]
    return "\n".join([*every, (REPOSITORY / "Makefile").read_text(encoding="utf-8")])


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_one_of_the_program(said: str, message: str) -> None:
    assert re.search(".*".join(map(re.escape, message.split("…"))), said)


def test_the_page_quotes_messages() -> None:
    assert len(QUOTED) > 30
