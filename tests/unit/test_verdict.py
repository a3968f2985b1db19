"""What is said about finalists, and that no more is said than was shown."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from results.records.guards import effect_on_guard, excess_in_words
from results.records.trial_record import TrialRecord
from results.verdict.verdict import Verdict, conclude, judge
from study.config import GuardsConfig
from study.search.constraints import Baseline, guards


@pytest.fixture
def finals(make_record, make_metrics):
    """Return a builder of final records: FVUs of the baseline, and of each finalist, per replicate."""

    def build(baseline, **arms) -> list[TrialRecord]:
        records = []
        for number, theirs in enumerate(baseline):
            base = make_metrics(*theirs, split="test")
            records.append(make_record(number, phase="final", arm="baseline", test=base))
            for arm, scores in arms.items():
                given = {"phase": "final", "arm": arm.replace("_", "-")}
                if scores[number] is None:
                    records.append(make_record(number, state="diverged", reason="diverged in epoch 3", **given))
                    continue
                test = make_metrics(*scores[number], split="test")
                records.append(
                    make_record(number, test=test, guards=guards(test, Baseline(base), GuardsConfig()), **given)
                )
        return records

    return build


def noisy(*fvu, replicates=8, seed=0, sd=0.03):
    """Return FVUs per replicate, each times its own noise."""
    noise = np.exp(np.random.default_rng(seed).normal(0, sd, size=(replicates, len(fvu))))
    return [tuple(map(float, row)) for row in np.array(fvu) * noise]


BASE = noisy(0.5, 0.1, seed=1)


@pytest.mark.parametrize(
    ("trial", "verdict", "broken"),
    [
        (noisy(0.35, 0.1), "better", ()),
        (noisy(0.5, 0.1), "no difference shown", ()),
        (noisy(0.49, 0.06), "worse", ()),
        (noisy(0.6, 0.3), "worse", ("fvu_worst", "fvu_mean")),  # more even, and every category worse
        (noisy(0.6, 0.11), "worse", ("fvu_worst", "fvu_mean")),
        (noisy(0.45, 0.1, sd=0.3), "no difference shown", ()),
    ],
    ids=["better", "alike", "less even", "levelled down", "the worst category worse", "too noisy to tell"],
)
def test_the_verdict_is_what_was_shown(finals, trial, verdict, broken):
    [finding] = judge(finals(BASE, trial_1=trial), "splits").findings
    assert (finding.verdict, finding.broken) == (verdict, broken)
    assert all(guard in finding.why for guard in broken)


def test_the_sentence_holds_the_figures(finals):
    [finding] = judge(finals(BASE, trial_7=noisy(0.35, 0.1)), "new splits").findings
    effect = finding.effects["imbalance"]
    assert finding.why.startswith("Trial 7 is better than the uniform baseline: on 8 new splits its imbalance is ")
    assert f"{effect.ratio:.2f} times" in finding.why
    assert f"95% interval {effect.low:.2f} to {effect.high:.2f}; lower on 8 of 8" in finding.why


def test_a_guard_that_is_a_difference_is_not_told_as_a_ratio(finals, make_record, make_metrics):
    """Every figure is 0.1 below its limit of utilization, and its worst category a tenth above the baseline's."""
    records = finals(BASE, trial_7=[((1.1 + 0.001 * place) * worst, best) for place, (worst, best) in enumerate(BASE)])
    low = [
        replace(each, guards={**each.guards, "utilization": 0.1 + 0.001 * each.number, "fvu_mean": -0.1})
        if each.guards
        else each
        for each in records
    ]
    [finding] = judge(low, "splits").findings
    assert finding.broken == ("fvu_worst", "utilization")
    assert "fvu_worst (1.05 times its limit, interval 1.05 to 1.06)" in finding.why
    assert "utilization (0.103 below its limit, interval 0.101 to 0.106)" in finding.why
    effects = judge(low, "splits").findings[0].guards
    assert effect_on_guard("bits", effects["utilization"]).startswith("0.103 beyond its tolerance")
    assert excess_in_words({"perplexity": 0.0312, "fvu_mean": 0.05, "bits": -0.01}) == (
        "perplexity (0.031 below its limit), fvu_mean (5.0% above its limit)"
    )


def test_levelling_splits_the_effect_on_the_imbalance(finals):
    [finding] = judge(finals(BASE, trial_7=noisy(0.4, 0.13)), "splits").findings
    ratio = {name: effect.ratio for name, effect in finding.effects.items()}
    assert ratio["imbalance"] == pytest.approx(ratio["fvu_worst"] / ratio["fvu_best"])


def test_a_finalist_that_diverges_is_not_called_better(finals):
    trial = [None, *noisy(0.35, 0.1)[1:]]
    [finding] = judge(finals(BASE, trial_7=trial), "splits").findings
    assert finding.verdict == "no difference shown"
    assert finding.effects["imbalance"].pairs == 7
    assert "It failed on 1 of 8: diverged in epoch 3." in finding.why
    [reason_to_give_up] = judge(finals(BASE, trial_7=[None] * 8), "splits").findings
    assert reason_to_give_up.verdict == "no difference shown"
    assert "completed fewer than two splits" in reason_to_give_up.why


def test_several_finalists_are_corrected_for(finals):
    """An effect that alone is just large enough to be shown, is not when it is one of five."""
    marginal = [(worst * ratio, best) for (worst, best), ratio in zip(BASE, (0.7, 0.8, 0.9, 1.05) * 2, strict=True)]
    [alone] = judge(finals(BASE, trial_1=marginal), "splits").findings
    assert alone.verdict == "better"
    same = {f"trial_{number}": noisy(0.5, 0.1, seed=number) for number in range(2, 6)}
    among = judge(finals(BASE, trial_1=marginal, **same), "splits").findings
    assert {finding.verdict for finding in among} == {"no difference shown"}
    assert among[0].effects["imbalance"].confidence == pytest.approx(0.99)


def test_ranks_of_finalists_go_no_further_than_their_differences(finals):
    arms = {"trial_1": noisy(0.35, 0.1), "trial_2": noisy(0.36, 0.1, seed=3), "trial_3": noisy(0.49, 0.1, seed=4)}
    verdict = judge(finals(BASE, **arms), "splits")
    assert [finding.ranks for finding in verdict.findings] == [(1, 2), (1, 2), (3, 3)]


def test_the_first_of_the_best_verdicts_is_chosen(finals):
    arms = {"trial_1": noisy(0.5, 0.1), "trial_2": noisy(0.35, 0.1, seed=5), "trial_3": noisy(0.3, 0.1, seed=6)}
    assert judge(finals(BASE, **arms), "splits").choice.arm == "trial-2"
    assert Verdict(findings=()).choice is None


def test_the_verdict_is_plain_data(finals):
    content = judge(finals(BASE, trial_1=noisy(0.35, 0.1)), "splits").to_json()
    assert json.loads(json.dumps(content, allow_nan=False))["findings"][0]["verdict"] == "better"


def test_the_conclusion_tells_validation_and_verdict(finals, make_record):
    baseline, trial = make_record(0, 0.5, 0.1, arm="baseline"), make_record(1, 0.4, 0.1)
    text = conclude(baseline, [trial], judge(finals(BASE, trial_1=noisy(0.35, 0.1)), "splits"))
    assert "trial 1 has the lowest imbalance of all that keep every guard: 4.00x against the baseline's 5.00x" in text
    assert "Trial 1 is better" in text
