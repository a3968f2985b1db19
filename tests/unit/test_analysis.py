"""What the trials say in numbers: raw imbalances taken apart, ratios as they came out, suspects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from results.analysis.capacity import AtLimit, at_limit, bits_of, realized_ratios, spread
from results.analysis.hypotheses import hypotheses
from results.analysis.importance import LEAST_TRIALS, importances, in_memory, scored
from results.analysis.strategies import by_strategy
from results.records.settings import TrialSettings
from results.records.study_record import StudyRecord, read_study
from results.records.trial_record import TrialRecord
from search_spaces import Float, SearchSpace, load_space
from spinlock_dist.compression.strategies import UNIFORM_RATIOS
from spinlock_dist.config import CompressionConfig
from spinlock_dist.metrics.raw_imbalance import split_raw_imbalance
from spinlock_dist.metrics.record import Metrics
from tests.synthetic_study import build_study

ADAPTIVE = (0.002159, 5567.56, 4227.75, 1596.63, 0.001311, 3646.67, 2305.67, 4171.04)
BASELINE = (
    *(0.116534, 3611.906, 494.381, 0.077545, 1821.458, 883.279),
    *(2559.784, 831.358, 213.059, 1101.240, 1332.686, 1729.077),
)


SEARCHED = TrialSettings({})


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    return read_study(build_study(tmp_path_factory.mktemp("runs"), "made", 40))


# ---------------------------------------------------------------- raw imbalance


@pytest.mark.parametrize(
    ("published", "imbalance", "worst", "best"),
    [(ADAPTIVE, 4_247_114, "cluster_2", "cluster_5"), (BASELINE, 46_578, "cluster_2", "cluster_4")],
)
def test_the_published_diagnostics_are_reproduced(published, imbalance, worst, best):
    errors = {f"cluster_{place}": value for place, value in enumerate(published, start=1)}
    found = split_raw_imbalance(errors, dict.fromkeys(errors, 1.0))
    assert 10**found.log10_imbalance == pytest.approx(imbalance, rel=1e-4)  # the published errors have 4 digits
    assert (found.worst, found.best) == (worst, best)


# ---------------------------------------------------------------- ratios


def books(*codes: tuple[int, int, int], dims: tuple[int, int, int] = (4, 8, 12)) -> list[dict]:
    return [
        {
            "category": f"c{row}",
            "level": f"L{level}",
            "dim": dims[level],
            "codes": count,
            "used": count,
            "perplexity": 2,
        }
        for row, each in enumerate(codes)
        for level, count in enumerate(each)
        if count > 1
    ]


def with_books(metrics: Metrics, *codes: tuple[int, int, int], **given) -> Metrics:
    return replace(metrics, codebooks=books(*codes, **given))


def test_ratios_follow_the_bits_that_were_moved(make_record, make_metrics):
    base = make_record(0, metrics=with_books(make_metrics(0.5, 0.1), (16, 4, 4), (16, 4, 4)))
    ours = make_record(1, metrics=with_books(make_metrics(0.3, 0.2), (256, 4, 2), (4, 4, 1)))
    assert realized_ratios(base, base, SEARCHED) == pytest.approx(np.array([UNIFORM_RATIOS] * 2))
    assert realized_ratios(ours, base, SEARCHED) == pytest.approx(np.array([[1.0, 1.0, 0.75], [0.25, 1.0, 0.0]]))
    assert spread(realized_ratios(base, base, SEARCHED)) == 1
    # a level that is off has no ratio
    assert spread(realized_ratios(ours, base, SEARCHED)) == pytest.approx(4 ** (1 / 3))
    assert bits_of(ours.metrics) == {"c0": 11, "c1": 4}


def test_a_category_that_can_be_taken_no_further_is_told_with_its_cost(make_metrics):
    compression = CompressionConfig(max_codes=16, max_codebooks=1, min_rows_per_code=8)
    found = with_books(
        make_metrics(0.02, 0.1, 0.4, 0.12, 0.1), (2, 1, 1), (8, 4, 4), (16, 16, 16), (8, 8, 4), (2, 1, 1)
    )
    # c4 holds as little as c0, and errs like the others
    assert at_limit(found, compression, rows=10_000) == AtLimit(
        least=["c0"], most=["c2"], imbalance_without=pytest.approx(1.2)
    )
    wider = compression.model_copy(update={"max_codebooks": 2})
    assert at_limit(found, wider, rows=10_000) == AtLimit(least=["c0"], most=[], imbalance_without=pytest.approx(4.0))
    assert at_limit(with_books(make_metrics(0.2, 0.1), (8, 4, 4), (8, 4, 4)), compression, rows=10_000) is None


def test_ratios_follow_the_dims_where_only_these_were_moved(make_record, make_metrics):
    base = make_record(0, metrics=with_books(make_metrics(0.5), (16, 4, 4)))
    moved = with_books(make_metrics(0.5), (16, 4, 4), dims=(8, 8, 6))
    ours = make_record(1, metrics=moved, params={"compression.capacity": "latent"})
    assert realized_ratios(ours, base, SEARCHED) == pytest.approx(np.array([[1.0, 1.0, 0.75]]))


def test_without_codebooks_there_are_no_ratios(make_record):
    assert realized_ratios(make_record(0, 0.5), make_record(1, 0.5), SEARCHED) is None


# ---------------------------------------------------------------- what mattered


def test_strategies_are_listed_by_their_best_trial(make_record):
    def trial(number: int, strategy: str, *fvu: float, **given) -> TrialRecord:
        return make_record(number, *fvu, params={"compression.strategy": strategy}, **given)

    rows = by_strategy(
        [
            trial(0, "balanced", 0.4, 0.1),
            trial(1, "balanced", 0.8, 0.1),
            trial(2, "feedback", 0.2, 0.1),
            trial(3, "variance", 0.2, 0.2, guards={"fvu_mean": 0.1}),
            trial(4, "variance", state="diverged"),
        ],
        SEARCHED,
    )
    assert [(row.strategy, row.trials, row.complete, row.feasible) for row in rows] == [
        ("feedback", 1, 1, 1),
        ("balanced", 2, 2, 2),
        ("variance", 2, 1, 0),
    ]
    assert [row.best.number if row.best else None for row in rows] == [2, 0, None]
    assert [row.median_imbalance for row in rows] == pytest.approx([2, 6, 1])


def test_what_decides_the_imbalance_is_found(study):
    space = study.space()
    found = importances(study.search, space, study.settings)
    assert set(found) == {"imbalance", "worst"}
    assert max(found["imbalance"], key=found["imbalance"].__getitem__) == "compression.strategy"
    assert sum(found["imbalance"].values()) == pytest.approx(1)
    few = scored(study.search)[: LEAST_TRIALS - 1]
    assert importances(few, space, study.settings) == {}


def test_of_trials_that_differ_by_rounding_nothing_is_said(make_record):
    sharpness = Float(low=0.5, high=2.0)
    space = SearchSpace(name="one", description="", parameters={"compression.sharpness": sharpness})
    values = np.linspace(0.5, 2, LEAST_TRIALS)
    records = [make_record(0, 0.4 + 1e-9 * value, 0.1, params={"compression.sharpness": value}) for value in values]
    assert importances(records, space, SEARCHED) == {}
    records = [make_record(0, 0.4 + value, 0.1, params={"compression.sharpness": value}) for value in values]
    assert importances(records, space, SEARCHED)["worst"] == {"compression.sharpness": pytest.approx(1)}


def test_trials_of_another_space_are_left_out(study, make_record):
    trials = [*scored(study.search)[:3], make_record(9, 0.5, 0.1, params={"no.such": 1})]
    assert len(in_memory(trials, study.space(), SEARCHED).trials) == 3
    assert in_memory([], load_space("quick"), SEARCHED).trials == []


# ---------------------------------------------------------------- suspects


def curve(*imbalances: float) -> list[dict[str, float]]:
    return [
        {"epoch": 10.0 * place, "fvu_worst": 0.2, "imbalance": value} for place, value in enumerate(imbalances, start=1)
    ]


def words(study: StudyRecord) -> dict[str, str]:
    return {suspect.name: suspect.word for suspect in hypotheses(study)}


def of(study: StudyRecord, *records: TrialRecord) -> StudyRecord:
    return replace(study, records=list(records), verdict=None)


@pytest.mark.parametrize(
    ("seeds", "word"),
    [
        (((9, 6, 4, 3), (9, 6.1, 4, 3), (9, 6.2, 4, 3)), "supported"),
        (((3, 3, 3, 3), (3, 3, 3, 3.1), (3, 3, 3, 2.9)), "ruled out"),
        (((3, 4, 5, 6), (3, 4, 5, 6.2), (3, 4, 5, 5.9)), "ruled out"),
        (((3, 4, 3, 3), (3, 2, 3, 3), (3, 3, 3, 3)), "cannot be told"),
        (((9, 6, 4, 3),), "cannot be told"),
        (((3,), (3,), (3,)), "cannot be told"),
    ],
)
def test_epochs_are_too_few_if_all_seeds_of_the_baseline_were_still_getting_more_equal(study, make_record, seeds, word):
    trainings = [
        make_record(number, 0.5, 0.1, phase="baseline" if number == 0 else "final", arm="baseline", curve=curve(*each))
        for number, each in enumerate(seeds)
    ]
    assert words(of(study, *trainings))["too few epochs"] == word


@pytest.mark.parametrize(("scale", "word"), [(1e6, "supported"), (1.0, "not supported")])
def test_scale_is_to_blame_for_a_raw_imbalance_that_it_makes(study, make_record, make_metrics, scale, word):
    metrics = make_metrics(0.5, 0.1)
    raw = {"c0": 0.5 * scale, "c1": 0.1}
    baseline = make_record(0, metrics=replace(metrics, mse_raw=raw), phase="baseline", arm="baseline")
    scales = {"c0": {"mean_variance": scale}, "c1": {"mean_variance": 1.0}}
    assert words(replace(of(study, baseline), prepared={"characteristics": scales}))["feature scale"] == word
    assert words(replace(of(study, baseline), prepared={}))["feature scale"] == "cannot be told"


def test_a_strategy_was_too_timid_if_a_bolder_one_gained(study, make_record, make_metrics):
    def trial(number: int, strategy: str, rule: str, codes: tuple[int, int, int], *fvu: float) -> TrialRecord:
        params = {"compression.strategy": strategy, "compression.rule": rule}
        return make_record(number, metrics=with_books(make_metrics(*fvu), codes, (16, 16, 16)), params=params)

    same, bold = (16, 16, 16), (128, 128, 128)
    base = make_record(0, metrics=with_books(make_metrics(0.5, 0.1), same, same), phase="baseline", arm="baseline")
    published = trial(1, "balanced", "spinlock", same, 0.45, 0.1)
    bolder, worse = trial(2, "feedback", "graded", bold, 0.2, 0.1), trial(3, "variance", "graded", bold, 0.6, 0.1)
    assert words(of(study, base, published, bolder))["too timid a strategy"] == "supported"
    unmoved = of(study, base, published, worse)
    assert words(unmoved)["too timid a strategy"] == "not supported"
    assert "A wider spread alone is not enough: trial 3" in hypotheses(unmoved)[2].why
    assert words(of(study, base, bolder))["too timid a strategy"] == "cannot be told"


def test_one_category_has_no_imbalance_that_could_have_a_cause(study, make_record):
    alone = [make_record(number, 0.5, phase="baseline", arm="baseline", curve=curve(1, 1, 1)) for number in range(3)]
    found = hypotheses(of(study, *alone))
    assert len(found) == 4
    assert {(each.word, each.why) for each in found} == {("cannot be told", "One category alone has no imbalance.")}


def test_a_clustering_is_ruled_out_only_if_something_is_better_with_it(study: StudyRecord) -> None:
    arm, effects = next(iter(study.effects.items()))
    for word, told in (("better", "ruled out"), ("no difference shown", "cannot be told")):
        judged = replace(study, verdict={"findings": [{"arm": arm, "verdict": word}]}, effects={arm: effects})
        assert words(judged)["a different clustering"] == told
    assert hypotheses(of(study)) == []
