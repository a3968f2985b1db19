"""The shape of the house, held by tests: who may import whom, what costs no torch, and that no option is idle."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from spinlock_dist.command import COMMANDS
from spinlock_dist.config import ENCODERS, Section, TrialConfig

ROOT = Path(__file__).resolve().parents[2]

# Each part may import those above it, never those below.
HOUSE = ("spinlock_dist", "search_spaces", "results", "study")
CORE = (
    (
        "errors",
        "shown",
        "fitted_table",
        "cores",
        "command",
        "seeding",
        "atomic_files",
        "outputs",
        "progress",
        "inputs",
        "memory",
        "documents",
        "registry",
        "parsing",
        "preset",
        "given_ratios",
        "config",
        "config_file",
        "split",
        "device",
    ),
    ("compiled",),
    ("simulator",),
    ("data",),
    ("features",),
    ("categories",),
    ("compression",),
    ("live_settings",),
    ("prepare",),
    ("model",),
    ("metrics",),
    ("baselines",),
    ("training",),
    ("tokenizer",),
    ("checkpoint_metadata", "checkpoint_checks", "checkpoint", "diagnosis"),
    ("run", "out_of_fold", "token_files"),
    ("interop", "tables"),
    ("dry_run",),
    ("generate", "train", "diagnose", "tokenize", "detokenize", "data_info"),
)
# Of a package with rooms: those in one row do not build on the rows below. What is not named is the package's face.
ROOMS = {
    "results": (
        ("records",),
        ("analysis", "verdict", "command"),
        ("report",),
        ("leaderboard", "compare", "export", "dataframes"),
    ),
    "study": (
        ("config", "events"),
        ("cluster",),
        ("worker", "samplers", "provenance"),
        ("search", "monitor"),
        ("context",),
        ("phases",),
        ("validate",),
        ("pipeline",),
        ("launch_options", "notification", "cluster_check"),
        ("launch", "program", "status", "dashboard", "dashboard_view", "check"),
    ),
}
ENGINES = {"ray", "optuna"}
LONGEST_FUNCTION = 60
MOST_ARGUMENTS = 6

FILES = [path for package in HOUSE for path in sorted((ROOT / package).rglob("*.py"))]
CORE_FILES = [path for path in FILES if path.is_relative_to(ROOT / "spinlock_dist")]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield the dotted name of everything imported in a file, inside functions and type checks too."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: imports are written in full here"
            yield from ((*str(node.module).split("."), alias.name) for alias in node.names)


def place_in_core(part: str) -> int:
    place = next((place for place, parts in enumerate(CORE) if part in parts), None)
    assert place is not None, f"spinlock_dist.{part} has no place in CORE; give it one"
    return place


# ---------------------------------------------------------------- arrows


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_packages_import_one_way(path: Path) -> None:
    own = HOUSE.index(path.relative_to(ROOT).parts[0])
    later = {name[0] for name in imported(path)} & set(HOUSE[own + 1 :])
    assert not later, f"{name_of(path)} imports {later}, which is built on it"


@pytest.mark.parametrize("path", CORE_FILES, ids=name_of)
def test_the_core_imports_one_way(path: Path) -> None:
    part = path.relative_to(ROOT / "spinlock_dist").with_suffix("").parts[0]
    if part == "__init__":
        return
    for name in imported(path):
        if name[0] == "spinlock_dist" and name[1] != part:
            assert place_in_core(name[1]) <= place_in_core(part), f"{name_of(path)} imports {'.'.join(name)}"


def room_of(name: tuple[str, ...]) -> int | None:
    """The row in ROOMS of a dotted name; None for the face of a package, or a package without rooms."""
    rows = ROOMS.get(name[0], ())
    return next((place for place, rooms in enumerate(rows) if name[1:2] and name[1] in rooms), None)


@pytest.mark.parametrize("path", [path for path in FILES if path.relative_to(ROOT).parts[0] in ROOMS], ids=name_of)
def test_rooms_import_one_way(path: Path) -> None:
    own = path.relative_to(ROOT).with_suffix("").parts
    row = room_of(own)
    assert row is not None or own[1] == "__init__", f"{name_of(path)} has no place in ROOMS; give it one"
    for name in imported(path):
        if row is not None and name[0] == own[0] and name[1] != own[1]:
            there = room_of(name)
            assert there is not None, f"{name_of(path)} imports {'.'.join(name)}, which has no place in ROOMS"
            assert there <= row, f"{name_of(path)} imports {'.'.join(name)}, which is built on it"


@pytest.mark.parametrize("package", ROOMS)
def test_no_two_rooms_import_each_other(package: str) -> None:
    arrows: dict[str, set[str]] = {}
    for path in FILES:
        own = path.relative_to(ROOT).with_suffix("").parts
        if own[0] == package:
            arrows.setdefault(own[1], set()).update(name[1] for name in imported(path) if name[0] == package)
    mutual = [(one, other) for one, there in arrows.items() for other in there if one < other and one in arrows[other]]
    assert not mutual


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {module_of(path) for path in FILES}

    def module_in(name: tuple[str, ...]) -> str | None:
        whole = [".".join(name[:parts]) for parts in range(len(name), 0, -1)]
        return next((each for each in whole if each in modules), None)

    graph = {
        module_of(path): {found for name in imported(path) if (found := module_in(name))} - {module_of(path)}
        for path in FILES
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
        circle: list[str] = []
    except graphlib.CycleError as error:
        circle = error.args[1]
    assert not circle, " -> ".join(circle)


@pytest.mark.parametrize(("engine", "homes"), [("ray", {"study"}), ("optuna", {"study", "results"})])
def test_only_the_study_knows_ray_and_only_it_and_its_results_optuna(engine: str, homes: set[str]) -> None:
    others = [path for path in FILES if path.relative_to(ROOT).parts[0] not in homes]
    offenders = [name_of(path) for path in others if engine in {name[0] for name in imported(path)}]
    assert not offenders


# ---------------------------------------------------------------- what an import costs


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh Python process has loaded after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return set(finished.stdout.split())


def test_the_core_runs_without_ray_and_optuna() -> None:
    everything = ", ".join(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in CORE_FILES
    )
    assert not ENGINES & loaded_by(f"import {everything}")


@pytest.mark.parametrize("module", ["spinlock_dist.config", "search_spaces", "search_spaces.show"])
def test_settings_cost_no_torch(module: str) -> None:
    assert not {"torch", *ENGINES} & loaded_by(f"import {module}")


def test_every_command_that_a_page_names_is_there() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = {name for page in pages for name in re.findall(r"^spinlock-dist ([a-z]+)(?= |$)", page.read_text(), re.M)}
    assert named and named <= {*COMMANDS}
    modules = {name for page in pages for name in re.findall(r"python -m ([\w.]+)", page.read_text())}
    ours = {name for name in modules if name.split(".")[0] in HOUSE}
    assert ours and ours <= {module for module, _ in COMMANDS.values()}


@pytest.mark.parametrize("command", sorted(module for module, _ in COMMANDS.values()))
def test_help_is_quick(command: str) -> None:
    run_it = f"import runpy, sys\nsys.argv = ['x', '--help']\ntry: runpy.run_module({command!r}, run_name='__main__')"
    loaded = loaded_by(f"{run_it}\nexcept SystemExit as stop: assert not stop.code")
    assert not {"torch", *ENGINES} & loaded


def test_no_benchmark_hides_a_package() -> None:
    """A script's own folder comes first where Python looks for modules."""
    hidden = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} & {*HOUSE, *sys.stdlib_module_names, "tests"}
    assert not hidden


# ---------------------------------------------------------------- packaging and text


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert listed == sorted({".".join(path.relative_to(ROOT).parent.parts) for path in FILES})


def test_every_package_says_what_it_is_for_or_nothing() -> None:
    for package in HOUSE:
        assert (ROOT / package / "__init__.py").exists()
        assert (ROOT / package / "py.typed").exists()


def public_definitions(path: Path) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Yield public functions and classes of a module, and the public methods of those classes."""
    for node in parse(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_"))


@pytest.mark.parametrize("path", CORE_FILES, ids=name_of)
def test_what_is_public_is_explained(path: Path) -> None:
    assert ast.get_docstring(parse(path)) or not parse(path).body, f"{name_of(path)} has no docstring"
    silent = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for node in public_definitions(path)
        if not ast.get_docstring(node) and node.name != "forward"
    ]
    assert not silent, "without a docstring: " + ", ".join(silent)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{name_of(path)}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_function_takes_few_arguments(path: Path) -> None:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len([argument for argument in given if argument.arg not in ("self", "cls")])
            assert count <= MOST_ARGUMENTS, f"{name_of(path)}:{node.lineno} {node.name} takes {count}"


# ---------------------------------------------------------------- time

WALL_CLOCK = {"study/cluster/watch.py"}  # which says when it is set back


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_decided_by_a_clock_that_can_be_set(path: Path) -> None:
    nodes = list(ast.walk(parse(path)))
    uses = [node for node in nodes if isinstance(node, ast.Attribute | ast.ImportFrom)]
    wall = [
        f"{name_of(path)}:{node.lineno}"
        for node in uses
        if (isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "time.time_ns"))
        or (isinstance(node, ast.ImportFrom) and node.module == "time")
    ]
    assert not wall or name_of(path) in WALL_CLOCK, f"time.monotonic() is the clock for what lasts: {', '.join(wall)}"
    # A date is for people: it is written as text where it is asked for, and never subtracted.
    dates = {id(node.value) for node in uses if isinstance(node, ast.Attribute)}  # datetime.now(...).isoformat
    shown = {id(node.value) for node in nodes if isinstance(node, ast.FormattedValue)}
    for node in nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("datetime.now", "datetime.utcnow", "date.today"):
            assert id(node) in dates | shown, f"{name_of(path)}:{node.lineno} keeps a date to reckon with"


# ---------------------------------------------------------------- no idle option


def sections(annotation: object) -> Iterator[type[Section]]:
    """Yield the sections that a field's annotation contains, e.g. in `dict[str, A | B] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from sections(argument)


def settings_of(section: type[Section]) -> Iterator[str]:
    """Yield every setting in a section and in the sections below it, as `Section.name`."""
    for name, field in section.model_fields.items():
        if name != "encoder":  # the name in the registry
            yield f"{section.__name__}.{name}"
        for inner in sections(field.annotation):
            yield from settings_of(inner)


def attributes_read(node: ast.AST) -> set[str]:
    return {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}


def test_every_setting_is_read_somewhere_in_the_core() -> None:
    config = ROOT / "spinlock_dist" / "config.py"
    read = set().union(*(attributes_read(parse(path)) for path in CORE_FILES if path != config))
    # a public method of a section, such as LevelBounds.pairs, reads for others; a validator does not
    read |= set().union(
        *(attributes_read(node) for node in public_definitions(config) if isinstance(node, ast.FunctionDef))
    )
    given = [setting for section in (TrialConfig, *ENCODERS.values()) for setting in settings_of(section)]
    idle = [setting for setting in given if setting.split(".")[1] not in read]
    assert not idle, f"settings that nothing reads: {idle}"


# ---------------------------------------------------------------- README


def tree_paths(text: str) -> Iterator[str]:
    """Yield the paths of the folder tree in README: two spaces of indentation a level, then `name   what it is`."""
    block = text.split("## The house", 1)[1].split("```", 2)[1]
    folders: list[str] = []
    for line in block.splitlines()[1:]:
        indentation, name = re.match(r"( *)(\S+)", line).groups()  # type: ignore[union-attr]
        folders = [*folders[: len(indentation) // 2], name.rstrip("/")]
        yield "/".join(folders)


def test_the_tree_in_the_readme_is_the_tree() -> None:
    missing = [path for path in tree_paths((ROOT / "README.md").read_text()) if not (ROOT / path).exists()]
    assert not missing, f"README names what is not there: {missing}"
