"""A study whose trials are kept in a database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from results.records.optuna_trials import attempts_at, open_search, read_search
from results.records.study_folder import StudyFolder
from search_spaces import Float, SearchSpace
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError
from study.cluster.resources import Resources
from study.config import GuardsConfig, StudyConfig
from study.samplers.build import make_sampler
from study.search.constraints import Baseline
from study.search.searcher import AskTellSearcher, SearchPlan
from study.search.storage import open_storage, release, resolved_url
from tests.unit.test_searcher import member_failure, member_report, result

SPACE = SearchSpace(name="s", description="", parameters={"compression.sharpness": Float(low=0.5, high=2.0)})


@pytest.fixture
def config(tmp_path: Path) -> StudyConfig:
    return StudyConfig(name="s", runs=str(tmp_path / "runs"), storage=f"sqlite:///{tmp_path}/trials.db")


@pytest.fixture
def folder(config: StudyConfig) -> StudyFolder:
    folder = StudyFolder(Path(config.runs) / config.name)
    folder.path.mkdir(parents=True)
    return folder


def make_searcher(study: optuna.Study, baseline, target: int = 6) -> AskTellSearcher:
    study.sampler = make_sampler(StudyConfig(name="s"))
    resources = Resources(concurrent=2, cpus=1, gpus=0)
    guards = GuardsConfig()
    plan = SearchPlan(
        space=SPACE, base=TrialConfig(), target=target, baseline=Baseline(baseline), guards=guards, resources=resources
    )
    return AskTellSearcher(study, plan)


def test_outcomes_and_interruptions_are_kept_as_in_a_journal(
    config: StudyConfig, folder: StudyFolder, make_metrics: Callable
) -> None:
    baseline = make_metrics(0.5, 0.1)
    searcher = make_searcher(open_storage(folder, config), baseline)
    searcher.suggest("a")
    searcher.on_trial_complete("a", result(member_report(make_metrics(0.4, 0.1), 10, "complete", 0)))
    searcher.suggest("b")
    searcher.on_trial_complete("b", result(member_report(make_metrics(0.9, 0.1), 10, "running", 1)))
    searcher.suggest("c")
    searcher.on_trial_complete("c", result(member_failure("non-finite", number=2)))
    running = searcher.suggest("d")
    searcher.on_trial_result("d", result(member_report(make_metrics(0.6, 0.1), 5, number=3)))

    study = open_storage(folder, config)  # the driver is killed, and another takes over
    assert release(study, "driver lost", "the driver was lost") == 1
    again = make_searcher(study, baseline).suggest("e")
    assert again["members"] == running["members"]

    seen = open_search(folder)
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED, TrialState.RUNNING]
    assert [trial.state for trial in seen.trials] == states
    assert [record.state for record in read_search(seen)] == ["complete", "pruned", "diverged"]
    assert [record.feasible for record in read_search(seen)] == [True, False, False]
    assert seen.best_trial.number == 0
    assert seen.trials[1].intermediate_values == {10: 0.9}
    assert [attempt.kind for attempt in attempts_at(seen.trials[3])] == ["driver lost", ""]


def test_a_name_that_is_taken_there_is_refused(config: StudyConfig, folder: StudyFolder, tmp_path: Path) -> None:
    open_storage(folder, config)
    elsewhere = config.model_copy(update={"runs": str(tmp_path / "other")})
    other = StudyFolder(Path(elsewhere.runs) / "s")
    other.path.mkdir(parents=True)
    with pytest.raises(ConfigError, match="has a study 's' already: choose another --name"):
        open_storage(other, elsewhere)


def test_each_search_of_a_tournament_has_a_study_of_its_own(config: StudyConfig, folder: StudyFolder) -> None:
    for arm in ("uniform", "feedback"):
        folder.arm(arm).path.mkdir(parents=True)
        open_storage(folder.arm(arm), config).set_user_attr("arm", arm)
    assert {arm: open_search(each).user_attrs["arm"] for arm, each in folder.searches.items()} == {
        "uniform": "uniform",
        "feedback": "feedback",
    }
    assert optuna.get_all_study_names(config.storage) == ["s/uniform", "s/feedback"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "Could not parse"),
        ("nosuch://there/trials", "nosuch"),
        ("sqlite:////proc/none/trials.db", "unable to open"),
        ("postgresql://me:secret@there/trials", "leave the password out"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        resolved_url(url)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_a_file_means_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolved_url("sqlite:///trials.db") == f"sqlite:///{tmp_path}/trials.db"
    assert resolved_url(None) is None
