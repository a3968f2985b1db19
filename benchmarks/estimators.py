"""How far estimates of the imbalance lie from the truth, and how often their intervals hold it.

    make bench NAME=estimators

Rows are drawn from populations whose errors are known, of 25 categories: all equal, drawn about each other, or with one
that is the worst. The weight of a row is lognormal, so that with `tails` 1.2 one per cent of the rows carries 14 % of
a category's variance. Reported are bias and standard deviation of the log imbalance, in three ways:

measured   max / min
bootstrap  less the bias that resampling adds on top (Efron & Tibshirani 1993)
halves     what is reported: half of the rows choose worst and best, the other half measures them
"""

from __future__ import annotations

import argparse

import numpy as np

from spinlock_dist.metrics.estimates import cross_fitted, estimate_of, log_figures
from spinlock_dist.metrics.row_errors import RowErrors

CATEGORIES = 25
TAILS = (0.5, 1.2)
ROWS = (300, 1400, 7000)


def populations() -> dict[str, np.ndarray]:
    """The log FVU of each category `[C]`, by what the population is."""
    rng = np.random.default_rng(0)
    equal = np.zeros(CATEGORIES)
    worst = equal.copy()
    worst[0] = np.log(2)
    return {
        "equal": equal,
        "sd 0.1": rng.normal(0, 0.1, CATEGORIES),
        "sd 0.4": rng.normal(0, 0.4, CATEGORIES),
        "one worst, 2x": worst,
    }


def drawn(log_fvu_C: np.ndarray, rows: int, tails: float, rng: np.random.Generator) -> RowErrors:
    """Rows of a population."""
    shape = rows, len(log_fvu_C)
    totals_NC = np.exp(rng.normal(-(tails**2) / 2, tails, shape)) * rng.chisquare(4, shape) / 4
    return RowErrors(totals_NC * 0.1 * np.exp(log_fvu_C) * rng.chisquare(4, shape) / 4, totals_NC)


def main() -> None:
    """Print a line for each population, number of rows and weight of tails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=40, help="datasets of each kind (default: %(default)s)")
    draws = parser.parse_args().draws
    rng = np.random.default_rng(1)
    print("| population | tails | rows | true | measured | bootstrap | halves | interval holds the truth |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for tails in TAILS:
        for rows in ROWS:
            for name, log_fvu_C in populations().items():
                truth = float(np.ptp(log_fvu_C))
                found: dict[str, list[float]] = {"measured": [], "bootstrap": [], "halves": []}
                inside = 0
                for _ in range(draws):
                    errors = drawn(log_fvu_C, rows, tails, rng)
                    sums = RowErrors(*(each.sum(axis=0, keepdims=True) for each in errors))
                    measured = float(log_figures(sums)["imbalance"][0])
                    resampled = log_figures(errors.resampled())["imbalance"]
                    found["measured"].append(measured)
                    found["bootstrap"].append(2 * measured - float(resampled.mean()))
                    found["halves"].append(cross_fitted(errors)["imbalance"])
                    interval = estimate_of(errors)["imbalance"]
                    inside += interval.low <= np.exp(truth) * (1 + 1e-9) and interval.high >= np.exp(truth)
                cells = [f"{np.mean(each) - truth:+.3f} ± {np.std(each):.3f}" for each in found.values()]
                share = f"{inside} of {draws}"
                print(
                    f"| {name} | {tails} | {rows} | {np.exp(truth):.2f} | {' | '.join(cells)} | {share} |", flush=True
                )


if __name__ == "__main__":
    main()
