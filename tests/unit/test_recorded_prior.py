"""What trials recorded on other data tell a sampler: where to begin, how good settings are, and when it is silent."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from results.records.optuna_distributions import suggest
from search_spaces import Categorical, Float, SearchSpace, load_space, preset_names
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError
from study.config import StudyConfig
from study.samplers.build import NO_PRIOR, make_sampler
from study.samplers.recorded_prior import FOLDER, NEWEST, STRATEGY, RecordedPrior, read_recorded, recorded_prior
from study.validate import validate

SHIPPED = {"2026-11-28": "83a849bbd234c604f1c70d4c8187a808ccab308176aed5b0b636051b38799b04"}
DEFAULT = load_space("adaptive_compression")


def prior_of(space: SearchSpace) -> RecordedPrior:
    prior = recorded_prior(read_recorded(NEWEST), space, TrialConfig())
    assert prior is not None
    return prior


def test_what_was_shipped_never_changes() -> None:
    """A study that began with a file would go on with another one."""
    found = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.glob("*.json")}
    assert found.items() >= SHIPPED.items()
    assert max(found) == NEWEST


def test_settings_that_were_good_on_all_tables_are_expected_to_be_good() -> None:
    recorded, prior = read_recorded(NEWEST), prior_of(DEFAULT)
    mean = np.mean(list(recorded.scores.values()), axis=0)
    expected = prior.scores(recorded.settings)
    assert np.corrcoef(mean, expected)[0, 1] > 0.9
    feedback = [each[STRATEGY] == "feedback" for each in recorded.settings]
    assert expected[feedback].max() < np.median(expected)


@pytest.mark.parametrize("name", preset_names())
def test_a_study_of_every_preset_begins_with_what_was_good(name: str) -> None:
    space = load_space(name)
    study = optuna.create_study(sampler=make_sampler(StudyConfig(name="n", sampler="composite"), prior=prior_of(space)))
    asked = [suggest(study.ask(), space) for _ in range(12)]
    assert all(space.parameters[each].contains(value) for values in asked for each, value in values.items())
    assert all(one != other for place, one in enumerate(asked) for other in asked[:place])
    assert sum(values[STRATEGY] in ("feedback", "waterfill") for values in asked) >= 6


def test_a_space_without_what_was_recorded_gets_nothing() -> None:
    recorded = read_recorded(NEWEST)
    others = {
        "no strategy": {"training.learning_rate": Float(low=1e-3, high=1e-2, log=True)},
        "one strategy": {STRATEGY: Categorical(choices=("feedback",))},
    }
    for name, parameters in others.items():
        space = SearchSpace(name=name, description="", parameters=parameters)
        assert recorded_prior(recorded, space, TrialConfig()) is None


def test_what_a_space_does_not_vary_counts_as_the_base_has_it() -> None:
    space = SearchSpace(name="s", description="", parameters={STRATEGY: DEFAULT.parameters[STRATEGY]})
    base = TrialConfig().with_overrides({"loss.commitment": 1.2, "training.learning_rate": 2e-3})
    prior = recorded_prior(read_recorded(NEWEST), space, base)
    given = {STRATEGY: "feedback", "loss.commitment": 1.2, "training.learning_rate": 2e-3}
    assert prior is not None
    np.testing.assert_allclose(prior.scores([{STRATEGY: "feedback"}]), prior_of(DEFAULT).scores([given]))


def search(prior: RecordedPrior | None, seed: int, trials: int = 24) -> list[str]:
    """The strategies that are tried where `feedback` is best and the lowest commitment the better."""
    study = optuna.create_study(
        sampler=make_sampler(StudyConfig(name="n", sampler="composite", seed=seed), prior=prior)
    )
    for _ in range(trials):
        trial = study.ask()
        values = suggest(trial, DEFAULT)
        study.tell(trial, float(values[STRATEGY] != "feedback") + 0.1 * np.log(values["loss.commitment"]))
    return [trial.params[STRATEGY] for trial in study.trials]


def test_a_prior_that_misleads_does_so_only_at_first() -> None:
    recorded = read_recorded(NEWEST)
    negated = replace(recorded, scores={name: [-each for each in scores] for name, scores in recorded.scores.items()})
    tried = search(recorded_prior(negated, DEFAULT, TrialConfig()), seed=0)
    assert "feedback" not in tried[:5]
    assert tried[-8:].count("feedback") >= 4
    assert search(prior_of(DEFAULT), seed=0, trials=8).count("feedback") >= 4


def test_a_study_takes_the_newest_unless_it_says_otherwise_or_was_begun_without(tmp_path: Path) -> None:
    def begun(**given: object) -> str | None:
        return validate(StudyConfig(name="n", runs=str(tmp_path), **given)).config.prior  # type: ignore[arg-type]

    assert begun(sampler="composite") == NEWEST
    assert begun(sampler="composite", prior=NO_PRIOR) == NO_PRIOR
    assert begun(sampler="random") == NO_PRIOR
    with pytest.raises(ConfigError, match="prior '2026-11-29': this version has none of that name"):
        begun(sampler="composite", prior="2026-11-29")
