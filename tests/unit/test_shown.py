"""What is shown is data: names of others act neither on a terminal nor in a figure, and no work is lost to a print."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import plotly.graph_objects as go
import pytest
from rich.table import Table

from results.report.figures import figure_json
from results.report.figures.style import BOLD, BOLD_END, BREAK
from spinlock_dist.errors import SpinlockError, run_command
from spinlock_dist.shown import LastingStream, plain, terminal_console
from tests.synthetic_study import build_study

ACTING = "a\x1b[2Jb\x1b]0;title\x07c\x9bd\u202ee\u2028f\r\ud83d"


def test_no_letter_acts_on_a_terminal() -> None:
    assert plain(ACTING) == "a\\x1b[2Jb\\x1b]0;title\\x07c\\x9bd\\u202ee\\u2028f\\r\\ud83d"
    assert plain("a\u200bb\ufeffc\xadd\U000e0041") == "a\\u200bb\\ufeffc\\xadd\\U000e0041"  # nor hides
    assert plain("speed [m/s]\tµ 𝜎\nü") == "speed [m/s]\tµ 𝜎\nü"


def test_names_in_tables_are_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["speed [m/s]", "rate [/s]", "[bold]x[/bold]", ":smile:", "[link=http://x]y[/link]", "\x1b[31mred"]
    table = Table(title="[title]", caption="[/caption]")
    for name in ("[head]", "figure"):
        table.add_column(name)
    for name in names:
        table.add_row(name, "1")
    terminal_console().print(table)
    shown = capsys.readouterr().out
    assert all(plain(name) in shown for name in [*names, "[head]"])
    assert "[title]" in shown and "[/caption]" in shown and "\x1b" not in shown


def test_a_message_acts_no_more_than_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        print("feature \x1b[2J")
        raise SpinlockError("no column \x1b]0;pwn\x07")

    with pytest.raises(SystemExit) as stop:
        run_command(command)
    shown = capsys.readouterr()
    assert (stop.value.code, shown.out, shown.err) == (1, "feature \\x1b[2J\n", "error: no column \\x1b]0;pwn\\x07\n")


def test_a_figure_takes_names_for_text() -> None:
    name = "<a href='http://x'>click</a> <b>R&D</b>"
    figure = go.Figure()
    figure.add_scatter(
        x=[1], y=[name], name=name, text=[f"{BOLD}{name}{BOLD_END}{BREAK}x"], hovertemplate="<b>%{y}</b>"
    )
    figure.update_xaxes(ticktext=[name], tickvals=[1], title=name)
    figure.add_annotation(text=name)
    drawn = json.loads(figure_json(figure).replace("\\u003c", "<"))
    written = "&lt;a href='http://x'&gt;click&lt;/a&gt; &lt;b&gt;R&amp;D&lt;/b&gt;"
    [trace] = drawn["data"]
    assert (trace["y"], trace["name"], trace["text"]) == ([written], written, [f"<b>{written}</b><br>x"])
    assert trace["hovertemplate"] == "<b>%{y}</b>"
    layout = drawn["layout"]
    assert layout["xaxis"]["ticktext"] == [written] and layout["xaxis"]["title"]["text"] == written
    assert layout["annotations"][0]["text"] == written


WORKS = """
import sys
from pathlib import Path
from spinlock_dist.errors import run_command
from spinlock_dist.shown import terminal_console

def command():
    for _ in range(20_000):
        print("line after line")
    terminal_console().print("\U0001d70e spread", chr(0xd83d), soft_wrap=True)
    print("\U0001d70e spread")
    Path(sys.argv[1]).write_text("done")

run_command(command)
"""


@pytest.mark.parametrize("how", ["closed", "full", "gone", "ascii"])
def test_work_is_not_lost_to_what_it_prints(tmp_path: Path, how: str) -> None:
    done = tmp_path / "done"
    command = [sys.executable, "-c", WORKS, str(done)]
    end = {"closed": " >&-", "full": " >/dev/full", "gone": " | true; exit ${PIPESTATUS[0]}", "ascii": ""}[how]
    shell = ["bash", "-c", 'exec 3>&1; "$@"' + end, "bash", *command]
    ran = subprocess.run(
        shell,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii" if how == "ascii" else ""},
    )
    assert done.read_text() == "done"
    assert (ran.returncode, ran.stderr) == (1 if how in ("full", "gone") else 0, b"")
    if how == "ascii":
        assert ran.stdout.endswith(b"\\U0001d70e spread \\ud83d\n\\U0001d70e spread\n")


def test_a_closed_output_does_not_end_up_in_a_file(tmp_path: Path) -> None:
    code = f"""
from spinlock_dist.errors import run_command
def command():
    with open({str(tmp_path / "file")!r}, "w") as file:
        print("printed", flush=True)
run_command(command)
"""
    subprocess.run(["bash", "-c", '"$@" >&- 2>&- <&-', "bash", sys.executable, "-c", code], check=False)
    assert (tmp_path / "file").read_text() == ""


def test_commands_on_a_study_print_into_a_closed_pipe(tmp_path: Path) -> None:
    study = build_study(tmp_path, "s", 12)
    command = [sys.executable, "-m", "results.leaderboard", study.name, "--runs", str(tmp_path)]
    ran = subprocess.run(["bash", "-c", '"$@" | true', "bash", *command], capture_output=True, check=True)
    assert ran.stderr == b""


def test_a_stream_without_a_file_is_written_to() -> None:
    out, sys.stdout = sys.stdout, io.StringIO()
    try:
        terminal_console().print("[x]")
        assert sys.stdout.getvalue() == "[x]\n"
    finally:
        sys.stdout = out


def test_the_farewell_of_a_library_is_no_text():
    out = io.StringIO()
    stream = LastingStream(out)
    stream.write("\x1b[0m")
    stream.write("a\x1b[0m")
    assert out.getvalue() == "\x1b[0ma\\x1b[0m"
