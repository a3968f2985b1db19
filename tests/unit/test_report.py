"""The report: whole, self-contained, readable in every state of a study, and drawn by a browser where there is one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from results.records.study_folder import StudyFolder
from results.records.study_record import StudyRecord, read_study
from results.records.trial_record import TrialRecord
from results.report.command import main
from results.report.figures import FIGURES, figure_json, figures
from results.report.figures.style import COLOURS, PALETTE_ON_DARK, SYMBOLS, log_axis
from results.report.render import render_report
from results.report.sections import SECTIONS, sections
from spinlock_dist.errors import ConfigError
from tests.synthetic_study import build_study

VOID = {"meta", "br"}
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUESTIONS = ("outcome", "config", "learned", "limit", "hypotheses", "course")


class Page(HTMLParser):
    """Collects tags, attributes, text outside of scripts, and figures; holds that every tag is closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text, self.figures = "", {}
        self._figure: str | None = None
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._figure = dict(attrs).get("data-figure")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            if self._figure:
                self.figures[self._figure.removeprefix("plot-")] = json.loads(data)
        else:
            self.text += data


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def finished(runs: Path) -> StudyFolder:
    return build_study(runs, "finished", 40)


@pytest.fixture
def study(finished: StudyFolder) -> StudyRecord:
    return read_study(finished)


# ---------------------------------------------------------------- the page


def test_a_finished_study_has_every_figure_and_answers_every_question(study):
    page = Page(render_report(study))
    assert set(page.figures) == set(FIGURES)
    assert [value for name, value in page.attributes if name == "id" and value in QUESTIONS] == list(QUESTIONS)
    for plot in FIGURES.values():
        assert plot.title in page.text and plot.caption in page.text
    assert study.verdict["conclusion"] in page.text
    assert str(study.folder.best / "config.yaml") in page.text
    assert not study.problems


def test_the_page_needs_nothing_else(study):
    text = render_report(study)
    page = Page(text)
    assert not {"link", "img", "iframe", "object"} & set(page.tags)
    assert not [value for name, value in page.attributes if name == "src"]
    assert not re.findall(r"(?:url\(|@import)[^;]*", re.search(r"<style>(.*?)</style>", text, re.S)[1])
    assert "default-src 'none'" in text
    assert len(text) < 6e6


def test_names_are_not_markup(study):
    evil = "</script><script>alert(1)</script><b>"
    failed = next(record for record in study.search if record.state == "failed")
    renamed = replace(failed, arm=evil, reason=evil, params={**failed.params, "compression.strategy": evil})
    study.records[study.records.index(failed)] = renamed
    page = Page(render_report(study))
    assert page.tags.count("script") == len(FIGURES) + 3
    assert evil in page.text


def test_every_figure_stands_in_a_section_there_is():
    assert {figure.section for figure in FIGURES.values()} <= set(SECTIONS)


def test_every_colour_has_one_for_the_dark_and_a_sign_beside_it():
    assert set(PALETTE_ON_DARK) == set(COLOURS.values())
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)


# ---------------------------------------------------------------- in every state


def outcome_of(study: StudyRecord) -> str:
    section = sections(study)["outcome"]
    return " ".join([section.verdict, *section.texts])


@pytest.mark.parametrize(
    ("word", "heading"),
    [
        ("better", "Yes:"),
        ("more even, but worse", "Not as it should:"),
        ("no difference shown", "Not shown:"),
        ("worse", "No:"),
    ],
)
def test_the_first_line_is_the_verdict(study, word, heading):
    exported = study.verdict["exported"]
    for finding in study.verdict["findings"]:
        finding["verdict"] = word if finding["arm"] == exported else "better"
    assert outcome_of(study).startswith(heading)


def test_a_study_that_runs_says_what_it_has_so_far(runs):
    study = read_study(build_study(runs, "half", 20, finished=False, running=2))
    assert outcome_of(study).startswith("Not decided")
    assert "So far, on the validation rows" in outcome_of(study)
    page = Page(render_report(study))
    assert "Still running or waiting: trial 18, trial 19." in page.text
    assert set(FIGURES) - set(page.figures) == {"effects"}


def test_a_study_with_nothing_but_a_baseline_has_a_report(study):
    study.records, study.verdict = study.phase("baseline"), None
    page = Page(render_report(study))
    assert set(page.figures) == {"raw_decomposition"}
    assert "No trial keeps every guard yet" in page.text
    study.records = []
    assert "The uniform baseline has not been trained yet." in Page(render_report(study)).text


def test_a_tournament_has_its_standings(runs):
    study = read_study(build_study(runs, "cup", 6, tournament=True))
    page = Page(render_report(study))
    assert "The tournament: equally many trials for each" in page.text
    assert all(row["arm"] in page.text for row in study.standings)


def test_damage_is_named_and_the_rest_is_shown(runs, capsys):
    folder = build_study(runs, "damaged", 20)
    os.truncate(folder.trials, folder.trials.stat().st_size // 2)
    folder.summary.write_text("{")
    assert main(["damaged", "--runs", str(runs)]) == 0
    told = capsys.readouterr().out
    assert "trials.parquet" in told and "prepared/summary.json" in told
    page = Page(folder.report.read_text(encoding="utf-8"))
    assert "prepared/summary.json: cannot be read" in page.text
    assert set(FIGURES) - set(page.figures) == {"rate_distortion"}  # it needs the sizes of the categories


def test_a_space_that_is_lost_costs_only_what_needs_it(study):
    del study.description["space"]
    page = Page(render_report(study))
    assert set(FIGURES) - set(page.figures) == {"importance", "slices", "contour", "parallel"}
    assert "the search space cannot be read" in page.text


# ---------------------------------------------------------------- figures


def set_back(record: TrialRecord) -> TrialRecord:
    """A trial that began after the clock was set back by an hour."""
    began = [datetime.fromisoformat(attempt.began) - timedelta(hours=1) for attempt in record.attempts]
    attempts = [replace(attempt, began=each.isoformat()) for attempt, each in zip(record.attempts, began, strict=True)]
    return replace(record, attempts=attempts)


@pytest.mark.parametrize("clock", ["right", "set back"])
def test_lanes_of_the_timeline_do_not_overlap(study, clock):
    if clock == "set back":
        half = len(study.search) // 2
        study = replace(study, records=[*study.search[:half], *map(set_back, study.search[half:])])
    spans: dict[str, list[tuple[float, float]]] = {}
    for bars in FIGURES["timeline"].draw(study).data:
        for start, milliseconds, lane in zip(bars.base, bars.x, bars.y, strict=True):
            spans.setdefault(lane, []).append((start.timestamp(), start.timestamp() + milliseconds / 1000))
    assert sum(len(each) for each in spans.values()) == sum(bool(r.attempts and r.seconds) for r in study.search)
    for each in spans.values():
        each.sort()
        assert all(end <= start for (_, end), (start, _) in pairwise(each))


@pytest.mark.parametrize("values", [(0.15, 0.17), (3.0, 20.0), (1.0, 1e7), (5.0,), ()])
def test_an_axis_has_a_few_round_numbers(values):
    axis = log_axis(values)
    low, high = min(values, default=1), max(values, default=1)
    assert sum(low / 2 <= tick <= high * 2 for tick in axis["tickvals"]) >= 1
    assert [float(text) for text in axis["ticktext"]] == pytest.approx(axis["tickvals"])


def test_figures_are_there_for_a_notebook(study):
    found = figures(study)
    assert set(found) == set(FIGURES)
    assert "<" not in figure_json(found["history"])


# ---------------------------------------------------------------- the command


def test_the_command_writes_where_it_is_told(finished, tmp_path, capsys):
    out = tmp_path / "new" / "page.html"
    assert main([finished.name, "--runs", str(finished.path.parent), "--out", str(out)]) == 0
    assert out.exists()
    assert f"report: {out}" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="cannot be written"):
        main([finished.name, "--runs", str(finished.path.parent), "--out", str(tmp_path)])
    with pytest.raises(ConfigError, match="did you mean 'finished'"):
        main(["finishd", "--runs", str(finished.path.parent)])


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_draws_every_figure_without_a_complaint(study, tmp_path, width):
    (tmp_path / "report.html").write_text(render_report(study), encoding="utf-8")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
    flags += ("--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}")
    flags += ("--enable-logging=stderr", "--virtual-time-budget=20000", f"--window-size={width},2000", "--dump-dom")
    command = [str(CHROMIUM), *flags, f"file://{tmp_path / 'report.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert f'data-drawn="{len(FIGURES)}"' in done.stdout
    assert done.stdout.count('class="main-svg"') >= len(FIGURES)
    assert "CONSOLE" not in done.stderr
