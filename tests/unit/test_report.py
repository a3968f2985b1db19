"""The report: whole, self-contained, readable in every state of a study, and drawn by a browser where there is one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from results.analysis.importance import importances
from results.records.study_folder import StudyFolder
from results.records.study_record import StudyRecord, read_study
from results.records.trial_record import TrialRecord
from results.report.command import main
from results.report.diagnoses import write_diagnoses
from results.report.figures import FIGURES, figure_json, figures
from results.report.figures.style import COLOURS, PALETTE_ON_DARK, SYMBOLS, log_axis, ratio_axis
from results.report.render import render_report
from results.report.sections import SECTIONS, about, sections
from results.report.sections.parts import moment
from search_spaces import Float
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
    ended = next(record for record in study.search if record.reason)
    renamed = replace(ended, arm=evil, reason=evil, params={**ended.params, "compression.strategy": evil})
    study.records[study.records.index(ended)] = renamed
    page = Page(render_report(study))
    assert page.tags.count("script") == len(FIGURES) + 3
    assert evil in page.text


def test_every_figure_stands_in_a_section_there_is():
    assert {figure.section for figure in FIGURES.values()} <= set(SECTIONS)


def test_every_colour_has_one_for_the_dark_and_a_sign_beside_it():
    assert set(PALETTE_ON_DARK) == set(COLOURS.values())
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)


# ---------------------------------------------------------------- the first screen


def test_the_first_screen_says_which_config_and_why_with_names_of_features(study):
    outcome = sections(study)["outcome"]
    assert study.best is not None and study.best.metrics and study.baseline and study.baseline.metrics
    strategy = study.settings.strategy(study.best)
    assert outcome.texts[0].startswith(f"Trial {study.best.number}: strategy {strategy}, which gives more to ")
    worst = study.baseline.metrics.worst_category
    first = study.categories[worst][0].rpartition("::")[2]
    why = outcome.reasons[0]
    assert f"worst under uniform ratios was {worst} ({len(study.categories[worst])} features" in why
    assert first in why and " bits where uniform ratios give " in why and "codes " in why
    assert f"FVU {study.baseline.metrics.fvu[worst]:.3f} to {study.best.metrics.fvu[worst]:.3f}" in why
    listed = next(table for table in sections(study)["config"].tables if table.heads[-1] == "features")
    assert {row[0] for row in listed.rows} == set(study.categories)


def test_a_best_trial_with_uniform_ratios_is_said_to_have_them(study):
    assert study.best is not None
    uniform = replace(study.best, params={**study.best.params, "compression.strategy": "uniform"})
    study.records[study.records.index(study.best)] = uniform
    outcome = sections(study)["outcome"]
    assert "the same ratios for every category" in outcome.texts[0]
    assert outcome.reasons == ["Its ratios are uniform too: what differs is how it is trained."]


def test_a_report_leads_to_the_diagnoses_wherever_it_lies(finished, study, tmp_path):
    def addresses(page: str) -> list[str]:
        return [value for name, value in Page(page).attributes if name == "href" and not value.startswith("#")]

    assert addresses(render_report(study)) == [], "nothing was diagnosed"
    page = finished.diagnosis("best")
    page.parent.mkdir()
    try:
        page.write_text("a page")
        assert addresses(render_report(study)) == ["diagnosis/best.html"]
        [elsewhere] = addresses(render_report(study, beside=tmp_path))
        assert (tmp_path / elsewhere).resolve() == page.resolve()
    finally:
        shutil.rmtree(page.parent)


def test_a_page_of_another_checkpoint_is_not_kept(finished, study):
    page = finished.diagnosis("best")
    page.parent.mkdir()
    try:
        page.write_text("of the best before this one")
        os.utime(page, (0, 0))
        assert len(write_diagnoses(study)) == 1, "the synthetic study's checkpoint has no weights"
        assert not page.exists()
    finally:
        shutil.rmtree(page.parent)


def test_a_checkpoint_that_cannot_be_diagnosed_is_named_and_costs_no_report(finished, runs, capsys):
    assert main([finished.name, "--runs", str(runs), "--diagnose"]) == 0  # the synthetic study's has no weights
    assert "no diagnosis of trial" in capsys.readouterr().out
    assert finished.report.exists()


# ---------------------------------------------------------------- while a study runs


def test_a_live_report_reloads_itself_and_the_last_one_does_not(study):
    live = render_report(study, reload_seconds=7)
    assert '<html lang="en" data-reload="7" data-written="' in live
    assert "this page renews itself" in Page(live).text
    assert '<html lang="en">' in render_report(study)


def test_live_ends_when_the_study_does(runs, capsys):
    folder = build_study(runs, "lively", 8, finished=False, running=1)
    driver = f"""
import sys
from results.records.study_folder import StudyFolder
from pathlib import Path
with StudyFolder(Path({str(folder.path)!r})).lock():
    print("drives", flush=True)
    sys.stdin.readline()
"""
    process = subprocess.Popen([sys.executable, "-c", driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "drives\n"
    written: list[str] = []

    def end_the_study() -> None:
        while not folder.report.exists():
            time.sleep(0.05)
        written.append(folder.report.read_text(encoding="utf-8"))
        process.communicate("end\n")

    watcher = threading.Thread(target=end_the_study)
    watcher.start()
    assert main(["lively", "--runs", str(runs), "--live", "1"]) == 0
    watcher.join()
    assert "data-reload" in written[0]
    assert '<html lang="en">' in folder.report.read_text(encoding="utf-8")
    assert "anew every 1 s while the study runs" in capsys.readouterr().out


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
    opening = "Why: worst under" if word == "better" else "What it did: worst under"
    assert sections(study)["outcome"].reasons[0].startswith(opening)


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


def test_a_study_that_has_ended_does_not_say_yet(study):
    assert study.state == "finished"
    for record in study.search:
        study.records[study.records.index(record)] = replace(record, guards={"bits": 1.0})
    study.verdict = {"findings": [], "conclusion": "No finalist was compared with uniform ratios."}
    assert sections(study)["config"].texts == ["None: no trial is feasible."]
    assert " yet" not in Page(render_report(study)).text


def test_times_are_for_people(study):
    assert "started 1 January 2026, 00:00 UTC" in about(study)
    assert moment("2026-05-03T23:30:00-02:00") == "4 May 2026, 01:30 UTC"
    assert moment("2026-05-03T23:30:00") == "3 May 2026, 23:30"
    assert moment("some day") == "some day"


def test_a_finalist_that_is_its_own_control_has_no_tiles_that_say_1(study):
    exported = next(each for each in study.verdict["findings"] if each["arm"] == study.verdict["exported"])
    exported["control"] = exported["arm"]
    same = {"ratio": 1.0, "low": 1.0, "high": 1.0, "confidence": 0.95}
    exported["against_control"] = {name: dict(same) for name in exported["effects"]}
    outcome = sections(study)["outcome"]
    assert [tile.label for tile in outcome.tiles] == [
        "imbalance / baseline's",
        "worst category / baseline's",
        "mean error / baseline's",
    ]
    [row] = [row for row in outcome.tables[0].rows if row[0] == exported["arm"].replace("-", " ")]
    assert row[5:8] == [None, None, None]


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
    assert set(FIGURES) - set(page.figures) == {"rate_distortion", "raw_decomposition"}  # sizes and scales


def test_a_space_that_is_lost_costs_only_what_needs_it(study):
    del study.description["space"]
    page = Page(render_report(study))
    assert set(FIGURES) - set(page.figures) == {"importance", "slices", "contour", "parallel"}
    assert "the search space cannot be read" in page.text


# ---------------------------------------------------------------- figures


@pytest.mark.parametrize("reach", [(0.5, 0.9), (0.98, 0.99), (1.0, 1.0), (1.2, 1.4), (0.3, 40.0)])
def test_a_forest_plot_has_a_tick_on_either_side_of_1(reach):
    axis = ratio_axis(reach)
    low, high = (10**end for end in axis["range"])
    assert low <= min(reach) and high >= max(reach)
    ticks = [tick for tick in axis["tickvals"] if low <= tick <= high]
    assert min(ticks) < 1 < max(ticks)


def test_finalists_lie_beside_each_other_in_the_forest_plot(study):
    figure = FIGURES["effects"].draw(study)
    assert list(figure.layout.yaxis.ticktext) == ["imbalance", "worst category's error", "mean error"]
    assert len({y for trace in figure.data for y in trace.y}) == sum(len(trace.y) for trace in figure.data)


def test_trials_have_their_own_numbers(study):
    scored = [record for record in study.search if record.metrics is not None]
    numbers = [record.number for record in scored]
    assert numbers != list(range(len(numbers))), "some failed: places and numbers differ"
    marks = [trace for trace in FIGURES["history"].draw(study).data if trace.mode == "markers"]
    assert sorted(x for trace in marks for x in trace.x) == numbers


def test_every_seed_of_the_baseline_is_drawn(study):
    seeds = study.phase("baseline")
    assert len(seeds) == 2
    levels = {record.metrics.estimate("imbalance") for record in seeds}
    name = "uniform baseline, 2 seeds"

    def trace(figure: str):
        return next(trace for trace in FIGURES[figure].draw(study).data if trace.name == name)

    assert set(trace("pareto").x) == levels
    assert len(trace("categories").x) == 2 * len(study.categories)
    assert trace("curves").x.count(None) == 1  # two curves, with a gap
    for figure in ("history", "strategies"):
        assert {shape.y0 for shape in FIGURES[figure].draw(study).layout.shapes} == levels


def test_the_best_quarter_is_of_feasible_trials(study):
    trials = [record for record in study.search if record.state == "complete"]
    least = min(trials, key=lambda record: record.metrics.estimate("imbalance"))
    study.records[study.records.index(least)] = replace(least, guards={"fvu_mean": 0.5})
    feasible = sum(record.feasible for record in study.search)
    lines = {trace.name: trace.y for trace in FIGURES["parallel"].draw(study).data}
    counts = {name: sum(y is None for y in values) for name, values in lines.items()}
    assert counts["best quarter of the feasible trials"] == -(-feasible // 4)
    assert counts["infeasible"] == len(trials) - feasible
    ends = {name: [y for y, gap in pairwise(values) if gap is None] for name, values in lines.items()}
    assert min(ends["infeasible"]) == 0, "the lowest imbalance of all"
    assert min(ends["best quarter of the feasible trials"]) > 0


def test_settings_without_effect_are_drawn_nowhere(study):
    """As where a space draws every setting for every trial: those that a strategy does not read say nothing."""
    drawn = {"compression.rule": "graded", "compression.sharpness": 2.0}
    for record in study.search:
        record.params.update({name: value for name, value in drawn.items() if name not in record.params})
    deaf = [record for record in study.search if study.settings.strategy(record) in ("uniform", "feedback")]
    assert deaf and all(study.settings.is_inert(record, name) for record in deaf for name in drawn)
    figure = FIGURES["slices"].draw(study)
    place = [title.text for title in figure.layout.annotations].index("compression.sharpness") + 1
    axis = "x" if place == 1 else f"x{place}"
    shown = {text for trace in figure.data if trace.xaxis == axis for text in trace.text}
    assert shown and not shown & {f"trial {record.number}" for record in deaf}
    assert not set(drawn) & set(importances(study.search, study.space(), study.settings)["imbalance"])
    study.verdict["exported"] = deaf[0].arm
    [table] = [each for each in sections(study)["config"].tables if each.heads == ("setting", "best", "baseline")]
    assert {row[0]: row[1] for row in table.rows}["compression.sharpness"] == "no effect"


@pytest.mark.parametrize(
    ("unread", "value"), [("quantizer.fsq_levels", 5), ("model.shared_hidden", 64), ("compression.feedback.risk", 2.0)]
)
def test_what_no_trial_reads_has_no_importance(study, unread, value):
    for record in study.search:
        record.params[unread] = value + record.number % 3
    parameters = {**study.space().parameters, unread: Float(low=0, high=100)}
    found = importances(study.search, replace(study.space(), parameters=parameters), study.settings)
    assert found["imbalance"] and unread not in found["imbalance"]


def test_a_duplicate_is_not_drawn_as_infeasible(study):
    twin = next(record for record in study.search if record.feasible)
    study.records[study.records.index(twin)] = replace(twin, kind="duplicate")
    places = {trace.name: list(trace.x) for trace in FIGURES["history"].draw(study).data if trace.mode == "markers"}
    assert [name for name, numbers in places.items() if twin.number in numbers] == ["duplicate"]


def test_categories_are_named_by_their_features(study):
    figure = FIGURES["categories"].draw(study)
    names = sorted(study.categories, key=study.baseline.metrics.fvu.get)
    for name, label in zip(names, figure.layout.yaxis.ticktext, strict=True):
        assert label.startswith(f"{name}: {study.categories[name][0].rpartition('::')[2]}")


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
