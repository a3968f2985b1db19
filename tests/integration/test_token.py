"""A cluster that asks for a token, joined with another."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HEAD = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@contextmanager
def locked_cluster(token: str) -> Iterator[str]:
    """Yield the address of a cluster that only who has the token may use."""
    env = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(60)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with locked_cluster("0f" * 32) as address:
        yield address


@pytest.mark.parametrize("token", ["1e" * 32, None])
def test_a_token_that_is_wrong_or_missing_is_said_in_a_line(address: str, tmp_path: Path, token: str | None) -> None:
    env = {**os.environ, "RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}
    env |= {"RAY_AUTH_TOKEN": token} if token else {}
    (tmp_path / "ray_bootstrap_config.yaml").write_text("{}\n")
    command = [sys.executable, "-m", "study.launch", "--address", address, "--runs", str(tmp_path / "runs")]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 2, ended.stderr
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"error: Ray's token for {address} is missing or another's") and "RAY_AUTH_TOKEN" in line
    assert "grpc" not in ended.stdout.lower() and "Traceback" not in ended.stdout
    assert not list(tmp_path.glob("runs/*"))
