"""What a training would be, of a config and a prepared dataset: nothing is trained, but where pilots measure sizes."""

from __future__ import annotations

import json
from typing import Any

from spinlock_dist.config import TrialConfig
from spinlock_dist.device import resolve_device
from spinlock_dist.prepare import PreparedData
from spinlock_dist.run import plan_sizes
from spinlock_dist.shown import terminal_console
from spinlock_dist.tables import plan_table
from spinlock_dist.training.engine import choose_engine


def show_plan(config: TrialConfig, data: PreparedData, as_json: bool) -> None:
    """Print what a training would be of: rows, columns, sizes by category, bits and steps.

    Raises `ConfigError` for a config that has no plan on this data, or that its engine cannot train.
    """
    plan, device = plan_sizes(config, data), resolve_device(config.training.device)
    rows = {name: len(data.split.part(name)) for name in ("train", "validation", "test")}
    steps = rows["train"] // min(config.training.batch_size, rows["train"])
    content: dict[str, Any] = {
        "strategy": config.compression.strategy,
        "rows": rows,
        "columns": len(data.feature_names),
        "dropped_columns": len(data.pipeline.cleaning.ledger) - len(data.feature_names),
        "bits_per_sample": plan.bits_per_sample,
        "epochs": config.training.epochs,
        "steps_per_epoch": steps,
        "engine": choose_engine([config], device),
        "device": str(device),
    }
    if as_json:
        sizes = zip(data.categories, plan.dims.tolist(), plan.codes.tolist(), plan.bits.sum(axis=1), strict=True)
        content["categories"] = [
            {"name": each.name, "features": len(each), "dims": dims, "codes": codes, "bits": float(bits)}
            for each, dims, codes, bits in sizes
        ]
        print(json.dumps(content))
        return
    console = terminal_console()
    console.print(plan_table(plan, data.categories))
    console.print(
        f"{content['strategy']}: {', '.join(f'{name} {count}' for name, count in rows.items())} rows; "
        f"{content['columns']} columns ({content['dropped_columns']} dropped) in {len(data.categories)} categories; "
        f"{plan.bits_per_sample:.1f} bits per sample; {content['epochs']} epochs of {steps} steps, "
        f"{content['engine']} on {device}. Nothing was trained.",
        soft_wrap=True,
    )
