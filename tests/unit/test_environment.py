"""Ray's environment is set before Ray is imported, and what the user has set stays."""

from __future__ import annotations

import os

from study.cluster.environment import SETTINGS, prepare_environment


def test_token_authentication_is_asked_for_by_name(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE")
    prepare_environment()
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_what_the_user_has_set_stays(monkeypatch):
    for name in SETTINGS:
        monkeypatch.setenv(name, "mine")
    prepare_environment()
    assert {os.environ[name] for name in SETTINGS} == {"mine"}
