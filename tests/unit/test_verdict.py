"""What is said about finalists, and that no more is said than was shown."""

from __future__ import annotations

import json

import numpy as np
import pytest

from results.records.effect import Effect
from results.records.guards import excess_in_words
from results.records.trial_record import TrialRecord
from results.verdict.finding import Verdict
from results.verdict.sentences import conclude
from results.verdict.verdict import Terms, judge


@pytest.fixture
def finals(make_record, make_metrics):
    """Return a builder of final records from FVUs by arm and replicate; None is a training that diverged."""

    def build(**arms) -> list[TrialRecord]:
        records = []
        for arm, scores in arms.items():
            for number, fvu in enumerate(scores):
                given = {"phase": "final", "arm": arm.replace("_", "-")}
                if fvu is None:
                    records.append(make_record(number, state="diverged", reason="diverged in epoch 3", **given))
                else:
                    kind = "collapsed codebook" if max(fvu) >= 0.98 else ""
                    records.append(make_record(number, test=make_metrics(*fvu, split="test"), kind=kind, **given))
        return records

    return build


def noisy(*fvu, replicates=8, seed=0, sd=0.005):
    """Return FVUs per replicate, each times its own noise."""
    noise = np.exp(np.random.default_rng(seed).normal(0, sd, size=(replicates, len(fvu))))
    return [tuple(map(float, row)) for row in np.array(fvu) * noise]


BASE = noisy(0.5, 0.1, seed=1)


def terms(controls=None, **given) -> Terms:
    return Terms(**{"controls": controls or {"trial-1": "baseline"}, "overlap": 0.0, "first": 3, "last": 8, **given})


@pytest.mark.parametrize(
    ("trial", "word"),
    [
        (noisy(0.35, 0.1), "better"),
        (noisy(0.495, 0.12), "better"),  # by the best category's cost, within the margins
        (noisy(0.5, 0.1), "no difference shown"),
        (noisy(0.5, 0.15), "more even, but worse"),  # the mean rises by 8 %
        (noisy(0.55, 0.13), "more even, but worse"),
        (noisy(0.45, 0.1, sd=0.3), "no difference shown"),
        (noisy(0.49, 0.06), "worse"),
        (noisy(0.6, 0.12), "worse"),
    ],
    ids=["better", "by cost", "alike", "levelled down", "worst raised", "too noisy", "less even", "all worse"],
)
def test_the_word_is_what_was_shown(finals, trial, word):
    [finding] = judge(finals(baseline=BASE, trial_1=trial), terms()).findings
    assert finding.verdict == word


def test_a_gain_that_the_control_has_as_well_is_no_gain_by_ratios(finals):
    """Another learning rate does it: with uniform ratios too."""
    arms = {"baseline": BASE, "trial_1": noisy(0.35, 0.1), "control_1": noisy(0.35, 0.1, seed=7)}
    [finding] = judge(finals(**arms), terms({"trial-1": "control-1"})).findings
    assert finding.verdict == "no difference shown"
    assert finding.effects["imbalance"].high < 1
    assert "what it gains may come from its training settings" in finding.why
    better = judge(finals(**{**arms, "control_1": noisy(0.5, 0.1, seed=7)}), terms({"trial-1": "control-1"}))
    assert better.findings[0].verdict == "better"


def test_uniform_ratios_are_never_said_to_beat_uniform_ratios(finals):
    [finding] = judge(finals(baseline=BASE, trial_1=noisy(0.35, 0.1)), terms({"trial-1": "trial-1"})).findings
    assert (finding.verdict, finding.decided, finding.replicates) == ("no difference shown", True, 3)
    assert finding.against_control == {}
    assert "Its ratios are uniform" in finding.why
    [finding] = judge(finals(baseline=BASE, trial_1=noisy(0.7, 0.1)), terms({"trial-1": "trial-1"})).findings
    assert finding.verdict == "worse"


def test_a_look_that_decides_ends_the_looking(finals):
    """What comes after a decision does not undo it; what is not decided is looked at once more, after the last."""
    trial = [*noisy(0.35, 0.1)[:4], *noisy(0.6, 0.1)[:4]]
    [finding] = judge(finals(baseline=BASE, trial_1=trial), terms()).findings
    assert (finding.verdict, finding.replicates) == ("better", 3)
    [finding] = judge(finals(baseline=BASE, trial_1=noisy(0.5, 0.1)), terms()).findings
    assert (finding.decided, finding.replicates) == (True, 8)
    [finding] = judge(finals(baseline=BASE, trial_1=noisy(0.5, 0.1)[:5]), terms()).findings
    assert (finding.decided, finding.replicates) == (False, 3)
    [finding] = judge(finals(baseline=BASE, trial_1=noisy(0.35, 0.1)[:2]), terms()).findings
    assert (finding.verdict, finding.decided, finding.replicates) == ("no difference shown", False, 2)
    [finding] = judge([], terms()).findings
    assert (finding.decided, finding.replicates) == (False, 0)


def test_finalists_and_looks_share_the_level(finals):
    """An effect that alone is just large enough to be shown is not when it is one of five."""
    factors = (0.8, 0.86, 0.92, 0.97) * 2
    marginal = [(worst * factor, best) for (worst, best), factor in zip(BASE, factors, strict=True)]
    once = {"first": 8, "last": 8}
    [alone] = judge(finals(baseline=BASE, trial_1=marginal), terms(**once)).findings
    assert alone.verdict == "better"
    assert alone.effects["imbalance"].confidence == pytest.approx(0.95)
    others = {f"trial_{number}": noisy(0.5, 0.1, seed=number) for number in range(2, 22)}
    controls = {arm.replace("_", "-"): "baseline" for arm in ("trial_1", *others)}
    among = judge(finals(baseline=BASE, trial_1=marginal, **others), terms(controls, **once)).findings
    assert {finding.verdict for finding in among} == {"no difference shown"}
    assert terms(controls, first=3, last=6).confidence == pytest.approx(1 - 0.05 / 21 / 2)


@pytest.mark.parametrize(
    ("value", "told"),
    [(2.345, "2.35"), (0.196, "0.20"), (0.0949, "0.095"), (0.05, "0.05"), (0.00312, "0.0031"), (0.0, "0")],
)
def test_a_small_ratio_is_not_rounded_to_nothing(value, told):
    effect = Effect(ratio=value, low=value, high=value, confidence=0.95, replicates=3)
    assert str(effect) == f"{told} ({told} to {told})"


def test_a_finalist_that_fails_on_a_replicate_is_worse(finals):
    diverged = [noisy(0.35, 0.1)[0], None, *noisy(0.35, 0.1)[2:]]
    [finding] = judge(finals(baseline=BASE, trial_1=diverged), terms()).findings
    assert finding.verdict == "worse"
    assert "1 of 3 replicates failed: diverged in epoch 3." in finding.why
    assert "on 2 of 3 replicates." in finding.why  # which is what the interval is of
    collapsed = noisy(0.99, 0.99)  # as even as can be
    [finding] = judge(finals(baseline=BASE, trial_1=collapsed), terms()).findings
    assert finding.verdict == "worse"
    assert "failed: collapsed codebook" in finding.why
    [finding] = judge(finals(baseline=BASE, trial_1=[None] * 8), terms()).findings
    assert finding.verdict == "worse"
    assert "fewer than two replicates" in finding.why


def test_a_category_that_no_arm_can_encode_is_not_held_against_one(finals):
    hopeless = [(0.979, worst, best) for worst, best in BASE]
    trial = [(0.981, worst, best) for worst, best in noisy(0.4, 0.1)]
    [finding] = judge(finals(baseline=hopeless, trial_1=trial), terms()).findings
    assert finding.verdict == "no difference shown"
    trial = [(0.981, worst, best) for worst, best in noisy(0.4, 0.14)]
    [finding] = judge(finals(baseline=hopeless, trial_1=trial), terms()).findings
    assert finding.verdict == "better"


def test_figures_come_in_order_imbalance_worst_mean(finals):
    [finding] = judge(finals(baseline=BASE, trial_1=noisy(0.35, 0.1)), terms()).findings
    imbalance, worst, mean = (finding.effects[name] for name in ("imbalance", "fvu_worst", "fvu_mean"))
    assert finding.why == (
        f"Trial 1 is better than uniform ratios: relative to the baseline, imbalance x{imbalance}, worst category's "
        f"error x{worst}, mean error x{mean}, on 3 replicates. Only its ratios differ from the baseline's settings, so "
        "that the baseline is its control too."
    )
    assert str(imbalance).startswith("0.70 (0.")


def test_what_is_not_kept_is_named(finals):
    [finding] = judge(finals(baseline=BASE, trial_1=noisy(0.55, 0.13)), terms()).findings
    assert finding.why.endswith(
        "Not shown: its worst category's error to stay within 2% nor its mean error to stay within 5%."
    )


def test_ranks_of_finalists_go_no_further_than_their_differences(finals):
    arms = {"trial_1": noisy(0.35, 0.1), "trial_2": noisy(0.351, 0.1, seed=3), "trial_3": noisy(0.49, 0.1, seed=4)}
    controls = {arm.replace("_", "-"): "baseline" for arm in arms}
    verdict = judge(finals(baseline=BASE, **arms), terms(controls))
    assert [finding.ranks for finding in verdict.findings] == [(1, 2), (1, 2), (3, 3)]


def test_the_one_with_the_best_worst_category_of_the_best_word_is_chosen(finals):
    arms = {
        "trial_1": noisy(0.5, 0.1),
        "trial_2": noisy(0.4, 0.1, seed=5),
        "trial_3": noisy(0.35, 0.1, seed=6),
        "trial_4": noisy(0.2, 0.45, seed=6),
    }
    verdict = judge(finals(baseline=BASE, **arms), terms({arm.replace("_", "-"): "baseline" for arm in arms}))
    assert [finding.arm for finding in verdict.in_order][:2] == ["trial-3", "trial-2"]
    assert verdict.choice.arm == "trial-3"
    assert Verdict(findings=()).choice is None


def test_the_verdict_is_plain_data(finals):
    content = judge(finals(baseline=BASE, trial_1=noisy(0.35, 0.1)), terms()).to_json()
    assert json.loads(json.dumps(content, allow_nan=False))["findings"][0]["verdict"] == "better"


def test_the_conclusion_tells_the_choice_and_the_others_in_short(finals, make_record):
    arms = {"trial_1": noisy(0.5, 0.1), "trial_2": noisy(0.35, 0.1, seed=5)}
    verdict = judge(finals(baseline=BASE, **arms), terms({"trial-1": "baseline", "trial-2": "baseline"}))
    text = conclude([make_record(1, 0.4, 0.1), make_record(2, 0.4, 0.1)], verdict)
    assert text.startswith("Trial 2 is better than uniform ratios: ")
    assert "of 98.75% each, hold for all finalists and looks together in 95% of studies." in text
    assert "Other finalists: trial 1: no difference shown (imbalance x1.00, worst category's error x1.00" in text
    assert "No trial of the search kept every guard. The nearest miss is trial 1" in conclude(
        [make_record(1, 0.4, 0.1, guards={"bits": 0.1})], verdict
    )


def test_a_guard_that_is_a_difference_is_not_told_as_a_ratio():
    assert excess_in_words({"perplexity": 0.0312, "fvu_mean": 0.05, "bits": -0.01}) == (
        "perplexity (0.031 below its limit), fvu_mean (5.0% above its limit)"
    )
