"""A tournament: every strategy searched by itself, and the whole space at random, each with the same trials.

A sampler gives most trials to the strategy that did well first, so that a study's trials do not tell which strategy is
best. In a tournament each has as many, of as many epochs, at the same bits, under the same seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from results.records.settings import STRATEGY
from results.records.stage import RANDOM
from results.records.standing import Standing
from results.records.study_folder import StudyFolder
from results.records.trial_record import TrialRecord
from results.verdict.finding import Verdict
from results.verdict.standings import standings, write_standings
from search_spaces import Categorical, SearchSpace
from spinlock_dist.errors import ConfigError
from study.config import StudyConfig


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One search of a tournament."""

    name: str
    config: StudyConfig
    space: SearchSpace
    enqueue_initial: bool = True
    """Whether the initial trials are tried first."""


def arms(config: StudyConfig, space: SearchSpace) -> list[Arm]:
    """The searches of a study: of a tournament one a strategy and one at random, else the only one, unnamed.

    Raises `ConfigError` if a tournament's space has no strategies to choose from.
    """
    if not config.tournament:
        return [Arm(name="", config=config, space=space)]
    strategies = space.parameters.get(STRATEGY)
    if not isinstance(strategies, Categorical) or len(strategies.choices) < 2:
        raise ConfigError(f"--tournament: {STRATEGY} has no choices in space '{space.name}'; leave it out, or add some")
    found = [Arm(name=str(choice), config=config, space=space.only(STRATEGY, choice)) for choice in strategies.choices]
    chance = config.model_copy(update={"sampler": "random"})
    return [*found, Arm(name=RANDOM, config=chance, space=space, enqueue_initial=False)]


def rank_arms(folder: StudyFolder, by_arm: Mapping[str, Sequence[TrialRecord]], verdict: Verdict) -> list[Standing]:
    """Put the arms of a tournament in order and keep that."""
    rows = standings(by_arm, verdict)
    write_standings(folder, rows)
    return rows
