"""The recipes in deploy/: of the right form, and with options that `study.launch` has."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml

from study.launch_options import make_parser, study_config

RECIPES = ("ray-cluster.yaml", "kuberay-rayjob.yaml", "slurm.sh", "README.md")


@pytest.fixture
def deploy(repository: Path) -> Path:
    return repository / "deploy"


@pytest.mark.parametrize("name", RECIPES)
def test_the_commands_in_a_recipe_are_understood(deploy, name):
    text = (deploy / name).read_text().replace("\\\n", " ")
    commands = re.findall(r"python -m study\.launch ([^`#\n]*)", text)
    assert commands
    for command in commands:
        arguments = [word for word in shlex.split(command) if word != "$@"]
        config = study_config(make_parser().parse_args(arguments))
        assert config.cluster.address
        assert "/" in config.runs


def test_the_cluster_for_ray_up_fits_the_schema_of_ray(deploy):
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = yaml.safe_load((deploy / "ray-cluster.yaml").read_text())
    jsonschema.validate(cluster, schema)
    assert cluster["head_node_type"] in cluster["available_node_types"]
    starts = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    for start in (command for command in starts if "ray start" in command):
        assert "RAY_AUTH_MODE=token" in start and "--disable-usage-stats" in start


def test_the_job_for_kuberay_has_the_form_of_one(deploy):
    job = yaml.safe_load((deploy / "kuberay-rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in groups):
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
    runs = study_config(make_parser().parse_args(shlex.split(job["spec"]["entrypoint"])[3:])).runs
    assert runs.startswith(groups[0]["template"]["spec"]["containers"][0]["volumeMounts"][0]["mountPath"])


def test_the_slurm_script_parses(deploy):
    subprocess.run(["bash", "-n", str(deploy / "slurm.sh")], check=True)
