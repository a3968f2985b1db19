"""What README and docs print, and an environment that has nothing but the wheel, to type it in."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

from spinlock_dist.command import PROGRAM

REPOSITORY = Path(__file__).resolve().parents[1]
PARTS = ("results", "search_spaces", "spinlock_dist", "study", "pyproject.toml", "README.md", "LICENSE")
PAGES = ("README.md", "docs/**/*.md")


def pages() -> Iterator[tuple[str, str]]:
    """Yield path and text of every page."""
    for path in [path for pattern in PAGES for path in sorted(REPOSITORY.glob(pattern))]:
        yield str(path.relative_to(REPOSITORY)), path.read_text(encoding="utf-8")


def documented() -> Iterator[tuple[str, str]]:
    """Yield page and line of every command in a code block."""
    for page, text in pages():
        for line in commands(text):
            yield page, line


def blocks(text: str, language: str = "") -> list[str]:
    """The code blocks of a page that are of a language, in order; commands stand in those of none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for of, block in found if of == language]


def commands(text: str) -> list[str]:
    """The commands in the code blocks of a page, in order."""
    lines = "".join(blocks(text)).splitlines()
    return [line for line in lines if re.match(rf"({PROGRAM}|python -m) ", line)]


def in_sentences() -> Iterator[tuple[str, str]]:
    """Yield page and text of every command in a sentence, with numbers in the place of words for them."""
    for page, text in pages():
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        for found in re.findall(rf"`({PROGRAM} [^`]+)`", prose):
            yield page, re.sub(r"\b(N|M|TRIAL|MORE)\b", "7", " ".join(found.split()))


def words(line: str) -> list[str]:
    """A line as a shell takes it apart."""
    return [word for word in shlex.split(line, comments=True) if word != "..."]


def with_wheel(home: Path) -> Path:
    """Give a folder a `.venv` that has the wheel; what the wheel needs is that of this environment."""
    source = home / "source"
    for part in PARTS:
        copy = shutil.copytree if (REPOSITORY / part).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(REPOSITORY / part, source / part)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # where pip would find it
    wheel = [*pip, "wheel", *offline, "--no-build-isolation", "-w", home, source]
    subprocess.run(wheel, check=True, timeout=300, env=plain)
    shutil.rmtree(source)
    venv.create(home / ".venv", with_pip=False, symlinks=True)
    python = home / ".venv" / "bin" / "python"
    install = [*pip, "--python", python, "install", *offline, *home.glob("*.whl")]
    subprocess.run(install, check=True, timeout=300, env=plain)
    [packages] = (home / ".venv" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def typed(folder: Path, line: str, *kept: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """What comes of a line that is typed in a plain shell, in a folder with an environment that is not active.

    Of this process's own environment variables the shell has only those that are to be kept.
    """
    line = re.sub(rf"^({PROGRAM}|python)\b", r".venv/bin/\1", line)
    surroundings = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    kept = ("SPINLOCK_DIST_CACHE", "NUMBA_CACHE_DIR", *kept)
    surroundings |= {name: os.environ[name] for name in kept if name in os.environ}
    return subprocess.run(
        ["/bin/sh", "-c", line], cwd=folder, env=surroundings, capture_output=True, text=True, timeout=timeout
    )
