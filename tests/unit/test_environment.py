"""Ray's environment is set before Ray is imported, and what the user has set stays."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("first", ["import ray, study", "import study, ray"])
def test_ray_asks_for_a_token_whether_it_is_imported_before_or_after(first):
    code = f"{first}, ray._raylet as parts; print(parts.get_authentication_mode() == parts.AuthenticationMode.TOKEN)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
