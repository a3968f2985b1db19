"""Record the row errors of real trainings on the test rows, for the verdict's error rate.

    python benchmarks/record_replicates.py [--replicates 9] [--rows 400] [--out tests/data/replicates.npz]

On the default data, 2,000 simulated operators, each training as a replicate of a study's finals: the baseline and
water-filling, with seeds and folds of their own. Kept are the first test rows, as 16-bit floats: squared errors
`[replicates, rows, categories]` of each arm, and squares about the training mean `[rows, categories]`. A minute of one
core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from spinlock_dist.atomic_files import replacing
from spinlock_dist.config import TrialConfig
from spinlock_dist.prepare import prepare
from spinlock_dist.run import run_trial

OUT = Path(__file__).parents[1] / "tests" / "data" / "replicates.npz"
ARMS = ("uniform", "waterfill")


def main() -> None:
    """Train, keep the row errors, print the imbalances."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=9)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    base = TrialConfig().with_overrides({"prepare.simulator.samples": 2000})
    data = prepare(base.prepare)
    kept: dict[str, np.ndarray] = {}
    for arm in ARMS:
        config, errors = base.with_overrides({"compression.strategy": arm}), []
        for number in range(args.replicates):
            seeded = config.model_copy(update={"seed": 1 + number})
            outcome = run_trial(seeded, data.fold(number % len(data.split.folds)))
            rows = outcome.reconstructed("test").row_errors
            errors.append(rows.errors_NC[: args.rows])
            kept.setdefault("totals", rows.totals_NC[: args.rows].astype(np.float16))
            print(f"{arm} {number}: {outcome.evaluate('test').imbalance:.2f}x", flush=True)
        kept[arm] = np.stack(errors).astype(np.float16)
    with replacing(args.out) as draft, draft.open("wb") as file:
        np.savez_compressed(file, **kept)


if __name__ == "__main__":
    main()
