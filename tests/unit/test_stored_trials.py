"""What is stored of a trial, as this version and earlier ones write it."""

from __future__ import annotations

import base64
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from results.records.optuna_trials import outcome, read_journal, read_search, record_of
from results.records.packed import MOST, pack, unpack
from results.records.trial_record import TrialRecord
from study.search.storage import open_journal, release
from tests.synthetic_study import build_study

EARLIER = Path(__file__).parents[1] / "data" / "earlier.journal"
"""Of an earlier version: a trial that completed, one that was stopped, one that diverged, and one that was running."""

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(PLAIN)
def test_what_is_packed_comes_back(content):
    assert unpack(pack(content)) == content


@given(st.text() | st.binary().map(lambda data: base64.b64encode(data).decode()))
def test_what_was_not_packed_is_refused(text):
    with pytest.raises(ValueError, match="packed text is damaged"):
        unpack(text)


def test_a_packed_text_cannot_fill_the_memory():
    with pytest.raises(ValueError, match="too long"):
        unpack(base64.b64encode(zlib.compress(b" " * (MOST + 1))).decode())


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[TrialRecord]:
    """Of trials that completed, were stopped, diverged and were refused."""
    return read_search(read_journal(build_study(tmp_path_factory.mktemp("runs"), "made", 30).journal))


def test_an_outcome_comes_back_whole(records):
    for record in records:
        frozen = optuna.create_trial(state=TrialState.FAIL, user_attrs=outcome(record))
        found = record_of(frozen)
        assert (found.metrics, found.curve, found.epochs) == (record.metrics, record.curve, record.epochs)
        assert (found.state, found.reason, found.kind) == (record.state, record.reason, record.kind)


def test_without_details_only_curves_codebooks_and_the_like_are_missing(records):
    for record in records:
        light = record_of(optuna.create_trial(state=TrialState.FAIL, user_attrs=outcome(record)), details=False)
        assert (light.curve, light.epochs, light.state) == ([], record.epochs, record.state)
        if record.metrics is None:
            assert light.metrics is None
            continue
        assert light.metrics is not None
        assert light.metrics.scalars() == record.metrics.scalars()
        assert (light.metrics.fvu, light.metrics.estimates) == (record.metrics.fvu, record.metrics.estimates)
        assert (light.metrics.codebooks, light.metrics.resampled) == ([], {})


def test_trials_of_an_earlier_version_are_read():
    done, stopped, diverged = read_search(read_journal(EARLIER))
    assert (done.state, done.seed, done.epochs, done.kind, done.node) == ("complete", 7, 10, "", "here")
    assert done.metrics is not None and done.metrics.fvu_worst == 0.4
    assert (done.metrics.resampled, len(done.metrics.codebooks)) == ({"imbalance": [1.5, 1.25]}, 1)
    assert [row["epoch"] for row in done.curve] == [5, 10]
    assert set(done.guards) == {"bits", "fvu_worst", "fvu_worst_limit", "fvu_mean", "utilization", "perplexity"}
    assert (stopped.state, stopped.reason, stopped.epochs) == ("pruned", "stopped after 5 epochs", 5)
    assert (diverged.state, diverged.kind, diverged.metrics) == ("diverged", "non-finite", None)


def test_a_study_of_an_earlier_version_is_resumed(tmp_path):
    shutil.copyfile(EARLIER, path := tmp_path / "optuna.journal")
    study = open_journal(path, "test")
    before = read_search(study)
    assert release(study, "driver lost", "the driver was lost") == 1
    trial = study.ask()
    assert (trial.number, len(trial.params)) == (3, 2)
    for name, value in outcome(replace(before[0], number=3)).items():
        trial.set_user_attr(name, value)
    study.tell(trial, 0.5)
    [*kept, new] = read_search(read_journal(path))
    assert kept == before
    assert (new.number, new.metrics, new.curve) == (3, before[0].metrics, before[0].curve)
    assert [attempt.kind for attempt in new.attempts] == ["driver lost"]
