"""A study that was never trained, written by the project's own writers: any number of trials in seconds.

Errors follow the Gaussian reference at the bits that each trial's config buys, times how hard the category is, how far
the learning rate is off, and chance. Trials end in every way there is; finals are judged, verdict and export written as
a study does. The checkpoints hold their description alone, no weights.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from benchmarks.units import from_unit
from results.analysis.pareto import objectives
from results.analysis.tables import write_tables
from results.export.best_folder import export_config, export_readme
from results.records.optuna_distributions import distribution
from results.records.optuna_trials import ATTEMPTS, CHECKPOINT, DIVERGED, outcome
from results.records.stage import RANDOM, tournament_arms
from results.records.study_folder import FORMAT, StudyFolder
from results.records.trial_record import (
    BASELINE,
    Attempt,
    TrialRecord,
    arm_of,
    feasible_records,
    full_arm,
    write_records,
)
from results.verdict.finding import Verdict
from results.verdict.sentences import conclude
from results.verdict.standings import conclude_tournament, standings, write_standings
from results.verdict.verdict import judge
from results.verdict.verification import verify
from search_spaces import SearchSpace, load_space
from search_spaces.space import space_content
from spinlock_dist.atomic_files import digest, write_json
from spinlock_dist.checkpoint_metadata import FORMAT_VERSION, META
from spinlock_dist.compression.capacity import CapacityPlan, plan_capacity
from spinlock_dist.compression.characteristics import Characteristics, characterize
from spinlock_dist.compression.rate_distortion import gaussian_reference
from spinlock_dist.config import TrialConfig
from spinlock_dist.features.cleaning import LedgerEntry
from spinlock_dist.metrics.reconstruction import gini, imbalance
from spinlock_dist.metrics.record import Metrics
from spinlock_dist.metrics.reference import distance_to_reference
from study.config import StudyConfig
from study.phases.finals import arms_and_controls, choose_finalists, terms_of
from study.phases.search import Searched
from study.phases.verification import verification_records
from study.search.constraints import COUNT, Baseline, guards
from study.search.initial_trials import initial_points
from study.search.storage import open_journal
from study.worker.retry_policy import collapsed

ROWS = {"train": 1400, "validation": 300, "test": 300}
FAMILIES = ("initial", "summary", "temporal")
FAULTS = ("diverged", "refused", "failed")
SHARES = (0.04, 0.01, 0.02)
"""Of the trials that end in each of `FAULTS`."""
BEGAN = "2026-01-01T00:00:00+00:00"


def build_study(
    runs: Path,
    name: str,
    trials: int,
    seed: int = 0,
    *,
    categories: int = 10,
    finished: bool = True,
    running: int = 0,
    space: str = "adaptive_compression",
    data_seed: int = 0,
    **settings: Any,
) -> StudyFolder:
    """Write a study of `trials` trials (of each search, in a tournament) as its driver would leave it.

    `finished=False`: interrupted in its search, so without finals, verdict, export and tables; the last `running`
    trials then have no outcome. Studies of one `data_seed` and as many categories are of the same data. `settings` are
    those of `StudyConfig`, e.g. `tournament=True`, `epochs=20`.
    """
    config = StudyConfig(name=name, runs=str(runs), space=space, trials=trials, **settings)
    found = load_space(space)
    if config.epochs is not None:
        found = replace(found, fixed={**found.fixed, "training.epochs": config.epochs})
    return _Builder(config, found, _data(categories, data_seed), np.random.default_rng(seed)).build(finished, running)


@dataclass(frozen=True)
class _Data:
    """What stands for prepared data: `difficulty` and `scale` (raw squared units) are `[C]`."""

    names: tuple[str, ...]
    features: dict[str, list[str]]
    characteristics: tuple[Characteristics, ...]
    difficulty: np.ndarray
    scale: np.ndarray
    fingerprint: str


@lru_cache(maxsize=8)
def _data(categories: int, seed: int) -> _Data:
    rng = np.random.default_rng([seed, categories])
    features: dict[str, list[str]] = {}
    found = []
    for index in range(categories):
        size, sources = int(rng.integers(6, 21)), int(rng.integers(2, 5))
        noise = float(rng.uniform(0.3, 1.0))
        rows = rng.normal(size=(400, sources)) @ rng.normal(size=(sources, size))
        scale = 10.0 ** rng.uniform(-2, 3)
        found.append(characterize(scale * (rows + noise * rng.normal(size=rows.shape))))
        family = FAMILIES[index % len(FAMILIES)]
        features[f"cluster_{index + 1}"] = [f"{family}::feature_{index}_{column}" for column in range(size)]
    return _Data(
        names=tuple(features),
        features=features,
        characteristics=tuple(found),
        difficulty=np.exp(rng.normal(0.2, 0.35, categories)),
        scale=np.array([each.median_variance for each in found]),
        fingerprint=hashlib.sha256(f"{seed} {categories}".encode()).hexdigest(),
    )


@dataclass(frozen=True)
class _Bought:
    """What a config's ratios buy: sizes, the FVU `[C]` of the Gaussian reference at them, and codebooks in use."""

    plan: CapacityPlan
    reference: np.ndarray
    codebooks: list[dict[str, Any]]


class _Builder:
    def __init__(self, config: StudyConfig, space: SearchSpace, data: _Data, rng: np.random.Generator):
        self.config, self.space, self.data, self.rng = config, space, data, rng
        self.folder = StudyFolder(Path(config.runs) / config.name)
        self.base = space.to_config(config.base, {})
        self.uniform = self.base.with_overrides({"compression.strategy": "uniform"})

    def build(self, finished: bool, running: int) -> StudyFolder:
        self.describe()
        baseline = [
            self.complete("baseline", BASELINE, number, self.uniform) for number in range(self.config.baseline_seeds)
        ]
        write_records(self.folder.records("baseline"), baseline)
        content = space_content(self.space)
        arms = tournament_arms(content) if self.config.tournament else [""]
        found = {arm: self.search(arm, baseline[0], 0 if finished else running) for arm in arms}
        if finished:
            self.conclude(baseline, found)
        return self.folder

    # ------------------------------------------------------------ what comes before trials

    def describe(self) -> None:
        versions = {"python": "3.11.0", "spinlock-dist": "0.1.0", "torch": "2.13.0", "ray": "2.60.0"}
        hardware = {"machine": "x86_64", "gpu": None, "trials_at_a_time": 2, "cpus_per_trial": 1, "gpus_per_trial": 0}
        self.folder.write_description(
            {
                "format": FORMAT,
                "config": self.config.model_dump(mode="json"),
                "space": space_content(self.space),
                "fingerprint": self.data.fingerprint,
                "started": BEGAN,
                "versions": versions,
                "git_commit": "0" * 40,
                "hardware": hardware,
            }
        )
        names = [name for features in self.data.features.values() for name in features]
        column = {name: index for index, name in enumerate(names)}
        ledger = [
            LedgerEntry(feature=name, family=name.split("::")[0], dropped=None, detail="", imputed=0, clipped=14)
            for name in names
        ]
        prepared: Any = SimpleNamespace(
            feature_names=names,
            categories=[
                SimpleNamespace(name=category, columns=[column[name] for name in features])
                for category, features in self.data.features.items()
            ],
            characteristics=self.data.characteristics,
            split=SimpleNamespace(part=lambda part: range(ROWS[part])),
            fingerprint=self.data.fingerprint,
            pipeline=SimpleNamespace(cleaning=SimpleNamespace(ledger=ledger)),
        )
        self.folder.write_prepared(prepared)

    # ------------------------------------------------------------ trials

    def plan(self, config: TrialConfig) -> CapacityPlan:
        return plan_capacity(config.compression, self.data.characteristics, ROWS["train"], config.quantizer)

    def complete(self, phase: Any, arm: str, number: int, config: TrialConfig, **given: Any) -> TrialRecord:
        """Return a training that went to its end."""
        bought = self.bought(config)
        fvu = self.errors(config, bought)
        curve = self.curve(config, bought, fvu)
        scored = {"metrics": self.metrics(bought, fvu, "validation")}
        if phase in ("final", "verification"):
            test = fvu * np.exp(self.rng.normal(0, 0.05, len(fvu)))
            scored["test"] = self.metrics(bought, test, "test")
        return TrialRecord(
            phase=phase,
            arm=arm,
            number=number,
            state="complete",
            seed=config.seed + {"search": 0, "final": 1 + number}.get(phase, number),
            curve=curve,
            epochs=int(curve[-1]["epoch"]),
            seconds=curve[-1]["seconds"],
            node="node-1",
            **{**scored, **given},
        )

    def bought(self, config: TrialConfig) -> _Bought:
        plan = self.plan(config)
        spectra = [each.spectrum for each in self.data.characteristics]
        return _Bought(plan, gaussian_reference(spectra, plan.bits.sum(axis=1)), self.codebooks(plan))

    def errors(self, config: TrialConfig, bought: _Bought) -> np.ndarray:
        """Return FVU `[C]` at the end of training."""
        reference = bought.reference
        off = abs(math.log10(config.training.learning_rate / 2e-3)) + 0.2 * abs(math.log(config.loss.commitment / 3))
        fvu = reference * self.data.difficulty * (1 + 0.15 * off) * np.exp(self.rng.normal(0, 0.05, len(reference)))
        if config.compression.strategy == "feedback":  # bits go where errors were measured
            middle = float(np.exp(np.log(fvu).mean()))
            fvu = middle * (fvu / middle) ** 0.6
        return np.clip(fvu, 1e-4, 1.0)

    def metrics(self, bought: _Bought, fvu: np.ndarray, split: str) -> Metrics:
        names, found, reference, books = self.data.names, self.data.characteristics, bought.reference, bought.codebooks
        by_name = dict(zip(names, fvu.tolist(), strict=True))
        raw = dict(zip(names, (fvu * self.data.scale).tolist(), strict=True))
        used = [book["used"] / book["codes"] for book in books]
        flat = [book["perplexity"] / book["codes"] for book in books]
        ratio = imbalance(fvu.tolist())
        return Metrics(
            split=split,
            fvu=by_name,
            mse_raw=raw,
            fvu_mean=float(np.average(fvu, weights=[each.features for each in found])),
            fvu_worst=float(fvu.max()),
            worst_category=names[int(fvu.argmax())],
            imbalance=ratio,
            log10_imbalance=math.log10(ratio),
            imbalance_by_chance=1.6,
            imbalance_raw=imbalance(raw.values(), 1e-30),
            gini=gini(fvu),
            collapsed=int((fvu >= 0.98).sum()),
            utilization=float(np.mean(used)),
            utilization_split=float(np.mean(used)) * 0.95,
            perplexity_ratio=float(np.mean(flat)),
            entropy_ratio=0.5 + 0.5 * float(np.mean(flat)),
            dead_codes=sum(book["codes"] - book["used"] for book in books),
            bits_per_sample=bought.plan.bits_per_sample,
            bits_carried_per_sample=sum(math.log2(book["perplexity"]) for book in books),
            bits=dict(zip(names, bought.plan.bits.sum(axis=1).tolist(), strict=True)),
            bits_carried={
                name: sum(math.log2(book["perplexity"]) for book in books if book["category"] == name) for name in names
            },
            reference_fvu=dict(zip(names, reference.tolist(), strict=True)),
            reference_imbalance=imbalance(reference.tolist()),
            reference_distance=distance_to_reference(list(fvu), reference),
            topographic_pre=0.98,
            topographic_post=0.96,
            codebooks=books,
        )

    def codebooks(self, plan: CapacityPlan) -> list[dict[str, Any]]:
        books = []
        for (category, level, _), called, codes in plan.codebooks():
            used = codes if codes < 64 else int(codes * self.rng.uniform(0.9, 1.0))
            books.append(
                {
                    "category": self.data.names[category],
                    "level": called,
                    "dim": int(plan.dims[category, level]),
                    "codes": codes,
                    "used": used,
                    "perplexity": float(max(1.0, used * self.rng.uniform(0.5, 0.85))),
                }
            )
        return books

    def curve(self, config: TrialConfig, bought: _Bought, fvu: np.ndarray) -> list[dict[str, float]]:
        """Return a report an evaluation, falling to `fvu` `[C]`."""
        training = config.training
        epochs = [*range(training.evaluate_every, training.epochs, training.evaluate_every), training.epochs]
        pilots = training.epochs // 4 if config.compression.strategy == "feedback" else 0
        rows = []
        for epoch in [epoch for epoch in epochs if epoch > pilots]:
            left = np.clip(fvu * (1 + 0.5 * math.exp(-epoch / (0.2 * training.epochs))), 0, 1)
            loss = {"loss.reconstruction": 0.8 * float(left.mean()), "loss.commitment": 0.07}
            reached = {"epoch": epoch, "trained": epoch - pilots, "seconds": 0.4 * epoch}
            loss["loss.total"] = sum(loss.values())
            rows.append(reached | loss | self.metrics(bought, left, "validation").scalars())
        return rows

    def trial(self, number: int, config: TrialConfig, params: dict[str, Any], baseline: TrialRecord) -> TrialRecord:
        """Return a trial of the search, ended in one of the ways there are."""
        record = self.complete("search", f"trial-{number}", number, config, params=params)
        assert record.metrics is not None and baseline.metrics is not None
        attempts = [Attempt(began=BEGAN, node=record.node, epochs=record.epochs, ended=True)]
        if self.rng.random() < 0.03:
            lost = replace(attempts[0], kind="worker lost", reason="its process was killed", epochs=5)
            attempts = [lost, replace(attempts[0], start=5)]
        record = replace(record, attempts=attempts)
        how = self.rng.choice([*FAULTS, ""], p=[*SHARES, 1 - sum(SHARES)]) if number > 0 else ""
        if how == "refused":
            reason = "compression.min_ratio_range 1.5 needs wider bounds"
            unrun = {"metrics": None, "curve": [], "epochs": 0, "seconds": 0.0, "attempts": []}
            return replace(record, state="refused", kind="refused", reason=reason, **unrun)
        if how:
            kind = {"diverged": "non-finite", "failed": "exception"}[how]
            reason = "diverged in epoch 3: commitment is not finite" if how == "diverged" else "RuntimeError: injected"
            ended = [*attempts[:-1], replace(attempts[-1], epochs=0, kind=kind, reason=reason)]
            unscored = {"metrics": None, "curve": [], "epochs": 0, "seconds": 3.0, "attempts": ended}
            return replace(record, state=how, kind=kind, reason=reason, **unscored)
        kept = guards(record.metrics, Baseline(baseline.metrics), self.config.guards)
        record = replace(record, guards=kept, kind="collapsed codebook" if collapsed(record.metrics) else "")
        poor = record.metrics.fvu_worst > 1.02 * baseline.metrics.fvu_worst
        stoppable = self.config.objective == "single" and self.config.stopping.rule != "none"
        if number > 0 and stoppable and poor and self.rng.random() < 0.7:
            curve = [row for row in record.curve if row["trained"] <= self.config.stopping.grace] or record.curve[:1]
            epochs = int(curve[-1]["epoch"])
            stopped = {"curve": curve, "epochs": epochs, "seconds": curve[-1]["seconds"]}
            return replace(record, state="pruned", reason=f"stopped after {epochs} epochs", **stopped)
        return record

    # ------------------------------------------------------------ the search

    def search(self, arm: str, baseline: TrialRecord, running: int) -> list[TrialRecord]:
        """Write the journal of one search, and the checkpoints it keeps."""
        space = self.space if arm in ("", RANDOM) else self.space.only("compression.strategy", arm)
        folder = self.folder.arm(arm)
        folder.path.mkdir(parents=True, exist_ok=True)
        known = initial_points(space, self.base)
        configs, records = [], []
        for number in range(self.config.trials):
            params = self.draw(space, known[number] if number < len(known) and arm != RANDOM else {})
            configs.append(self.space.to_config(self.config.base, params))
            records.append(self.trial(number, configs[-1], params, baseline))
        ended = records[: len(records) - running]
        for record in feasible_records(ended)[: self.config.keep_checkpoints]:
            path = self.checkpoint(folder, record, configs[record.number])
            ended[record.number] = replace(record, checkpoint=digest(path))
        journal = open_journal(folder.journal, self.config.name, COUNT[self.config.objective])
        for record in [*ended, *records[len(ended) :]]:
            self.tell(journal, record, space, finished_trials=record.number < len(ended))
        return [replace(record, arm=full_arm(arm, record.arm)) for record in ended]

    def draw(self, space: SearchSpace, known: dict[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, parameter in space.parameters.items():
            if space.counts(name, values):
                values[name] = known[name] if name in known else from_unit(parameter, float(self.rng.random()))
        return values

    def tell(self, journal: optuna.Study, record: TrialRecord, space: SearchSpace, finished_trials: bool) -> None:
        """Store a trial as a searcher leaves it."""
        complete = record.state == "complete" and record.metrics is not None
        single = len(journal.directions) == 1
        states = {"complete": TrialState.COMPLETE, "failed": TrialState.FAIL}
        attributes = outcome(record) | {CHECKPOINT: record.checkpoint} if finished_trials else {}
        constraints = {DIVERGED: float(record.state in ("diverged", "refused"))} | record.guards
        journal.add_trial(
            optuna.create_trial(
                state=states.get(record.state, TrialState.PRUNED) if finished_trials else TrialState.RUNNING,
                values=objectives(record.metrics)[: len(journal.directions)] if finished_trials and complete else None,
                params=record.params,
                distributions={name: distribution(space.parameters[name]) for name in record.params},
                user_attrs=attributes | {ATTEMPTS: [attempt.__dict__ for attempt in record.attempts]},
                intermediate_values={int(row["trained"]): row["fvu_worst"] for row in record.curve} if single else {},
                constraints=constraints if finished_trials else None,
            )
        )

    def checkpoint(self, folder: StudyFolder, record: TrialRecord, config: TrialConfig) -> Path:
        """Write the description of a checkpoint, and return its folder."""
        plan = self.plan(config)
        path = folder.checkpoint(record.number)
        path.mkdir(parents=True)
        write_json(
            path / META,
            {
                "format_version": FORMAT_VERSION,
                "config": config.model_dump(mode="json"),
                "fingerprint": self.data.fingerprint,
                "categories": {name: len(features) for name, features in self.data.features.items()},
                "plan": {part: getattr(plan, part).tolist() for part in ("ratios", "dims", "codes")},
            },
        )
        return path

    # ------------------------------------------------------------ finals and verdict

    def conclude(self, baseline: Sequence[TrialRecord], found: dict[str, list[TrialRecord]]) -> None:
        """Write what a study leaves at its end."""
        search = [record for records in found.values() for record in records]
        finals, verdict = self.finals(found)
        conclusion = conclude(search, verdict)
        if self.config.tournament:
            rows = standings(found, verdict)
            write_standings(self.folder, rows)
            conclusion = conclude_tournament(rows, verdict)
        told = verdict.to_json() | {"conclusion": conclusion}
        best = next((each for each in search if verdict.choice and each.arm == verdict.choice.arm), None)
        write_json(self.folder.verdict, told if best is None else told | self.export(best, baseline, verdict, told))
        write_tables(self.folder, [*baseline, *search, *finals, *verification_records(self.folder)])

    def finals(self, found: dict[str, list[TrialRecord]]) -> tuple[list[TrialRecord], Verdict]:
        """Return all replicates of all arms, of which the verdict uses as many as a study would have trained."""
        context: Any = SimpleNamespace(
            config=self.config,
            base=self.base,
            uniform=self.uniform,
            folder=self.folder,
            trial=lambda record: self.space.to_config(self.config.base, record.params),
        )
        finalists = choose_finalists(context, Searched(found, [], ""))
        finalists = [each for each in finalists if each.record is not None]  # plain feedback has no checkpoint here
        arms, controls = arms_and_controls(context, finalists)
        records = [
            self.complete("final", arm, number, config)
            for arm, config in (arms if finalists else {}).items()
            for number in range(self.config.finals.replicates)
        ]
        if records:
            write_records(self.folder.records("final"), records)
        return records, judge(records, terms_of(self.config, controls))

    def export(
        self, best: TrialRecord, baseline: Sequence[TrialRecord], verdict: Verdict, told: dict[str, Any]
    ) -> dict[str, Any]:
        config = self.space.to_config(self.config.base, best.params)
        folder = self.folder.arm(arm_of(best.arm))
        path = folder.checkpoint(best.number)
        export_config(self.folder.best, config, path if path.exists() else self.checkpoint(folder, best, config))
        arms = [(best.arm, config)] * self.config.finals.seeds
        again = [self.complete("verification", arm, number, each) for number, (arm, each) in enumerate(arms)]
        again[0] = replace(again[0], metrics=best.metrics)
        again = [replace(record, params=best.params) for record in again]
        write_records(self.folder.records("verification"), again)
        verification = verify(best, again)
        assert verdict.choice is not None
        export_readme(self.folder, best, baseline[0], verdict.choice, told["conclusion"])
        conclusion = f"{told['conclusion']} {verification}"
        return {"exported": best.arm, "verification": verification.to_json(), "conclusion": conclusion}
