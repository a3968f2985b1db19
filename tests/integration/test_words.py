"""Whole studies of the real core whose outcome is known, and the word that each gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from spinlock_dist.config import PrepareConfig, TrainingConfig, TrialConfig
from study import StudyConfig, run
from study.config import ClusterConfig, FinalsConfig, GuardsConfig, StoppingConfig
from study.phases.finals import PLAIN_FEEDBACK
from study.pipeline import StudyResult

pytestmark = pytest.mark.usefixtures("shared_ray")

BLIND = GuardsConfig(fvu_mean_ratio=1e9, fvu_worst_limit=1, utilization=0, perplexity_ratio=0)
"""Guards that nothing breaks but more bits and a worst category that is shown to be worse."""


def study_of(folder: Path, space: dict[str, Any], noise_alone: int = 0, **given: Any) -> StudyResult:
    """Run three trials on 3,000 rows of three categories, `c0` the easiest, each one source in four columns with noise.

    A fourth is `noise_alone` columns that have nothing in common.
    """
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    for place, sd in enumerate((0.1, 0.3, 0.6)):
        source = rng.normal(size=3000)
        columns |= {f"summary::c{place}_{column}": source + sd * rng.normal(size=3000) for column in range(4)}
    columns |= {f"summary::noise_{column}": rng.standard_t(3, size=3000) for column in range(noise_alone)}
    categories: dict[str, list[str]] = {}
    for name in columns:
        categories.setdefault(name.split("::")[1].split("_")[0], []).append(name)
    pd.DataFrame(columns).to_parquet(folder / "table.parquet")
    (folder / "categories.json").write_text(json.dumps(categories))
    (folder / "space.yaml").write_text(yaml.safe_dump({"description": "known outcome", **space}))
    prepare = PrepareConfig(dataset=str(folder / "table.parquet"))
    base = TrialConfig(prepare=prepare, training=TrainingConfig(epochs=6, evaluate_every=2))
    base = base.with_overrides({"prepare.categories.mapping": str(folder / "categories.json"), **given.pop("base", {})})
    config = StudyConfig(
        name="s",
        runs=str(folder / "runs"),
        space=str(folder / "space.yaml"),
        trials=3,
        baseline_seeds=1,
        base=base,
        stopping=StoppingConfig(rule="none"),
        finals=FinalsConfig(top=1, replicates=3, seeds=1),
        cluster=ClusterConfig(gpus=0, max_concurrent=2),
        **given,
    )
    return run(config)


def rate(low: float, high: float) -> dict[str, Any]:
    return {"training.learning_rate": {"type": "float", "low": low, "high": high}}


def test_a_learning_rate_is_no_gain_by_compression(tmp_path):
    """Errors fall to less than half, but from a rate that was far too low, and with uniform ratios."""
    space = {"parameters": rate(0.005, 0.01), "fixed": {"compression.strategy": "uniform"}}
    result = study_of(tmp_path, space, base={"training.learning_rate": 1e-4, "model.initialization": "random"})
    words = {finding.arm: finding for finding in result.verdict.findings}
    [trial] = words.keys() - {PLAIN_FEEDBACK}
    assert words[trial].effects["fvu_mean"].ratio < 0.5
    assert words[trial].verdict in ("no difference shown", "worse")
    assert "Its ratios are uniform: whatever differs comes from how it is trained." in words[trial].why


def test_what_is_levelled_down_is_called_that(tmp_path):
    """The best category's bits go to the second best, which needs them no more, and the worst keeps its own."""
    ratios = {"c0": [0.25, 0.3, 0.4], "c1": [0.75, 1.7, 2.6], "c2": [0.5, 1.0, 1.5]}
    fixed = {"compression.strategy": "given", "compression.given": ratios}
    result = study_of(tmp_path, {"parameters": rate(0.004, 0.005), "fixed": fixed}, guards=BLIND)
    words = {finding.arm: finding for finding in result.verdict.findings}
    [trial] = words.keys() - {PLAIN_FEEDBACK}
    assert words[trial].verdict == "more even, but worse"


def test_what_collapses_is_not_better_however_even(tmp_path):
    space = {"parameters": rate(0.25, 0.3), "fixed": {"compression.strategy": "feedback"}}
    result = study_of(tmp_path, space, guards=BLIND)
    assert {record.kind for record in result.search} == {"collapsed codebook"}
    assert [(finding.arm, finding.verdict) for finding in result.verdict.findings] == [(PLAIN_FEEDBACK, "better")]
    assert result.best is not None and result.best.arm == PLAIN_FEEDBACK


def test_a_hopeless_category_is_no_failure_of_what_helps_it_a_little(tmp_path):
    """Of 60 columns without anything in common a dozen bits leave 0.6 to 0.9, whatever the ratios."""
    choices = {"type": "categorical", "choices": ["uniform", "feedback", "waterfill"]}
    result = study_of(tmp_path, {"parameters": {"compression.strategy": choices}}, noise_alone=60)
    assert result.baseline[0].metrics is not None and result.baseline[0].metrics.fvu["noise"] > 0.7
    [found] = result.verdict.findings
    assert (found.verdict, found.failed) == ("better", "")
    assert found.effects["fvu_worst"].high < 1
