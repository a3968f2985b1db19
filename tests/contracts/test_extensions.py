"""What CONTRIBUTING promises: each of these is one file and one line. A module in a temporary package adds one."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules can be imported, for the files that a test adds."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def write_module(package: Path, name: str, source: str) -> None:
    (package / f"{name}.py").write_text(dedent(source))


def test_a_retry_rule(package: Path) -> None:
    from results.records.trial_record import Attempt
    from study.worker.retry_policy import failure_kind, should_retry
    from study.worker.retry_rules import RETRY_RULES, rule_of

    write_module(
        package,
        "licences",
        """
        from study.worker.retry_rules import RetryRule

        NO_LICENCE = RetryRule(recognizes=lambda error: "licence" in str(error), attempts_without_progress=2)
        """,
    )
    RETRY_RULES.register("no licence", "licences:NO_LICENCE")
    try:
        kind = failure_kind(RuntimeError("no licence left"))
        once = Attempt(began="2026-01-01", kind=kind, ended=True)
        assert (kind, should_retry([once], scaled=False), should_retry([once, once], scaled=False)) == (
            "no licence",
            True,
            False,
        )
        assert rule_of(kind).state == "failed"
    finally:
        RETRY_RULES.unregister("no licence")
    assert failure_kind(RuntimeError("no licence left")) == "exception"


def test_a_monitor(package: Path, make_record) -> None:
    from rich.console import Console

    from study.config import StudyConfig
    from study.monitor.registry import MONITORS, MonitorSetup, make_monitors

    write_module(
        package,
        "notebook",
        """
        from study.events import StudyEvents

        ended = []

        class Notebook(StudyEvents):
            def on_trial_end(self, record):
                ended.append(record.arm)

        def make_notebook(setup):
            return Notebook() if setup.config.name == "s" else None
        """,
    )
    MONITORS.register("notebook", "notebook:make_notebook")
    try:
        for name in ("s", "not asked for here"):
            events = make_monitors(MonitorSetup(StudyConfig.model_construct(name=name), Console(quiet=True)))
            events.on_trial_end(make_record(7, 0.5, 0.1))
    finally:
        MONITORS.unregister("notebook")
    assert sys.modules["notebook"].ended == ["trial-7"]


def test_a_figure_and_a_section_of_the_report(package: Path) -> None:
    from results.records.study_record import read_study
    from results.report.figures import FIGURES
    from results.report.render import write_report
    from results.report.sections import SECTIONS
    from tests.synthetic_study import build_study

    write_module(
        package,
        "added_figure",
        """
        import plotly.graph_objects as go

        from results.report.figures.figure import Figure

        FIGURE = Figure(
            title="Seconds of every trial",
            caption="Look for outliers.",
            section="costs",
            draw=lambda study: go.Figure(go.Bar(y=[record.seconds for record in study.search])),
        )
        """,
    )
    write_module(
        package,
        "added_section",
        """
        from results.report.sections.parts import Section


        def section(study):
            return Section(title="What did it cost?", texts=[f"{len(study.search)} trials."])
        """,
    )
    FIGURES.register("seconds", "added_figure:FIGURE")
    SECTIONS.register("costs", "added_section:section")
    try:
        study = read_study(build_study(package / "runs", "made", 6, space="quick"))
        write_report(package / "report.html", study)
    finally:
        FIGURES.unregister("seconds")
        SECTIONS.unregister("costs")
    page = (package / "report.html").read_text(encoding="utf-8")
    section = page.split('<section id="costs">')[1]
    assert "What did it cost?" in section and "6 trials." in section
    assert "<b>Seconds of every trial</b> Look for outliers." in section
    assert 'data-figure="plot-seconds">{"data":[' in section
    assert not study.problems


def test_a_strategy(package: Path) -> None:
    import numpy as np

    from spinlock_dist.compression.capacity import plan_capacity
    from spinlock_dist.compression.characteristics import characterize
    from spinlock_dist.compression.strategies import STRATEGIES
    from spinlock_dist.config import CompressionConfig

    write_module(
        package,
        "wide_first",
        """
        import numpy as np

        from spinlock_dist.compression.strategies import Strategy

        WIDE_FIRST = Strategy(need=lambda categories: np.array([each.features for each in categories], dtype=float))
        """,
    )
    rng = np.random.default_rng(0)
    categories = [characterize(rng.normal(size=(200, features))) for features in (4, 12, 30)]
    STRATEGIES.register("wide_first", "wide_first:WIDE_FIRST")
    try:
        plan = plan_capacity(CompressionConfig(strategy="wide_first"), categories, 10_000)
    finally:
        STRATEGIES.unregister("wide_first")
    uniform = plan_capacity(CompressionConfig(strategy="uniform"), categories, 10_000)
    assert (
        plan.bits.sum(axis=1)[0] < uniform.bits.sum(axis=1)[0]
        and plan.bits.sum(axis=1)[2] > uniform.bits.sum(axis=1)[2]
    )


def test_a_family_encoder(package: Path, tmp_path: Path) -> None:
    import numpy as np

    from spinlock_dist.config import ENCODERS
    from spinlock_dist.config_file import load_config
    from spinlock_dist.errors import ConfigError
    from spinlock_dist.prepare import prepare
    from tests.synthetic import write_table

    write_module(
        package,
        "squares",
        """
        from typing import Literal

        from pydantic import Field

        from spinlock_dist.features.encoders.base import Encoder

        class Squares(Encoder):
            encoder: Literal["squares"] = "squares"
            power: int = Field(2, ge=1)

            def names(self, columns):
                return tuple(f"{column}^{self.power}" for column in columns)

            def encode(self, arrays, values, fields):
                return values.astype(float) ** self.power
        """,
    )
    write_table(tmp_path / "table.npz", rows=60)
    path = tmp_path / "trial.yaml"
    settings = f"prepare:\n  dataset: {tmp_path / 'table.npz'}\n  families:\n    summary: "
    settings += "{encoder: squares, power: 3}\n"
    ENCODERS.register("squares", "squares:Squares")
    try:
        path.write_text(settings)
        config = load_config(path)
        data = prepare(config.prepare)
        assert all(name.endswith("^3") for name in data.feature_names) and np.isfinite(data.values).all()
        assert config.model_validate(config.model_dump(mode="json")) == config
        path.write_text(settings.replace("power", "powr"))
        with pytest.raises(ConfigError, match=r"line 4: unknown setting .*powr'; did you mean 'power'"):
            load_config(path)
    finally:
        ENCODERS.unregister("squares")
    path.write_text(settings)
    with pytest.raises(ConfigError, match="unknown encoder 'squares'"):
        load_config(path)


def test_a_sampler(package: Path) -> None:
    import optuna

    from results.records.optuna_distributions import suggest
    from search_spaces import load_space
    from study.config import SAMPLERS, StudyConfig
    from study.samplers.build import make_sampler

    write_module(
        package,
        "lowest",
        """
        from optuna.samplers import RandomSampler

        from study.samplers.kind import SamplerKind

        class Lowest(RandomSampler):
            def sample_independent(self, study, trial, param_name, param_distribution):
                return getattr(param_distribution, "low", None) or param_distribution.choices[0]

        LOWEST = SamplerKind(make=lambda seed: Lowest(seed=seed))
        """,
    )
    SAMPLERS.register("lowest", "lowest:LOWEST")
    try:
        space, config = load_space("quick"), StudyConfig(name="s", sampler="lowest")
        values = suggest(optuna.create_study(sampler=make_sampler(config)).ask(), space)
        assert values == {name: parameter.probes()[0] for name, parameter in space.parameters.items() if name in values}
    finally:
        SAMPLERS.unregister("lowest")


def test_a_metric_a_quantizer_and_a_codec(package: Path, tmp_path: Path) -> None:
    from spinlock_dist.baselines import CODECS, fit_codec, score_codec
    from spinlock_dist.config import QUANTIZERS, TrialConfig
    from spinlock_dist.metrics.score import METRICS
    from spinlock_dist.prepare import prepare
    from spinlock_dist.run import run_trial
    from tests.synthetic import write_table

    write_module(
        package,
        "added",
        """
        import numpy as np

        from spinlock_dist.model.quantizers.ema import EMAQuantizer

        made = []

        def median_error(scored):
            return {"median_error": float(np.median((scored.target_ND - scored.output_ND) ** 2))}

        class Loud(EMAQuantizer):
            def __init__(self, *sizes):
                super().__init__(*sizes)
                made.append(self)

        class Mean:
            codes = (1,)

            def __init__(self, mean_F):
                self.mean_F = mean_F

            @classmethod
            def fit(cls, x_NF, codes_L, generator, beam):
                return cls(x_NF.mean(axis=0))

            def encode(self, x_NF):
                return np.zeros((len(x_NF), 1), dtype=np.int64)

            def decode(self, tokens_NS):
                return np.tile(self.mean_F, (len(tokens_NS), 1)).astype(np.float32)
        """,
    )
    dataset = write_table(tmp_path / "table.npz", rows=120)
    prepared = {"dataset": str(dataset), "categories": {"count": 3}}
    METRICS.register("median error", "added:median_error")
    QUANTIZERS.register("loud", "added:Loud")
    CODECS.register("mean", "added:Mean")
    try:
        config = TrialConfig(prepare=prepared, training={"epochs": 2, "device": "cpu"}, quantizer={"kind": "loud"})
        data, curve = prepare(config.prepare), []
        outcome = run_trial(config, data, lambda report: curve.append(report.validation.scalars()))
        plan = outcome.tokenizer.plan
        codec = fit_codec("mean", data.values[data.split.train], data.categories, plan, seed=0, beam=4)
        of_codec = score_codec(codec, data, "validation")
    finally:
        METRICS.unregister("median error")
        QUANTIZERS.unregister("loud")
        CODECS.unregister("mean")
    assert sys.modules["added"].made
    assert curve[-1]["median_error"] == outcome.validation.extra["median_error"] > 0
    assert 0.8 < of_codec.fvu_mean < 1.2 and of_codec.extra["median_error"] > outcome.validation.extra["median_error"]


def test_a_figure_of_the_diagnosis(package: Path) -> None:
    from spinlock_dist.config import TrialConfig
    from spinlock_dist.data.load import load_table
    from spinlock_dist.diagnosis.figures import FIGURES
    from spinlock_dist.diagnosis.measure import diagnose
    from spinlock_dist.diagnosis.pictures import draw_figures
    from spinlock_dist.diagnosis.render import render_page
    from spinlock_dist.prepare import prepare
    from spinlock_dist.run import run_trial
    from tests.synthetic import write_table

    write_module(
        package,
        "added_drawing",
        """
        from spinlock_dist.diagnosis.figures.figure import Figure, Panel
        from spinlock_dist.diagnosis.figures.svg import Canvas


        def draw(data):
            canvas = Canvas(100, 20, "rows")
            canvas.text(0, 12, f"{len(data.target_ND)} rows were drawn")
            return [Panel("", canvas.svg(), is_wide=False)]


        FIGURE = Figure(title="How many rows?", caption="Look for few.", draw=draw)
        """,
    )
    config = TrialConfig(
        prepare={"dataset": str(write_table(package / "table.npz", rows=120)), "categories": {"count": 3}},
        training={"epochs": 1, "batch_size": 32, "device": "cpu"},
        model={"hidden": 8},
    )
    tokenizer, table = run_trial(config, prepare(config.prepare)).tokenizer, load_table(config.prepare)
    diagnosis = diagnose(tokenizer, table)
    FIGURES.register("rows", "added_drawing:FIGURE")
    try:
        page = render_page(diagnosis, draw_figures(tokenizer, table, diagnosis, {}))
    finally:
        FIGURES.unregister("rows")
    assert "How many rows?" in page and f"{diagnosis.row_count} rows were drawn" in page
