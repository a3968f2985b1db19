"""The tables of a study: trials, curves and categories.

Units: FVU is the fraction of variance unexplained (0 perfect, 1 = the training mean), an imbalance a ratio of two, bits
are per sample, seconds wall time of one training, `mse_raw` and `scale` the squared units of the raw features.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from results.analysis.levelling import levelling
from results.analysis.pareto import front
from results.records.stored_tables import OWNER, TRIAL, WRITTEN, how_much_written
from results.records.study_folder import StudyFolder
from results.records.trial_record import Phase, TrialRecord
from spinlock_dist.atomic_files import replacing
from spinlock_dist.config import LEVELS
from spinlock_dist.metrics.record import Metrics

if TYPE_CHECKING:
    import pandas as pd

ESTIMATED = ("imbalance", "fvu_worst", "fvu_mean")


def trial_table(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """One row per trial.

    Columns: phase, arm, number, state, feasible, seed, epochs, seconds, node, device, model (of the device), kind,
    reason, attempts (how many), story (the attempts as JSON text), front (whether it is on the Pareto front of
    imbalance, mean FVU and utilization), the scalar validation metrics by name, `estimate.<figure>` (imbalance,
    fvu_worst, fvu_mean: what trials are ranked by) with `.low` and `.high`, `test.<metric>`, `fvu.<category>`,
    `guard.<name>` (excess, at most 0 if kept),
    `levelling.worst_helped` and `levelling.best_hurt` (gains in log10 imbalance against the baseline; of finals on the
    test rows, against the same replicate's), `param.<setting>` of what was searched, as JSON text (the settings of one
    space have different types), and as JSON text `record`, all but curve and codebooks, and `codebooks`, those of
    `metrics` and `test`.
    """
    import pandas as pd

    baselines = {(record.phase, record.number): record for record in records if record.arm == "baseline"}
    on_front = {id(record) for record in front([record for record in records if record.phase == "search"])}
    rows = [_row(record) | {"front": id(record) in on_front} | _levelling(record, baselines) for record in records]
    return pd.DataFrame(rows)


def curve_table(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """One row per report: phase, arm, number, epoch, trained, seconds, `loss.<term>`, scalar validation metrics.

    `trained` is `epoch` without the epochs of pilots.
    """
    import pandas as pd

    return pd.DataFrame([_name(record) | report for record in records for report in record.curve])


def category_table(
    records: Sequence[TrialRecord], features: Mapping[str, int], scales: Mapping[str, float]
) -> pd.DataFrame:
    """One row per trial and category; finals and verification have one for each of their splits.

    `features` are counts by category, `scales` mean raw variances; of a category that is not there `features` and
    `bits_per_feature`, or `scale`, are missing. Columns: phase, arm, number, split, category, features, fvu, mse_raw,
    scale, reference_fvu, bits, bits_carried, bits_per_feature, and for each level `dim.<level>` and `codes.<level>`:
    its latent dimensions, and the codes of its codebooks multiplied, so that their log2 is its bits; 0 and 1 where it
    is switched off.
    """
    import pandas as pd

    return pd.DataFrame(
        [
            _name(record) | row
            for record in records
            for metrics in (record.metrics, record.test)
            if metrics is not None
            for row in _category_rows(metrics, features, scales)
        ]
    )


# ---------------------------------------------------------------- on disk


def write_tables(folder: StudyFolder, records: Sequence[TrialRecord]) -> None:
    """Write trials.parquet and curves.parquet anew, atomically.

    They know how much the study had written then, so how new they are.
    """
    written = how_much_written(folder)
    for path, table in ((folder.trials, trial_table(records)), (folder.curves, curve_table(records))):
        table.attrs |= {WRITTEN: written, OWNER: folder.identity}
        with replacing(path) as draft:
            table.to_parquet(draft, index=False)


# ---------------------------------------------------------------- rows


def _name(record: TrialRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in TRIAL}


def _row(record: TrialRecord) -> dict[str, Any]:
    plain = ("state", "feasible", "seed", "epochs", "seconds", "node", "device", "model", "kind", "reason")
    row: dict[str, Any] = _name(record) | {name: getattr(record, name) for name in plain}
    row |= {"attempts": len(record.attempts), "story": json.dumps([vars(attempt) for attempt in record.attempts])}
    row |= figures(record)
    row |= {f"param.{name}": json.dumps(value) for name, value in record.params.items()}
    content = {**record.to_json(), "curve": []}
    books = {part: content[part].pop("codebooks") for part in ("metrics", "test") if content[part] is not None}
    return row | {"record": json.dumps(content), "codebooks": json.dumps(books)}


def figures(record: TrialRecord) -> dict[str, float]:
    """What a trial scored, by column of the table: metrics, `estimate.`, `fvu.`, `test.` and `guard.`."""
    found: dict[str, float] = {}
    if record.metrics is not None:
        found |= record.metrics.scalars() | _estimates(record.metrics)
        found |= {f"fvu.{category}": value for category, value in record.metrics.fvu.items()}
    if record.test is not None:
        found |= {f"test.{name}": value for name, value in record.test.scalars().items()}
    return found | {f"guard.{name}": value for name, value in record.guards.items()}


def _estimates(metrics: Metrics) -> dict[str, float]:
    """What trials are ranked by: figures with the bias of few rows taken off, and their intervals where known."""
    row = {}
    for name in ESTIMATED:
        row[f"estimate.{name}"] = metrics.estimate(name)
        if (found := metrics.estimates.get(name)) is not None:
            row |= {f"estimate.{name}.low": found.low, f"estimate.{name}.high": found.high}
    return row


def _levelling(record: TrialRecord, baselines: Mapping[tuple[Phase, int], TrialRecord]) -> dict[str, float]:
    """The levelling-down meter: of the search against the first baseline, of finals against their pair's."""
    is_final = record.phase == "final"
    base = baselines.get(("final", record.number) if is_final else ("baseline", 0))
    ours = record.test if is_final else record.metrics
    theirs = None if base is None else base.test if is_final else base.metrics
    if ours is None or theirs is None:
        return {}
    return {f"levelling.{name}": value for name, value in asdict(levelling(ours, theirs)).items()}


def _category_rows(
    metrics: Metrics, features: Mapping[str, int], scales: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    sizes = {(category, level): [0, 1] for category in metrics.fvu for level in LEVELS}
    bits = dict.fromkeys(metrics.fvu, 0.0)
    for book in metrics.codebooks:
        size = sizes[book["category"], book["level"].split(".")[0]]  # `L0.2` is the second codebook of L0
        size[:] = [book["dim"], size[1] * book["codes"]]
        bits[book["category"]] += math.log2(book["codes"])
    for category, fvu in metrics.fvu.items():
        count = features.get(category)
        row = {
            "split": metrics.split,
            "category": category,
            "features": count,
            "fvu": fvu,
            "mse_raw": metrics.mse_raw[category],
            "scale": scales.get(category),
            "reference_fvu": metrics.reference_fvu.get(category),
            "bits": bits[category],
            "bits_carried": metrics.bits_carried.get(category),
            "bits_per_feature": bits[category] / count if count else None,
        }
        for level in LEVELS:
            row[f"dim.{level}"], row[f"codes.{level}"] = sizes[category, level]
        yield row
