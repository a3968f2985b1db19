"""Studies side by side: what may be compared, what is refused, how many trials it took."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from results.compare import differences, main, trials_until
from results.records.study_folder import StudyFolder
from results.records.study_record import read_study
from spinlock_dist.errors import ConfigError
from tests.synthetic_study import build_study

OTHERS = {
    "epochs": ({"epochs": 10}, "training.epochs: 20 in a, 10 in epochs"),
    "normalization": (
        {"base": {"prepare": {"normalization": "robust"}}},
        "prepare.normalization: standard in a, robust in normalization",
    ),
    "guards": ({"guards": {"utilization": 0.5}}, "guards.utilization: 0.9 in a, 0.5 in guards"),
    "codes": ({"base": {"compression": {"max_codes": 64}}}, "compression.max_codes: 1024 in a, 64 in codes"),
    "data": ({"data_seed": 1}, "fingerprint of the data: "),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    build_study(runs, "a", 30)
    build_study(runs, "b", 30, seed=1)
    build_study(runs, "half", 12, seed=2, finished=False, running=2)
    for name, (settings, _) in OTHERS.items():
        build_study(runs, name, 8, **settings)
    return runs


def compared(runs: Path, capsys: pytest.CaptureFixture, *arguments: str) -> str:
    assert main([*arguments, "--runs", str(runs)]) == 0
    return capsys.readouterr().out


def test_studies_of_one_thing_stand_side_by_side(runs, capsys):
    content = json.loads(compared(runs, capsys, "a", "b", "half", "--json"))
    studies = {name: read_study(StudyFolder(runs / name)) for name in ("a", "b", "half")}
    assert content["differences"] == []
    assert content["reach"] == max(study.best.metrics.imbalance for study in studies.values())
    for row in content["studies"]:
        study = studies[row["study"]]
        assert row["imbalance"] == study.best.metrics.imbalance
        assert row["imbalance_ratio"] == row["imbalance"] / row["baseline_imbalance"]
        assert row["seconds"] == pytest.approx(sum(record.seconds for record in study.search))
        assert row["trials"] == len(study.search)
        assert row["reached"] == trials_until(study.search, content["reach"])
    a, _, half = content["studies"]
    for figure in ("imbalance", "fvu_worst", "fvu_mean"):
        assert a["replicated"][figure]["low"] < a["replicated"][figure]["high"]
    assert (half["replicated"], half["verdict"], half["state"]) == ({}, None, "interrupted")
    text = compared(runs, capsys, "a", "b")
    assert f"{a['imbalance']:.2f}x" in text
    assert a["verdict"] in text


def test_trials_until_counts_to_the_first_feasible_one(runs, make_record):
    search = [make_record(0, 0.9, 0.1), make_record(1, 0.2, 0.1, guards={"bits": 1.0}), make_record(2, 0.3, 0.1)]
    assert [trials_until(search, reach) for reach in (9, 3, 2)] == [1, 3, None]


def test_the_imbalance_to_reach_can_be_set(runs, capsys):
    content = json.loads(compared(runs, capsys, "a", "b", "--reach", "1.01", "--json"))
    assert [row["reached"] for row in content["studies"]] == [None, None]
    assert "not reached" in compared(runs, capsys, "a", "b", "--reach", "1.01")


@pytest.mark.parametrize("name", OTHERS)
def test_studies_of_different_things_are_refused(runs, name):
    with pytest.raises(ConfigError) as refused:
        main(["a", name, "--runs", str(runs)])
    assert str(refused.value).startswith(f"not comparable: {OTHERS[name][1]}")
    assert "--anyway" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 2
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("name", OTHERS)
def test_anyway_compares_each_with_its_own_baseline_and_says_so(runs, capsys, name):
    text = compared(runs, capsys, "a", name, "--anyway")
    assert f"different: {OTHERS[name][1]}" in text
    assert "only ratios to each study's own baseline" in text
    assert "x\n" not in text.replace(" ", "")  # no imbalance as such
    content = json.loads(compared(runs, capsys, "a", name, "--anyway", "--json"))
    assert content["reach"] is None
    assert len(content["differences"]) >= 1


def test_a_third_study_that_differs_is_named(runs):
    studies = [read_study(StudyFolder(runs / name)) for name in ("a", "b", "epochs")]
    [found] = differences(studies)
    assert found.values == {"a": 20, "epochs": 10}


@pytest.mark.parametrize("arguments", [["a"], ["a", "a"], ["a", "b", "--reach", "0.5"]])
def test_usage_is_refused(runs, arguments):
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--runs", str(runs)])
    assert stopped.value.code == 2


def test_reach_means_nothing_across_different_things(runs):
    with pytest.raises(ConfigError, match="--reach"):
        main(["a", "data", "--anyway", "--reach", "3", "--runs", str(runs)])
