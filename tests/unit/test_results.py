"""Records, tables, files, the folder of a study, and what is said about it."""

from __future__ import annotations

import math
import multiprocessing
import os
import re
from dataclasses import asdict
from pathlib import Path

import optuna
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState
from rich.console import Console

from results.analysis.pareto import front
from results.analysis.tables import write_tables
from results.export.best_folder import export_readme
from results.records.optuna_trials import ATTEMPTS, attempts_at
from results.records.settings import TrialSettings
from results.records.study_folder import StudyFolder, open_study
from results.records.trial_record import (
    Attempt,
    TrialRecord,
    best_record,
    ranking,
    read_records,
    write_records,
)
from results.report.terminal import leaderboard
from results.verdict.finding import Verdict
from results.verdict.sentences import conclude
from results.verdict.verdict import Terms, judge
from spinlock_dist.atomic_files import read_json, replacing, write_json
from spinlock_dist.errors import ConfigError, SpinlockError

# ---------------------------------------------------------------- files


def test_a_file_that_could_not_be_written_whole_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError), replacing(path) as draft:
        draft.write_text(b"not text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"new": float("nan")})
    assert read_json(path) == {"old": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]


# ---------------------------------------------------------------- records and tables


def test_records_survive_their_file(tmp_path, make_record, make_metrics):
    records = [
        make_record(0, 0.5, 0.1, params={"a": None, "b": 2}, guards={"bits": -0.1}, curve=[{"epoch": 1}], epochs=1),
        make_record(1, 0.5, 0.1, phase="final", test=make_metrics(0.6, 0.1, split="test")),
        make_record(2, state="diverged", reason="epoch 3"),
    ]
    write_records(tmp_path / "r.json", records)
    assert read_records(tmp_path / "r.json") == records


def test_an_attempt_of_an_earlier_version_is_read(make_record):
    """It calls the batch a trial was trained in `pack`."""
    now = Attempt(began="2026-01-01T00:00:00+00:00", epochs=5, ended=True, trial_batch="batch-3")
    earlier = {"pack" if name == "trial_batch" else name: value for name, value in asdict(now).items()}
    assert Attempt.from_json(earlier) == Attempt.from_json(asdict(now)) == now
    record = make_record(0, 0.5, 0.1, attempts=[now])
    assert TrialRecord.from_json({**record.to_json(), "attempts": [earlier]}) == record
    trial = optuna.create_trial(state=TrialState.RUNNING, user_attrs={ATTEMPTS: [earlier]})
    assert attempts_at(trial) == [now]


def test_tables_have_a_row_a_trial_and_a_row_a_report(tmp_path, make_record, make_metrics):
    records = [
        make_record(0, 0.5, 0.1, params={"x.y": "balanced"}, guards={"bits": 0.2}, curve=[{"epoch": 5}, {"epoch": 10}]),
        make_record(1, 0.4, 0.1, phase="final", test=make_metrics(0.6, 0.1)),
        make_record(2, state="failed", reason="its process died"),
    ]
    write_tables(StudyFolder(tmp_path), records)
    trials, curves = pd.read_parquet(tmp_path / "trials.parquet"), pd.read_parquet(tmp_path / "curves.parquet")
    assert trials["number"].tolist() == [0, 1, 2]
    assert trials["feasible"].tolist() == [False, True, False]
    assert trials["fvu.c0"].tolist()[:2] == [0.5, 0.4]
    assert trials["test.fvu_worst"][1] == 0.6
    assert trials["param.x.y"][0] == '"balanced"'
    assert trials["guard.bits"][0] == 0.2
    assert curves[["number", "epoch"]].to_numpy().tolist() == [[0, 5], [0, 10]]


def test_every_trial_has_the_levelling_down_meter(tmp_path, make_record, make_metrics):
    records = [
        make_record(0, 0.8, 0.1, phase="baseline", arm="baseline"),
        make_record(0, 0.4, 0.2),
        make_record(1, state="diverged"),
        *[make_record(0, 0.8, 0.1, phase="final", arm="baseline", test=make_metrics(0.9, 0.1))],
        make_record(0, 0.4, 0.2, phase="final", arm="trial-0", test=make_metrics(0.9, 0.3)),
    ]
    write_tables(StudyFolder(tmp_path), records)
    table = pd.read_parquet(tmp_path / "trials.parquet")
    helped, hurt = table["levelling.worst_helped"].tolist(), table["levelling.best_hurt"].tolist()
    assert helped == pytest.approx([0, math.log10(2), math.nan, 0, 0], nan_ok=True)
    assert hurt == pytest.approx([0, math.log10(2), math.nan, 0, math.log10(3)], nan_ok=True)


def test_best_is_the_feasible_trial_of_lowest_imbalance(make_record):
    records = [
        make_record(0, 0.5, 0.5, guards={"fvu_mean": 0.3}),
        make_record(1, 0.5, 0.1),
        make_record(2, 0.4, 0.1),
        make_record(3, 0.1, 0.1, state="pruned"),
    ]
    assert best_record(records) is records[2]
    assert [record.number for record in ranking(records)] == [2, 1, 0]
    assert best_record(records[:1]) is None


# ---------------------------------------------------------------- the folder


def test_one_driver_at_a_time(tmp_path):
    folder = StudyFolder(tmp_path / "s")
    held = rf"being run by process {os.getpid()} on .* since 20"
    with folder.lock(), pytest.raises(SpinlockError, match=held), folder.lock():
        pass
    with folder.lock():
        folder.write_description({"config": {}, "fingerprint": "f"})
    assert folder.description.exists()


def _hold_and_die(path: Path) -> None:
    import os

    with StudyFolder(path).lock():
        os._exit(9)


def test_a_killed_drivers_lock_is_free(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_hold_and_die, args=(tmp_path / "s",))
    process.start()
    process.join()
    assert process.exitcode == 9  # it held the lock when it died
    with StudyFolder(tmp_path / "s").lock():
        assert (tmp_path / "s").exists()


def test_a_study_that_left_nothing_leaves_no_folder(tmp_path):
    with StudyFolder(tmp_path / "s").lock():
        pass
    assert not (tmp_path / "s").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"), StudyFolder(tmp_path / "file" / "s").lock():
        pass


@pytest.mark.parametrize("text", ["{", "just text", "config: {}"])
def test_a_damaged_description_is_named(tmp_path, text):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "study.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"study\.yaml"):
        open_study(tmp_path, "s").read_description()


# ---------------------------------------------------------------- what is said


NOTHING = Verdict(findings=())


def finals(make_record, make_metrics, *pairs):
    """Pairs of (best, baseline) FVUs."""
    return [
        make_record(number, phase="final", arm=arm, seed=number, test=make_metrics(*fvu, split="test"))
        for number, pair in enumerate(pairs)
        for arm, fvu in zip(("trial-1", "baseline"), pair, strict=True)
    ]


def test_no_feasible_trial_is_said_with_the_nearest(make_record):
    misses = [make_record(1, 0.5, 0.5, guards={"fvu_mean": 0.9}), make_record(2, 0.52, 0.2, guards={"fvu_worst": 0.04})]
    text = conclude(misses, NOTHING)
    assert text.startswith("No finalist was compared with uniform ratios.")
    assert "trial 2" in text
    assert "breaks fvu_worst (4.0% above its limit)" in text
    assert conclude([make_record(3, state="diverged")], NOTHING).endswith("uniform ratios.")


def test_the_leaderboard_names_broken_guards_and_fits_a_terminal(make_record):
    baseline = make_record(0, 0.5, 0.1, arm="baseline")
    broken = make_record(7, 0.5, 0.4, guards={"fvu_mean": 0.9}, params={"a": "dimensionality", "b": 1.0})
    console = Console(width=80, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(leaderboard(baseline, [broken, make_record(8, 0.4, 0.1)], TrialSettings({})))
    text = console.export_text()
    assert text.index(" 8 ") < text.index(" 7 ")
    assert "breaks fvu_mean" in text
    assert "…" not in text


def test_the_leaderboard_shows_the_whole_front_first_and_marks_it(make_record):
    baseline = make_record(0, 0.5, 0.1, arm="baseline")
    records = [make_record(1, 0.4, 0.1), make_record(2, 0.3, 0.05), make_record(3, 0.4, 0.2)]
    records += [make_record(4, 0.41, 0.1), make_record(5, 0.5, 0.1)]  # both beaten by 1
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(leaderboard(baseline, records, TrialSettings({}), rows=4, front=front(records)))
    rows = re.findall(r"^ +\d? +(baseline|\d\*?) ", console.export_text(), re.MULTILINE)
    assert rows == ["baseline", "3*", "1*", "2*", "4"]


def test_the_front_is_stored(tmp_path, make_record):
    records = [make_record(0, 0.5, 0.1, phase="baseline", arm="baseline"), make_record(1, 0.4, 0.1)]
    records += [make_record(2, 0.3, 0.05), make_record(3, 0.4, 0.2, guards={"bits": 1.0}), make_record(4, 0.5, 0.1)]
    write_tables(StudyFolder(tmp_path), records)
    table = pd.read_parquet(tmp_path / "trials.parquet")
    assert table.loc[table["front"], "number"].tolist() == [1, 2]


# ---------------------------------------------------------------- front

RECORD = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.booleans())


@given(st.lists(RECORD, max_size=8))
def test_the_front_is_what_no_feasible_trial_beats(make_record, make_metrics, drawn):
    records = [
        make_record(
            number,
            metrics=make_metrics(0.1 * worst, 0.1, fvu_mean=0.1 * mean, utilization=used / 4),
            guards={"bits": float(not feasible)},
        )
        for number, (worst, mean, used, feasible) in enumerate(drawn)
    ]
    on_front = {record.number for record in front(records)}
    for number, (worst, mean, used, feasible) in enumerate(drawn):
        beaten = any(
            a <= worst and b <= mean and c >= used and (a, b, c) != (worst, mean, used)
            for a, b, c, counts in drawn
            if counts
        )
        assert (number in on_front) == (feasible and not beaten)
    assert [record.metrics.imbalance for record in front(records)] == sorted(
        record.metrics.imbalance for record in front(records)
    )


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("balanced", "balanced graded codes"),
        ("feedback", "feedback codes"),
        ("waterfill", "waterfill codes"),
        ("uniform", "uniform"),
        (None, "graded codes"),
    ],
)
def test_rule_and_capacity_are_named_only_where_they_are_read(make_record, strategy, words):
    params = {"compression.rule": "graded", "compression.capacity": "codes", "compression.sharpness": 2.0}
    given = {"compression.strategy": strategy} if strategy else {}
    assert TrialSettings({}).in_words(make_record(1, params=given | params)) == words


def test_the_readme_puts_figures_beside_the_baselines(tmp_path, make_record, make_metrics):
    folder = StudyFolder(tmp_path / "s")
    terms = Terms(controls={"trial-1": "baseline"}, overlap=0.6, first=2, last=2)
    [finding] = judge(finals(make_record, make_metrics, *[((0.4, 0.1), (0.5, 0.1))] * 2), terms).findings
    export_readme(folder, make_record(1, 0.4, 0.1), make_record(0, 0.5, 0.1), finding, "Found.")
    text = (folder.best / "README.md").read_text()
    assert "| imbalance | 4 / 5 | 0.80 (0.80 to 0.80) | 0.80 (0.80 to 0.80) |" in text
    assert "Found." in text
