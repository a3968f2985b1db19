"""From the name of a sampler, or one that was handed in, to what suggests a study's trials."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter

from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, TPESampler

from search_spaces import SearchSpace
from spinlock_dist.errors import ConfigError
from spinlock_dist.seeding import derive_seed
from study.config import SAMPLERS, StudyConfig
from study.samplers.bounded_history import BoundedHistory
from study.samplers.per_trial_seed import PerTrialSeed
from study.samplers.prior import Prior
from study.samplers.recorded_prior import RecordedPrior, read_recorded, recorded_prior

GivenSampler = BaseSampler | Callable[[int], BaseSampler]
"""A sampler of the user's: an object, or what makes one from a seed."""

NO_PRIOR = "none"
KNOWN_TO_HEED = (TPESampler, GPSampler, NSGAIISampler, NSGAIIISampler)
"""Optuna 5 offers no way to ask a sampler whether it heeds constraints; of its own these do."""


def load_sampler(name: str) -> Callable[[int], BaseSampler]:
    """Import a sampler's class, or a function that returns one, by dotted name; it gets the seed if it takes `seed`.

    Only for names that a person gave on the command line: a file alone never imports code. Raises `ConfigError`.
    """
    module, _, attribute = name.rpartition(":" if ":" in name else ".")
    try:
        found = attrgetter(attribute)(import_module(module))
    except Exception as error:  # whatever the module raises while it is imported
        said = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"--sampler {name}: cannot be imported: {said}") from None
    if not callable(found):
        raise ConfigError(f"--sampler {name}: is neither a sampler's class nor a function that returns a sampler")

    return LoadedSampler(name, found)


@dataclass(frozen=True)
class LoadedSampler:
    """Makes the sampler that was asked for by its dotted name."""

    name: str
    made_by: Callable[..., BaseSampler]

    def __call__(self, seed: int) -> BaseSampler:
        return self.made_by(seed=seed) if _takes_seed(self.made_by) else self.made_by()


def _takes_seed(function: Callable[..., BaseSampler]) -> bool:
    try:
        return "seed" in inspect.signature(function).parameters
    except ValueError:  # of what is compiled, nothing is known
        return False


def name_of(given: GivenSampler) -> str:
    """The dotted name that study.yaml records of a sampler handed in from Python."""
    if isinstance(given, LoadedSampler):
        return given.name
    kind = given if inspect.isclass(given) or inspect.isfunction(given) else type(given)
    local = kind.__qualname__.rpartition("<locals>.")[2].replace("<lambda>", "function")
    return f"{kind.__module__}:{local}"


def check_sampler(config: StudyConfig, given: GivenSampler | None = None) -> None:
    """Raise `ConfigError` if the sampler is code that nobody gave, or cannot do what is asked of it."""
    name = config.chosen_sampler
    if name not in SAMPLERS and given is None:
        raise ConfigError(
            f"sampler {name} is code, which a file alone never imports: "
            f"give --sampler {name} again (in Python: run(..., sampler=...))"
        )
    kind, fault = SAMPLERS.get(name), None
    if config.objective == "single" and kind is not None and not kind.single_objective:
        fault = "keeps a front of several objectives: add --objective pareto, or use tpe"
    elif config.objective == "pareto" and kind is not None and not kind.several_objectives:
        fault = "minimizes one number: leave out --objective pareto, or use tpe"
    elif config.deterministic and (kind is None or not kind.stateless):
        fault = "keeps a state of its own, which --deterministic cannot restore: leave that out, or use tpe"
    if fault is not None:
        raise ConfigError(f"--sampler {name}: {fault}")
    if name not in SAMPLERS and given is not None:
        _made(config, given)


def guards_notice(config: StudyConfig, given: GivenSampler | None = None) -> str:
    """A line that says so if the sampler does not heed the guards, or is not known to; else empty."""
    name = config.chosen_sampler
    builtin = name in SAMPLERS
    heeds = SAMPLERS[name].heeds_guards if builtin or given is None else isinstance(_made(config, given), KNOWN_TO_HEED)
    known = "ignores" if builtin else "is not known to heed"
    tail = "trials that break one are still never the best"
    return "" if heeds else f"sampler {name} {known} the guards: {tail}"


def study_prior(config: StudyConfig, space: SearchSpace) -> RecordedPrior | None:
    """What the sampler of a study is told before it has trials; None if nothing.

    Raises `ConfigError` if the study began with recorded trials that this version does not have.
    """
    kind = SAMPLERS.get(config.chosen_sampler)
    if config.prior in (None, NO_PRIOR) or kind is None or kind.make_informed is None:
        return None
    return recorded_prior(read_recorded(config.prior), space, config.base)


def make_sampler(config: StudyConfig, given: GivenSampler | None = None, prior: Prior | None = None) -> BaseSampler:
    """The sampler of a search, seeded; `prior` is for those that take one.

    Raises `ConfigError` if one that was given cannot be made.
    """
    name = config.chosen_sampler
    if name not in SAMPLERS and given is not None:
        return _made(config, given)
    kind = SAMPLERS[name]
    if not kind.stateless:
        return kind.make(_seed(config))
    informed, timed = kind.make_informed, not config.deterministic
    make = kind.make if informed is None else lambda seed: informed(seed, timed, prior)
    sampler = PerTrialSeed(lambda number: make(_seed(config, number)))
    return BoundedHistory(sampler) if kind.bounded else sampler


def _made(config: StudyConfig, given: GivenSampler) -> BaseSampler:
    """A sampler of its own for each search, of what was given."""
    if isinstance(given, BaseSampler):
        return copy.deepcopy(given)
    try:
        made = given(_seed(config))
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"--sampler {config.sampler}: cannot be made: {said}") from None
    if not isinstance(made, BaseSampler):
        raise ConfigError(f"--sampler {config.sampler}: gives a {type(made).__name__}, not an Optuna sampler")
    return made


def _seed(config: StudyConfig, *parts: int) -> int:
    return derive_seed(config.seed, "sampler", *parts) % 2**32
