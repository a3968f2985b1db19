"""What do very many trials cost a study's driver and its journal, workers and Ray left out?

    python benchmarks/driver.py                                    100,000 trials, 512 of them at a time
    python benchmarks/driver.py --trials 10000 --sampler tpe       another sampler
    python benchmarks/driver.py --trials 10000 --against CHECKOUT  beside an earlier version, in turns

A searcher is asked for trials and told five reports and an outcome of each, with the numbers of a real one (16
categories, 64 codebooks, 200 resamples), by early stopping, limits and checkpoints as in a study. The first `--driven`
trials are made so, the others are copies of their entries in the journal, for want of time. Then, each in a process of
its own: a reader opens the journal, `study.status` shows the study, and a driver opens it to go on, for `MORE` trials
more. Milliseconds an ask and an outcome early and late, memory, the journal's size and lines a trial.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from measure import keep, tell, tell_machine
from overhead import make_metrics, resident

from results.records.optuna_trials import finished_trials, open_search, read_search
from results.records.study_folder import FORMAT, StudyFolder
from search_spaces import load_space
from search_spaces.space import space_content
from spinlock_dist.config import TrialConfig
from spinlock_dist.metrics.record import Estimate, Metrics
from study.cluster.resources import Resources
from study.config import GuardsConfig, StoppingConfig, StudyConfig, UntilConfig
from study.events import Broadcast
from study.samplers.build import make_sampler
from study.search.checkpoint_retention import CheckpointRetention
from study.search.constraints import Baseline
from study.search.schedulers import PerTrialScheduler, make_scheduler
from study.search.searcher import AskTellSearcher, SearchPlan
from study.search.stop_criteria import StopCriteria
from study.search.storage import open_storage, release

CATEGORIES = [f"cluster_{number}" for number in range(16)]
EPOCHS = (5, 10, 20, 40, 60)
CREATE_TRIAL = 4
"""`op_code` of the entry of a journal that creates a trial."""
MORE = 300
KINDS = 100
"""Different trials, which are told again and again: to make each anew would take longer than the driver does."""
SPACE = "adaptive_compression"


def main() -> None:
    """Print a table for each version, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--driven", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=512)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--against", type=Path, help="the checkout of an earlier version")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--runs", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part is not None:
        print(json.dumps(PARTS[args.part](args)))
        return
    known, found = tell_machine(), {}
    versions = {"here": Path(__file__).parents[1]} | ({"earlier": args.against.resolve()} if args.against else {})
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            for name, checkout in versions.items():
                found.setdefault(name, {}).update(measured(part, args, checkout, Path(folder) / name))
    for name, figures in found.items():
        tell(f"{args.trials} trials, {args.sampler}, {name}", figures)
    keep(f"driver-{args.sampler}-{args.trials}", found, known)


def measured(part: str, args: argparse.Namespace, checkout: Path, runs: Path) -> Mapping[str, float]:
    """Return the figures of a part, by the code of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    if part == "status":
        began = time.monotonic()
        command = [sys.executable, "-m", "study.status", "s", "--runs", str(runs)]
        subprocess.run(command, check=True, capture_output=True, env=environment, cwd=checkout)
        return {"s of study.status": time.monotonic() - began}
    given = {name: getattr(args, name) for name in ("trials", "driven", "workers", "sampler")}
    asked = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, __file__, "--part", part, "--runs", str(runs), *asked]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, cwd=checkout, text=True)
    return json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------- a driver


def make_searcher(args: argparse.Namespace, trials: int) -> tuple[AskTellSearcher, PerTrialScheduler]:
    """Open the study as a driver does, and return what Tune would call."""
    config = StudyConfig(name="s", runs=args.runs, trials=trials, sampler=args.sampler, space=SPACE)
    folder, space, base = StudyFolder(Path(args.runs) / "s"), load_space(SPACE), TrialConfig()
    folder.path.mkdir(parents=True, exist_ok=True)
    described = {"config": config.model_dump(mode="json"), "space": space_content(space), "fingerprint": "f"}
    folder.write_description({"format": FORMAT, **described})
    study = open_storage(folder, config)
    study.sampler = make_sampler(config)
    release(study, "driver lost", "the driver was lost")
    resources = Resources(concurrent=args.workers, cpus=1, gpus=0, node_cpus=args.workers)
    limits, kept = StopCriteria(UntilConfig(), study), CheckpointRetention(folder, 5)
    # An earlier version knows no records without details.
    kept.add(read_search(study, **({"details": False} if "details" in signature(read_search).parameters else {})))
    plan = SearchPlan(
        space=space,
        base=base,
        target=trials,
        baseline=Baseline(make_metrics(0.6)),
        guards=GuardsConfig(),
        resources=resources,
    )
    rule = make_scheduler(StoppingConfig(), EPOCHS[-1], finished_trials(study))
    searcher = AskTellSearcher(study, plan, Broadcast().with_parts(limits, kept), limits.reason)
    return searcher, PerTrialScheduler(lambda _: rule)


def drive(args: argparse.Namespace) -> dict[str, float]:
    """Return what it takes to ask for the first trials and to tell their outcomes."""
    searcher, scheduler = make_searcher(args, args.driven)
    took = go_on(searcher, scheduler, args.workers)
    journal = StudyFolder(Path(args.runs) / "s").journal
    with journal.open("rb") as lines:
        count = sum(1 for _ in lines)
    return {
        "ms an ask, early": took["ask"],
        "ms an outcome, early": took["outcome"],
        "kB of journal a trial": journal.stat().st_size / args.driven / 1e3,
        "lines of journal a trial": count / args.driven,
    }


def copied(args: argparse.Namespace) -> dict[str, float]:
    """Add copies of the trials to the journal, until there are as many as asked for."""
    journal = StudyFolder(Path(args.runs) / "s").journal
    entries = [json.loads(line) for line in journal.read_bytes().splitlines()]
    entries = [entry for entry in entries if entry["op_code"] == CREATE_TRIAL or "trial_id" in entry]
    with journal.open("a") as file:
        for copy in range(1, args.trials // args.driven):
            for entry in entries:
                changed = entry
                if "trial_id" in entry:
                    changed = entry | {"trial_id": entry["trial_id"] + copy * args.driven}
                text = json.dumps(changed, separators=(",", ":"))
                file.write(re.sub('"training":"[0-9a-f]{6}', f'"training":"{copy:06x}', text) + "\n")
    return {}


def go_on(searcher: AskTellSearcher, scheduler: PerTrialScheduler, workers: int) -> dict[str, float]:
    """Run trials until there are no more, and return the milliseconds of an ask and of an outcome, on average."""
    rng = np.random.default_rng(0)
    told = [list(reports(rng, 0.3 + 0.6 * rng.random())) for _ in range(KINDS)]
    running: deque[tuple[str, dict[str, Any]]] = deque()
    asks, outcomes = [], []
    while True:
        while len(running) < workers:
            name, began = f"t{len(asks)}", time.perf_counter()
            given = searcher.suggest(name)
            if not isinstance(given, dict):
                break
            asks.append(time.perf_counter() - began)
            running.append((name, given))
        if not running:
            return {"ask": 1e3 * float(np.mean(asks)), "outcome": 1e3 * float(np.mean(outcomes))}
        name, given = running.popleft()
        began = time.perf_counter()
        end(searcher, scheduler, name, given, told[rng.integers(KINDS)])
        outcomes.append(time.perf_counter() - began)


def end(searcher: AskTellSearcher, scheduler: PerTrialScheduler, name: str, given: dict[str, Any], told: list) -> None:
    """Tell a trial's reports, as far as early stopping lets it come, and its outcome."""
    [member] = given["members"]
    trial: Any = SimpleNamespace(trial_id=name, config=given)
    controller: Any = None
    scheduler.on_trial_add(controller, trial)
    for report in told:
        result = {"reports": [{**report, "number": member["number"]}], "stopped": [], "hostname": "node"}
        if scheduler.on_trial_result(controller, trial, result) == "STOP":
            break
        searcher.on_trial_result(name, result)
    searcher.on_trial_complete(name, {**result, "done": True})


def reports(rng: np.random.Generator, worst: float) -> Iterator[dict[str, Any]]:
    """Yield the reports of a trial, as a worker makes them."""
    for epoch in EPOCHS:
        metrics = real_metrics(rng, worst * (1 + 5 / epoch))
        terms = {f"loss.{name}": rng.random() for name in ("reconstruction", "commitment", "informativeness", "total")}
        scalars = {name: value * (1 + 1e-9 * rng.random()) for name, value in metrics.scalars().items()}
        yield {
            "epoch": epoch,
            "trained": epoch,
            "fvu_worst": metrics.fvu_worst,
            "seconds": 0.1 * epoch,
            "start": 0,
            "notice": "",
            "status": "complete" if epoch == EPOCHS[-1] else "running",
            "curve": json.dumps({"epoch": epoch, "trained": epoch, "seconds": 0.1 * epoch, **terms, **scalars}),
            "metrics": json.dumps(asdict(metrics)),
            "checkpoint": "c6ebc2289e4d99b41be011077df484bbe4eef7596a7a708c45a00adf99d70f78",
        }


def real_metrics(rng: np.random.Generator, worst: float) -> Metrics:
    """Return metrics with as many numbers, of as many digits, as those of a default study."""
    metrics = make_metrics(worst)

    def drawn() -> dict[str, float]:
        return {category: float(rng.random()) for category in CATEGORIES}

    figures = ("imbalance", "fvu_worst", "fvu_mean")
    values = {name: metrics.estimate(name) for name in figures}
    books = [
        {"category": category, "level": level, "dim": 4, "codes": 8, "used": 8, "perplexity": 8 * float(rng.random())}
        for category in CATEGORIES
        for level in ("L0", "L1", "L2", "L3")
    ]
    return replace(
        metrics,
        fvu=drawn() | {"cluster_0": worst},
        mse_raw=drawn(),
        reference_fvu=drawn(),
        bits=drawn(),
        bits_carried=drawn(),
        bits_carried_per_sample=8.5,
        estimates={name: Estimate(value=value, low=0.9 * value, high=1.1 * value) for name, value in values.items()},
        resampled={name: np.round(0.05 * rng.normal(size=200), 5).tolist() for name in (*figures, "spread")},
        codebooks=books,
    )


# ---------------------------------------------------------------- who comes later


def read(args: argparse.Namespace) -> dict[str, float]:
    """Return what it takes to open the journal for reading."""
    before, began = resident(), time.monotonic()
    search = open_search(StudyFolder(Path(args.runs) / "s"))
    assert len(finished_trials(search)) == args.trials
    return {"s to open": time.monotonic() - began, "MiB of an open journal": resident() - before}


def resume(args: argparse.Namespace) -> dict[str, float]:
    """Return what it takes until a driver that goes on has asked for a trial, and what further trials take then."""
    before, began = resident(), time.monotonic()
    searcher, scheduler = make_searcher(args, args.trials + MORE)
    given = searcher.suggest("more")
    assert isinstance(given, dict)
    opened = time.monotonic() - began
    rng = np.random.default_rng(1)
    end(searcher, scheduler, "more", given, list(reports(rng, 0.5)))
    took = go_on(searcher, scheduler, args.workers)
    return {
        "s of a resume to its first ask": opened,
        "ms an ask, late": took["ask"],
        "ms an outcome, late": took["outcome"],
        "MiB of the driver": resident() - before,
    }


PARTS = {"drive": drive, "copied": copied, "read": read, "status": None, "resume": resume}

if __name__ == "__main__":
    main()
