"""One command says whether a cluster will run a study: three nodes, of which one is wrong in every way."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ray.cluster_utils import Cluster

from study import cluster_check
from study.check import main


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of two CPUs, started in the folder that this process is in."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("shared"))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0, "include_dashboard": False})
    cluster.add_node(num_cpus=2, num_gpus=0)
    yield cluster
    cluster.shutdown()
    os.chdir(before)


def check(cluster: Cluster, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Return the exit code, and what was printed. The folder is the one that a process was started in."""
    code = main(["--cluster", cluster.address, "--runs", "/proc/self/cwd", *options])
    return code, capsys.readouterr().out


def test_a_cluster_of_which_nothing_is_wrong(nodes: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = check(nodes, capsys, "--json")
    found = json.loads(printed)
    assert [line for node in found["nodes"] for line in node["wrong"]] == []
    assert (code, found["usable"]) == (0, True)
    assert [(node["cpus"], node["slots"], node["wrong"]) for node in found["nodes"]] == [(2, 2, [])] * 2
    assert all(node["trial_seconds"] > 0 and node["versions"]["torch"] == torch.__version__ for node in found["nodes"])
    [note] = found["notes"]
    assert "asks for no token: whoever reaches it may run code there" in note  # tests have none
    assert not list(Path.cwd().iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch has GPUs here")
def test_gpus_memory_and_versions_of_one_node_are_wrong(
    nodes: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed = tmp_path / "numpy-1.2.3.dist-info" / "METADATA"
    installed.parent.mkdir()
    installed.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.2.3\n")
    path = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    added = nodes.add_node(num_cpus=2, num_gpus=2, memory=200 * 2**20, env_vars=path)
    try:
        code, printed = check(nodes, capsys)
    finally:
        nodes.remove_node(added)
    assert code == 1
    wrong = [line for line in printed.splitlines() if line.startswith("wrong: node ")]
    assert len(wrong) == 3
    assert f"has 2 GPUs, of which torch {torch.__version__} there can use 0" in wrong[0]
    assert re.search(r"has numpy 1\.2\.3, the driver numpy \d.*; install the same on both", wrong[1])
    assert re.search(r"has 0\.2 GiB, and the 2 trials that run there at a time take .*--memory-per-trial \d", wrong[2])
    assert printed.count("note: node ") == 2  # the others have no GPUs
    assert printed.splitlines()[-1] == "3 wrong; 2 trials at a time, 1 CPU and 1 GPU each once mended"


def test_the_folder_of_one_node_is_another_and_it_has_too_few_cores(
    nodes: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = os.getcwd()
    os.chdir(tmp_path)
    added = nodes.add_node(num_cpus=1, num_gpus=0)
    os.chdir(shared)
    try:
        code, printed = check(nodes, capsys, "--cpus-per-trial", "2")
    finally:
        nodes.remove_node(added)
    assert code == 1
    folder, cores = (line for line in printed.splitlines() if line.startswith("wrong: "))
    assert "is not the same folder on node" in folder and "storage that all nodes share" in folder
    assert "has no room for a trial with 2 CPUs: 1 CPUs, 0 GPUs" in cores
    assert printed.splitlines()[-1] == "2 wrong; 2 trials at a time, 2 CPUs each once mended"
    assert not list(tmp_path.iterdir())


def test_one_node_cannot_import_the_code_and_another_cannot_train(
    nodes: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    added = []
    for package in ("torch", "safetensors"):  # the first is wanted to answer at all, the second to train
        broken = tmp_path / f"without {package}" / package / "__init__.py"
        broken.parent.mkdir(parents=True)
        broken.write_text(f"raise ImportError('there is no {package} here')\n")
        path = f"{broken.parent.parent}:{os.environ.get('PYTHONPATH', '')}"
        added.append(nodes.add_node(num_cpus=1, num_gpus=0, env_vars={"PYTHONPATH": path}))
    try:
        code, printed = check(nodes, capsys)
    finally:
        for node in added:
            nodes.remove_node(node)
    assert code == 1
    wrong = "\n".join(line for line in printed.splitlines() if line.startswith("wrong: node "))  # in Ray's order
    assert len(re.findall(r"cannot run trials: .*there is no torch here", wrong)) == 1
    assert len(re.findall(r"failed a trial: .*there is no safetensors here", wrong)) == 1
    assert printed.splitlines()[-1].startswith("2 wrong; ")
    assert not list(Path.cwd().iterdir())


def test_a_node_that_does_not_end_a_trial_in_time(
    nodes: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster_check, "TRIAL_SECONDS", 0.0)
    code, printed = check(nodes, capsys)
    assert code == 1
    # The other node may have ended its own while this one was waited for.
    assert "has not ended a trial in 0 s: it is busy with other work, or very slow" in printed
