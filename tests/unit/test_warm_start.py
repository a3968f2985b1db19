"""Trials that a study did not run: its baseline, and those of earlier studies."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from results.records.optuna_distributions import distributions, suggest
from results.records.optuna_trials import DIVERGED, finished_trials, outcome, read_search, warm_records
from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord
from search_spaces import Categorical, Float, SearchSpace
from search_spaces.space import space_content
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError
from study.config import ClusterConfig, GuardsConfig, StudyConfig
from study.samplers.build import make_sampler
from study.search.constraints import COUNT, Baseline
from study.search.storage import open_journal
from study.search.warm_start import (
    PriorTrials,
    add_baseline,
    add_earlier_studies,
    check_fingerprint,
    earlier_studies,
    enqueue_initial_trials,
)

SPACE = SearchSpace(
    name="s",
    description="",
    parameters={
        "compression.strategy": Categorical(choices=("balanced", "uniform")),
        "compression.sharpness": Float(low=0.5, high=2.0),
    },
)
POINT = {"compression.strategy": "uniform", "compression.sharpness": 1.0}


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    return open_journal(tmp_path / "own.journal", "own")


@pytest.fixture
def baseline(make_record, make_metrics) -> TrialRecord:
    curve = [
        {"epoch": epoch, "trained": epoch, "seconds": 1.0, **make_metrics(0.5 + 1 / epoch, 0.1).scalars()}
        for epoch in (5, 10)
    ]
    return make_record(0, 0.5, 0.1, phase="baseline", arm="baseline", curve=curve)


@pytest.fixture
def prior(study, make_metrics) -> PriorTrials:
    return PriorTrials(study, SPACE, Baseline(make_metrics(0.5, 0.1)), GuardsConfig())


# ---------------------------------------------------------------- the baseline


def test_the_baseline_is_told_once_with_its_curve_and_is_no_trial_of_the_study(study, prior, baseline, tmp_path):
    assert add_baseline(prior, TrialConfig(), baseline)
    assert add_baseline(prior, TrialConfig(), baseline)
    [trial] = open_journal(tmp_path / "own.journal", "own").trials
    assert (trial.state, trial.params) == (TrialState.COMPLETE, POINT)
    assert trial.value == baseline.metrics.log10_imbalance
    assert trial.intermediate_values == {5: pytest.approx(0.7), 10: pytest.approx(0.6)}
    assert max(trial.constraints.values()) <= 0
    assert set(trial.constraints) > {DIVERGED, "bits", "fvu_mean"}
    assert finished_trials(study) == []
    assert warm_records(study) == []
    enqueue_initial_trials(study, SPACE, TrialConfig(), has_baseline=True)
    enqueue_initial_trials(study, SPACE, TrialConfig(), has_baseline=True)
    waiting = [trial.system_attrs["fixed_params"] for trial in study.get_trials(states=(TrialState.WAITING,))]
    assert waiting == [{**POINT, "compression.strategy": "balanced"}]


@pytest.mark.parametrize(
    ("parameters", "base"),
    [
        ({**SPACE.parameters, "compression.strategy": Categorical(choices=("balanced",))}, {}),
        (SPACE.parameters, {"compression.sharpness": 3.0}),
        ({"compression.sharpness": Float(low=0.5, high=2.0)}, {}),
    ],
    ids=["uniform is no choice", "the base lies outside", "no strategies"],
)
def test_a_space_without_the_baseline_is_not_told_it(study, prior, baseline, parameters, base):
    space = SearchSpace(name="s", description="", parameters=parameters)
    config = TrialConfig().with_overrides(base)
    assert not add_baseline(PriorTrials(study, space, prior.baseline, prior.guards_config), config, baseline)
    assert study.trials == []


# ---------------------------------------------------------------- earlier studies


def begun(runs: Path, space: SearchSpace = SPACE, fingerprint: str = "f", **settings: object) -> StudyConfig:
    """Return the config of a study that was begun."""
    config = StudyConfig(runs=str(runs), **{"name": "old", **settings})
    content = {"config": config.model_dump(mode="json"), "space": space_content(space), "fingerprint": fingerprint}
    folder = StudyFolder(runs / config.name)
    folder.write_description(content)
    folder.journal.touch()
    return config


def ran(runs: Path, records: list[TrialRecord]) -> StudyFolder:
    """Leave the trials of an earlier study."""
    folder = StudyFolder(runs / "old")
    folder.path.mkdir()
    study = open_journal(folder.journal, "old")
    for record in records:  # what is lent is computed from the record, so that here all may have failed
        study.add_trial(
            optuna.create_trial(
                state=TrialState.FAIL,
                params={"compression.strategy": "balanced", "compression.sharpness": 0.55 + record.number / 10},
                distributions=distributions(SPACE),
                user_attrs=outcome(record),
            )
        )
    return folder


@pytest.fixture
def records(make_record, make_metrics) -> list[TrialRecord]:
    curve = [{"epoch": 5, "trained": 5, "seconds": 1.0, **make_metrics(0.9, 0.1).scalars()}]
    return [
        make_record(0, 0.45, 0.1, curve=curve),
        make_record(1, 0.45, 0.4),  # breaks fvu_mean
        make_record(2, 0.9, 0.1, state="pruned", curve=curve),
        make_record(3, state="diverged", reason="epoch 3"),
        make_record(4, state="failed", reason="a bug"),
        make_record(5, 0.45, 0.11),
    ]


@pytest.mark.parametrize("objective", ["single", "pareto"])
def test_trials_of_an_earlier_study_are_told_as_they_ended_and_not_counted(
    tmp_path, make_metrics, records, baseline, objective
):
    folder = ran(tmp_path, records)
    study = open_journal(tmp_path / "own.journal", "own", COUNT[objective])
    prior = PriorTrials(study, SPACE, Baseline(make_metrics(0.5, 0.1)), GuardsConfig())
    for _ in range(2):
        add_earlier_studies(prior, [folder])
    told = {record.arm: record for record in warm_records(study)}
    expected = [0, 1, 2, 3, 5] if objective == "single" else [0, 1, 3, 5]
    assert list(told) == [f"old/trial-{number}" for number in expected]
    assert {record.phase for record in told.values()} == {"warm"}
    assert [told[arm].feasible for arm in ("old/trial-0", "old/trial-1", "old/trial-5")] == [True, False, True]
    assert told["old/trial-0"].metrics == records[0].metrics
    states = {record.arm: study.trials[record.number].state for record in told.values()}
    assert states["old/trial-0"] == TrialState.COMPLETE
    assert states["old/trial-3"] == TrialState.PRUNED
    assert study.trials[told["old/trial-3"].number].constraints[DIVERGED] == 1
    if objective == "single":
        assert study.trials[told["old/trial-2"].number].intermediate_values == {5: 0.9}
    assert read_search(study) == []

    enqueue_initial_trials(study, SPACE, TrialConfig(), has_baseline=False)
    waiting = [trial.system_attrs["fixed_params"] for trial in study.get_trials(states=(TrialState.WAITING,))]
    assert waiting[-1] == told["old/trial-5"].params  # the best feasible one is tried here again
    assert len(waiting) == 3


def test_nsga2_breeds_from_prior_trials(tmp_path, make_metrics, make_record):
    study = open_journal(tmp_path / "own.journal", "own", 3)
    study.sampler = make_sampler(StudyConfig(name="own", sampler="nsga2", objective="pareto"))
    prior = PriorTrials(study, SPACE, Baseline(make_metrics(0.5, 0.1)), GuardsConfig())
    for number in range(20):
        params = {"compression.strategy": "balanced", "compression.sharpness": 1.5}
        prior.add(make_record(number, 0.4, 0.1, params=params), f"old/trial-{number}")
    drawn = [suggest(study.ask(), SPACE) for _ in range(10)]
    assert any(values == params for values in drawn)  # a child of equal parents that no mutation has moved


# ---------------------------------------------------------------- refusals


def test_an_equal_study_on_another_machine_with_another_seed_may_lend(tmp_path):
    begun(tmp_path, base=TrialConfig(seed=5), seed=5, trials=7, cluster=ClusterConfig(gpus=0), sampler="random")
    config = StudyConfig(name="own", runs=str(tmp_path), warm_start=["old"])
    assert [folder.name for folder in earlier_studies(config, SPACE)] == ["old"]
    elsewhere = config.model_copy(update={"runs": str(tmp_path / "elsewhere"), "warm_start": (str(tmp_path / "old"),)})
    assert [folder.name for folder in earlier_studies(elsewhere, SPACE)] == ["old"]


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({"guards": GuardsConfig(utilization=0.8)}, "guards.utilization 0.8, this study's 0.9"),
        ({"space": {"training.epochs": 7}}, "base.training.epochs 7, this study's 10"),
        ({"base": TrialConfig().with_overrides({"model.hidden": 8})}, "base.model.hidden 8, this study's 32"),
        (
            {"parameters": {"compression.sharpness": Float(low=0.5, high=3.0)}},
            "space.compression.sharpness.high 3.0, this study's 2.0",
        ),
        ({"parameters": {"model.hidden": Float(low=1, high=2)}}, "space.model.hidden"),
        ({"parameters": {"compression.strategy": None}}, "space.compression.strategy"),
    ],
    ids=["guards", "epochs", "base", "range", "a parameter more", "a parameter less"],
)
def test_trials_that_cannot_be_compared_are_refused_in_a_line(tmp_path, theirs, message):
    parameters = {**SPACE.parameters, **theirs.pop("parameters", {})}
    space = SearchSpace(
        name="s",
        description="",
        parameters={name: parameter for name, parameter in parameters.items() if parameter},
        fixed=theirs.pop("space", {}),
    )
    begun(tmp_path, space, **theirs)
    with pytest.raises(ConfigError) as error:
        earlier_studies(StudyConfig(name="own", runs=str(tmp_path), warm_start=["old"]), SPACE)
    assert "--warm-start old: its trials have " + message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_other_data_an_unknown_study_and_the_study_itself_are_refused(tmp_path):
    begun(tmp_path)
    config = StudyConfig(name="own", runs=str(tmp_path), warm_start=["old"])

    class Data:
        fingerprint = "g"

    with pytest.raises(ConfigError, match="--warm-start old: it ran on other data"):
        check_fingerprint(earlier_studies(config, SPACE), Data())
    with pytest.raises(ConfigError, match=r"no study 'odl'.*did you mean 'old'"):
        earlier_studies(config.model_copy(update={"warm_start": ("odl",)}), SPACE)
    StudyFolder(tmp_path / "old").journal.unlink()
    with pytest.raises(ConfigError, match="it has no trials yet"):
        earlier_studies(config, SPACE)
    with pytest.raises(ConfigError, match="cannot learn from itself"):
        earlier_studies(config.model_copy(update={"name": "old"}), SPACE)
