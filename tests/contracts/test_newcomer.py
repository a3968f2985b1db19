"""A newcomer: the wheel is installed outside of the tree, and commands are typed as README and docs print them.

The shell is plain: nothing of this environment is in it, and the program's is not activated. As README says, commands
are then typed with the path of the environment. What takes long is held against the command's own parser alone, and
listed here, so that nothing is passed over in silence.
"""

from __future__ import annotations

import ast
import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from results.records.study_folder import StudyFolder
from spinlock_dist.command import COMMANDS, PROGRAM
from study.program import parser_of
from tests.newcomer import REPOSITORY, blocks, documented, in_sentences, pages, typed, with_wheel, words
from tests.synthetic_study import build_study

ONLY_PARSED = {
    # they run a study or serve until they are interrupted
    "dashboard": "",
    "launch": "",
    # they simulate many operators
    "generate": "",
    # they train on the default dataset, or need a file that Spinlock made
    "train": "--compare|theirs.yaml|preset.yaml|new.h5|seven.yaml|best/config.yaml",
    "diagnose": "theirs|best_model",
    # it joins a Ray cluster
    "check": "--cluster",
    # it prepares the dataset of the study, which the one here has not
    "export": "--format spinlock",
}
"""By command, a pattern of the documented lines that are only parsed."""


LINES = list(documented())
SENTENCES = [each for each in in_sentences() if "..." not in each[1] and "COMMAND" not in each[1]]
RUN_ELSEWHERE = "docs/tutorial.md"
"""`tests/integration/test_tutorial.py` runs it, from its beginning to its end."""


def is_run(page: str, line: str) -> bool:
    if page == RUN_ELSEWHERE:
        return False
    command, *rest = words(line)[1:]
    pattern = ONLY_PARSED.get(command)
    return pattern is None or (pattern != "" and not re.search(pattern, " ".join(rest)))


RUN = list({tuple(words(line)): (page, line) for page, line in LINES if is_run(page, line)}.values())
"""Each once, also where several pages print it."""


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `.venv` has the wheel."""
    return with_wheel(tmp_path_factory.mktemp("newcomer"))


@pytest.fixture(scope="module")
def at_work(newcomer: Path, operators_file: Path) -> Path:
    """The folder with what documented commands name: studies, a dataset, a checkpoint that was trained, a config."""
    shutil.copy(operators_file, newcomer / "operators.h5")
    for name in ("mine", "tpe"):
        build_study(newcomer / "runs", name, 12)
    build_study(newcomer / "runs", "cup", 6, space="quick", tournament=True)
    for name, copy in (("mine", "again"), ("tpe", "random")):
        shutil.copytree(newcomer / "runs" / name, newcomer / "runs" / copy)
    (newcomer / "trial.yaml").write_text("prepare: {dataset: operators.h5}\ntraining: {epochs: 2}\n")
    done = typed(newcomer, f"{PROGRAM} train --config trial.yaml --out ckpt")
    assert done.returncode == 0, done.stderr
    best = StudyFolder(newcomer / "runs" / "mine").best / "checkpoint"
    shutil.rmtree(best)
    shutil.copytree(newcomer / "ckpt", best)
    return newcomer


def test_the_wheel_is_whole_outside_of_the_tree(newcomer):
    version = typed(newcomer, f"{PROGRAM} --version")
    assert (version.returncode, version.stderr) == (0, "")
    assert re.fullmatch(rf"{PROGRAM} \d+\.\d+\.\d+\n", version.stdout)
    where = typed(
        newcomer,
        ".venv/bin/python -c 'import study, results, search_spaces as s, spinlock_dist as d; print("
        "study.__file__, results.__file__, s.__file__, d.__file__, *s.preset_names())'",
    )
    assert where.stdout.split()[:4] == [
        str(next((newcomer / ".venv" / "lib").glob("python*")) / "site-packages" / name / "__init__.py")
        for name in ("study", "results", "search_spaces", "spinlock_dist")
    ], where.stderr
    assert {"quick", "full"} <= {*where.stdout.split()[4:]}


@pytest.mark.parametrize(
    "page", sorted({*REPOSITORY.glob("*.md"), *REPOSITORY.glob("d*/**/*.md")}), ids=lambda path: path.name
)
def test_every_link_within_the_project_leads_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        headings = (
            re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            if file.suffix == ".md" and file.exists()
            else []
        )
        anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
        if not file.exists() or (anchor and anchor not in anchors):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize(("page", "line"), LINES, ids=[line[:60] for _, line in LINES])
def test_every_documented_command_is_taken_by_its_parser(page, line):
    program, command, *rest = words(line)
    assert program == PROGRAM, f"{page}: print it as `{PROGRAM} ...`"
    parser_of(command).parse_args(rest)


@pytest.mark.parametrize(("page", "text"), SENTENCES, ids=[text[:60] for _, text in SENTENCES])
def test_a_command_in_a_sentence_has_options_that_are_there(page, text):
    _, command, *rest = words(text)
    if command.startswith("-"):
        return
    known = parser_of(command)._option_string_actions
    assert [word for word in rest if word.startswith("--") and word.partition("=")[0] not in known] == []


@pytest.mark.parametrize(
    ("page", "line"),
    [each for each in LINES if is_run(*each)],
    ids=[line[:60] for page, line in LINES if is_run(page, line)],
)
def test_every_documented_command_that_is_cheap_runs_as_it_is_printed(at_work, page, line):
    done = typed(at_work, line)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and "Traceback" not in done.stderr


@pytest.mark.parametrize("page", [page for page, text in pages() if blocks(text, "python")])
def test_python_on_a_page_imports_what_is_there(page):
    ours = {"results", "search_spaces", "spinlock_dist", "study"}
    for block in blocks((REPOSITORY / page).read_text(encoding="utf-8"), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ours:
                module = import_module(node.module)
                assert [each.name for each in node.names if not hasattr(module, each.name)] == []


def test_of_every_command_a_line_runs_or_the_list_says_why_not():
    run = {words(line)[1] for _, line in RUN}
    never = {command for command, pattern in ONLY_PARSED.items() if not pattern}
    assert run | never >= {*COMMANDS}
    assert not run & never


def test_a_hint_of_the_program_runs_as_it_is_printed(at_work):
    refused = typed(at_work, f"{PROGRAM} status nothing")
    assert refused.returncode == 2
    helped = typed(at_work, f"{PROGRAM} leaderboard --help").stdout
    [example] = re.findall(r"^  (\S+ leaderboard mine) +the ten", helped, re.MULTILINE)
    assert example.startswith(f".venv/bin/{PROGRAM} ")
    assert typed(at_work, example).returncode == 0
