"""Allocation by feedback: train a short pilot, measure every category, move bits to where the error is, repeat."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spinlock_dist.compression.capacity import CapacityPlan, plan_capacity, size_ratios
from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.compression.ratios import ratios_of_factor
from spinlock_dist.compression.strategies.feedback import reallocate
from spinlock_dist.config import TrialConfig
from spinlock_dist.errors import ConfigError, DivergedError, SpinlockError
from spinlock_dist.seeding import derive_seed
from spinlock_dist.split import Split
from spinlock_dist.training.evaluation import EvaluationData
from spinlock_dist.training.member import Member
from spinlock_dist.training.trainer import Session, train

FOLDS = 4
"""Parts of the training rows. A pilot trains on all but one and is measured on that one, each in its turn: validation
rows steer nothing here, and no few rows decide."""
AVERAGED = 2
"""Reallocations of which the mean is taken: a fold has few rows and heavy tails, one alone is noisy (averaged
stochastic approximation: Polyak & Juditsky 1992)."""


@dataclass(frozen=True)
class Pilot:
    """A short training of `plan` on the training rows without one fold, to be measured on that fold."""

    config: TrialConfig
    plan: CapacityPlan
    fold: int
    epochs: int


Planning = Generator[Pilot, np.ndarray, tuple[CapacityPlan, int]]


def plan_by_feedback(config: TrialConfig, categories: Sequence[Characteristics], rows: int) -> Planning:
    """Yield pilots, take the FVU of every category in each, and return the plan they led to and the epochs they cost.

    After each pilot bits are reallocated from what it measured. The first pilots are short and rough; those that
    follow are as long as the training itself, because the longer it is, the more it lowers the error of some categories
    below that of others. They end when the standard deviation of log FVU across categories no longer shrinks, or when
    `rounds` is spent. A pilot's epoch counts as a whole one, although it sees fewer than all `rows`. Where only latent
    dimensions can move, which carry no information of their own, there is no pilot: the plan is that of the start.
    Raises `ConfigError` if there is no epoch for any pilot.

    Each pilot is a step of a fixed-point search for equal errors: measure f at bits b, correct b by theory, measure
    again at the corrected b. Theory (half a bit a component halves the error) is right about the direction and roughly
    about the size, so one step closes most of the gap and the next measures what theory got wrong. What it can not do
    is average out a fold: the correction of a fold's noise would be made as eagerly as that of a true difference.
    Hence `compression.feedback.step` below 1, another fold each time, and the mean of the last corrections at the end.
    """
    settings, spectra = config.compression, [each.spectrum for each in categories]
    uniform = settings.model_copy(update={"strategy": "uniform"})
    baseline = plan_capacity(uniform, categories, rows).bits.sum(axis=1)

    def plan_of(bits: np.ndarray) -> CapacityPlan:
        ratios = ratios_of_factor(settings, bits / baseline)
        return size_ratios(settings, ratios, categories, rows, config.quantizer)

    plan = plan_capacity(settings, categories, rows, config.quantizer)
    if settings.capacity == "latent" and config.quantizer.kind != "fsq":  # its dimensions are its bits
        return plan, 0
    moves: list[np.ndarray] = []
    spent, smallest = 0, np.inf
    for number, epochs in enumerate(pilot_lengths(config)):
        fvu = yield Pilot(config, plan, number % FOLDS, epochs)
        spent += epochs
        moves.append(reallocate(plan.bits.sum(axis=1), fvu, spectra, settings.feedback.step))
        plan = plan_of(moves[-1])
        inequality = float(np.log(np.maximum(fvu, 1e-6)).std())
        # The rough pilots of one epoch are not compared: they differ in fold and in how little is learned yet.
        if number >= FOLDS:
            if inequality >= smallest:
                break
            smallest = inequality
    return plan_of(np.mean(moves[-AVERAGED:], axis=0)), spent


def run_pilots(plannings: Sequence[Planning], data: EvaluationData) -> list[tuple[CapacityPlan, int] | SpinlockError]:
    """What every planning leads to, or the error it ends with; pilots of several are trained in lock step.

    Those can be that train on the same rows for as long.
    """
    ended: dict[int, tuple[CapacityPlan, int] | SpinlockError] = {}
    answers: dict[int, np.ndarray | None] = dict.fromkeys(range(len(plannings)))
    while answers:
        alike: dict[tuple[int, int, int], dict[int, Pilot]] = {}
        for index, answer in answers.items():
            try:
                # The first call of a generator takes nothing.
                pilot = next(plannings[index]) if answer is None else plannings[index].send(answer)
                alike.setdefault((pilot.config.seed, pilot.fold, pilot.epochs), {})[index] = pilot
            except StopIteration as done:
                ended[index] = done.value
            except ConfigError as error:
                ended[index] = error
        answers = {}
        for pilots in alike.values():
            for index, found in zip(pilots, _measure(list(pilots.values()), data), strict=True):
                if isinstance(found, DivergedError):
                    ended[index] = found
                else:
                    answers[index] = found
    return [ended[index] for index in range(len(plannings))]


def pilot_lengths(config: TrialConfig) -> list[int]:
    """The epochs of each pilot: one for every fold, then `rounds` pilots as long as the training after them.

    Where `training.epochs` are too few for that, only the first ones remain. Raises `ConfigError` if it is 1.
    """
    epochs, rounds = config.training.epochs, config.compression.feedback.rounds
    if epochs == 1:
        raise ConfigError("training.epochs 1 leaves strategy 'feedback' no epoch for a pilot; give it 2 or more")
    short = min(FOLDS, epochs - 1)
    long = (epochs - short) // (rounds + 1)
    return [1] * short + [long] * (rounds if long else 0)


def _folds(train_rows: np.ndarray, seed: int) -> list[np.ndarray]:
    order = np.random.default_rng(derive_seed(seed, "pilot split")).permutation(train_rows)
    return [order[fold::FOLDS] for fold in range(FOLDS)]


def _without_fold(split: Split, folds: Sequence[np.ndarray], held_out: int) -> Split:
    """The split of a pilot: training without one fold, which takes the place of the validation rows."""
    rest = np.concatenate([rows for fold, rows in enumerate(folds) if fold != held_out])
    validation = np.sort(folds[held_out])
    return Split(train=np.sort(rest), validation=validation, test=split.test, folds=(validation,))


def _measure(pilots: Sequence[Pilot], data: EvaluationData) -> list[np.ndarray | DivergedError]:
    """Train pilots of one seed, fold and length in lock step, and return the FVU of every category of each."""
    first = pilots[0]
    split = _without_fold(data.split, _folds(data.split.train, first.config.seed), first.fold)
    only_end = {"training.epochs": first.epochs, "training.evaluate_every": first.epochs, "training.patience": None}
    members = [Member(pilot.config.with_overrides(only_end), pilot.plan) for pilot in pilots]
    train(members, replace(data, split=split), lambda _: (), Session(time.perf_counter()))
    return [_fvu(member) for member in members]


def _fvu(member: Member) -> np.ndarray | DivergedError:
    if isinstance(member.error, DivergedError):
        return DivergedError(member.error.epoch, f"in a pilot {member.error.term}")
    assert member.validation is not None
    return np.array(list(member.validation.fvu.values()))
