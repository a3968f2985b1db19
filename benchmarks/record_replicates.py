"""Record what the uniform baseline scores on many splits under many seeds, for the verdict's error rate.

    python benchmarks/record_replicates.py [--splits 13] [--seeds 3] [--out tests/data/replicates.json]

On the default data, 2,000 simulated operators, each replicate as in the finals of a study: features and categories of
split 0, everything fitted on the replicate's own training rows, rows that steered the search never tested on. On each
split the baseline is trained under several seeds, and water-filling on three times the uniform span once, as something
that does differ. Minutes of one core a split; what is recorded already is kept, so that it may be stopped and started.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

from results.records.study_folder import StudyFolder
from results.records.trial_record import BASELINE
from spinlock_dist.atomic_files import read_json, write_json
from spinlock_dist.config import TrialConfig
from spinlock_dist.metrics.record import Metrics
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import run_trial
from study.config import StudyConfig
from study.phases.finals import replicate_config

OUT = Path(__file__).parents[1] / "tests" / "data" / "replicates.json"
OTHER = "waterfill"
SPAN = 3**0.5
KEPT = ("fvu_mean", "utilization", "perplexity_ratio", "bits_per_sample")


def main() -> None:
    """Train what is missing and write after every split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=13)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    records = read_json(args.out) if args.out.exists() else []
    known = {(record["split"], record["arm"], record["seed"]) for record in records}
    for split, data in replicates(args.splits):
        runs = [(BASELINE, seed) for seed in range(args.seeds)] + [(OTHER, args.seeds)]
        for arm, number in runs:
            if (split, arm, number) not in known:
                config = trial(arm).model_copy(update={"seed": 1000 * (split + 1) + number, "prepare": data.config})
                metrics = run_trial(config, data).evaluate("test")
                records.append({"split": split, "arm": arm, "seed": number, **compact(metrics)})
        write_json(args.out, records)
        print(f"split {split}: " + "  ".join(f"{r['arm']} {imbalance(r):.2f}x" for r in records if r["split"] == split))


def replicates(count: int) -> Any:
    """Yield number and data of each replicate of a study with the default settings."""
    config = StudyConfig(name="recorded")
    with tempfile.TemporaryDirectory() as folder:
        study = StudyFolder(Path(folder))
        data: PreparedData = prepare(config.base.prepare)
        study.write_prepared(data)
        for number in range(count):
            yield number, prepare(replicate_config(config, study, number))


def trial(arm: str) -> TrialConfig:
    """Return the config of the baseline, or of water-filling over bounds of span 3 about the uniform ratios."""
    if arm == BASELINE:
        return TrialConfig().with_overrides({"compression.strategy": "uniform"})
    bounds = {f"L{level}": {"low": ratio / SPAN, "high": ratio * SPAN} for level, ratio in enumerate((0.5, 1.0, 1.5))}
    return TrialConfig().with_overrides({"compression.strategy": arm, "compression.bounds": bounds})


def compact(metrics: Metrics) -> dict[str, Any]:
    """Return the figures that a verdict reads, to six digits."""
    fvu = {name: float(f"{value:.6g}") for name, value in metrics.fvu.items()}
    return {"fvu": list(fvu.values()), **{name: float(f"{getattr(metrics, name):.6g}") for name in KEPT}}


def imbalance(record: dict[str, Any]) -> float:
    """Return max / min of the recorded FVUs."""
    return max(record["fvu"]) / min(record["fvu"])


if __name__ == "__main__":
    main()
