"""Whether an exported config is said to give again what it gave."""

from __future__ import annotations

import numpy as np
import pytest

from results.verdict.verification import Verification, verify


@pytest.fixture
def again(make_record):
    """Return a builder of the trainings that verify trial 3, whose imbalance was 5, from their imbalances."""

    def build(*imbalances: float | None) -> Verification:
        records = [
            make_record(number, state="diverged", phase="verification", arm="trial-3")
            if value is None
            else make_record(number, value / 10, 0.1, phase="verification", arm="trial-3")
            for number, value in enumerate(imbalances)
        ]
        return verify(make_record(3, 0.5, 0.1), records)

    return build


def test_a_config_that_repeats_and_is_typical_is_verified(again):
    found = again(5.0, 5.1, 4.95)
    assert found.verified
    assert str(found).startswith(
        "Retraining the exported config with its own seed reproduces its 5.00x; other seeds give 5.10x and 4.95x: "
    )
    assert found.to_json()["verified"] is True


def test_a_number_that_does_not_come_again_is_said(again):
    found = again(5.2, 5.1, 4.95)
    assert (found.repeated, found.verified) == (False, False)
    assert str(found).startswith(
        "Not verified. Retraining the exported config with its own seed gives 5.20x instead of its 5.00x"
    )
    assert "its own seed did not complete" in str(again(None, 5.1, 4.95))


def test_a_lucky_seed_is_said(again):
    found = again(5.0, 8.1, 8.2)
    assert (found.repeated, found.typical, found.verified) == (True, False, False)
    assert "outside the range expected of a seed" in str(found)


def test_the_spread_is_where_a_further_seed_falls_nineteen_times_in_twenty(make_record):
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(2000):
        draws = 0.5 * np.exp(rng.normal(0, 0.01, size=4))
        best, *others = (
            make_record(number, value, 0.1, phase="verification", arm="trial-3") for number, value in enumerate(draws)
        )
        inside.append(verify(best, [best, *others]).typical)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


def test_one_other_seed_does_not_tell(make_record):
    best, other = (make_record(number, 0.5, 0.1, arm="trial-3") for number in range(2))
    found = verify(best, [best, other])
    assert (found.spread, found.typical, found.verified) == (None, None, True)
    assert str(found).endswith("not enough seeds to tell whether its score is typical.")


def test_a_range_that_would_tell_nothing_is_not_shown(again):
    found = again(5.0, 4.0, 7.0)
    assert (found.spread, found.typical) == (None, None)
    assert "not enough seeds to tell" in str(found)
