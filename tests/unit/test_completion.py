"""Shell completion, by a real bash."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from spinlock_dist.command import COMMANDS
from study.program import SHELLS, completion, parser_of


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "spinlock-dist.bash"
    path.write_text(completion("bash"))
    return path


def completed(script: Path, folder: Path, *words: str) -> set[str]:
    """What bash offers in the place of the last of the words, in a folder."""
    line = " ".join(map(shlex.quote, words))
    code = f". {shlex.quote(str(script))}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
    code += '_shtab_spinlock_dist; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", code], cwd=folder, capture_output=True, text=True, timeout=60)
    assert not done.stderr
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash at hand")
def test_bash_completes_commands_options_choices_and_studies(bash_script, tmp_path):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "operators.h5").touch()

    def offered(*words: str) -> set[str]:
        return completed(bash_script, tmp_path, *words)

    assert offered("spinlock-dist", "") >= {*COMMANDS}
    assert offered("spinlock-dist", "launch", "--sam") == {"--sampler"}
    assert offered("spinlock-dist", "launch", "--objective", "") == {"single", "pareto"}
    assert offered("spinlock-dist", "status", "m") == {"mine"}
    assert offered("spinlock-dist", "data", "oper") == {"operators.h5"}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_option_of_every_command_is_in_it(shell):
    script = completion(shell)
    for command in COMMANDS:
        for option in parser_of(command)._option_string_actions:
            if option.startswith("--"):
                assert option.removeprefix("--") in script, f"{command} {option}"
