"""The recipes in deploy/: of the right form, and with options that `study.launch` has."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
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
    job, policy = yaml.safe_load_all((deploy / "kuberay-rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    selected = policy["spec"]["podSelector"]["matchLabels"]
    assert all(group["template"]["metadata"]["labels"] == selected for group in groups)
    assert groups[1]["template"]["spec"]["tolerations"] and groups[1]["template"]["spec"]["nodeSelector"]
    assert cluster["rayVersion"] == ray.__version__
    for pod in (group["template"]["spec"] for group in groups):
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"] == user_of_the_image(deploy)
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
    runs = study_config(make_parser().parse_args(shlex.split(job["spec"]["entrypoint"])[3:])).runs
    assert runs.startswith(groups[0]["template"]["spec"]["containers"][0]["volumeMounts"][0]["mountPath"])


def test_the_slurm_script_is_sound_and_its_steps_have_their_cores(deploy):
    script = deploy / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    found = subprocess.run([Path(sys.prefix) / "bin" / "shellcheck", str(script)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
    steps = re.findall(r"^srun .*", script.read_text(), re.MULTILINE)
    assert steps and all('--cpus-per-task="$SLURM_CPUS_PER_TASK"' in step for step in steps)


def dockerfile(deploy: Path) -> list[tuple[str, str]]:
    """Its instructions and what follows each."""
    lines = [line for line in (deploy / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def user_of_the_image(deploy: Path) -> int:
    """The number of the user whom the image makes and runs as."""
    steps = dockerfile(deploy)
    [made] = [step for instruction, step in steps if instruction == "RUN" and step.startswith("useradd")]
    assert [step for instruction, step in steps if instruction == "USER"] == [made.split()[-1]]
    return int(re.search(r"--uid (\d+)", made)[1])


def test_what_the_image_copies_is_there_and_is_all_that_the_package_needs(repository, deploy):
    copied = [word for name, step in dockerfile(deploy) if name == "COPY" for word in step.split()[:-1]]
    assert all((repository / name).exists() for name in copied)
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    packages = {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    assert {*packages, project["project"]["readme"], "constraints.txt"} <= set(copied)


def test_the_steps_of_the_image_run_in_a_fresh_environment(repository, deploy, tmp_path):
    """Those of Python, with either build of torch; packages are resolved and not installed."""
    made, *installed = [step for name, step in dockerfile(deploy) if name == "RUN" and "/opt/venv" in step]
    assert len(installed) == 2
    option = " --extra-index-url ${TORCH_INDEX}"
    [processors] = re.findall(r"--build-arg TORCH_INDEX=(\S+)", (deploy / "Dockerfile").read_text())
    steps = [made, *(step.replace(option, "") for step in installed)]  # pip's own index is the default one
    steps += [step.replace("${TORCH_INDEX}", processors) for step in installed if option in step]
    assert len(steps) == 4 and not any("TORCH_INDEX" in step for step in steps)
    for step in steps:
        step = step.replace("/opt/venv", str(tmp_path / "venv"))
        step = step.replace("python -m venv", f"{sys.executable} -m venv")
        step = re.sub(r"pip install", "pip install --quiet --dry-run --retries 1", step)
        done = subprocess.run(["bash", "-euc", step], cwd=repository, capture_output=True, text=True)
        assert done.returncode == 0, f"{step}: {done.stderr}"


def test_studies_have_panels_in_the_dashboard_that_rays_metrics_page_shows(deploy):
    from ray.dashboard.modules.metrics.grafana_dashboard_factory import generate_default_grafana_dashboard

    merge = runpy.run_path(str(deploy / "metrics.py"))["with_studies"]
    content, _ = generate_default_grafana_dashboard()
    rays, studies = json.loads(content), json.loads((deploy / "grafana.json").read_text())
    merged = merge(rays, studies)
    assert merge(merged, studies) == merged
    titles = [panel["title"] for panel in merged["panels"]]
    assert titles == [studies["title"], *(panel["title"] for panel in (*studies["panels"], *rays["panels"]))]
    panels = [each for panel in merged["panels"] for each in (panel, *panel.get("panels", ()))]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in merged["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells), "panels lie on each other"
    variables = [variable["name"] for variable in merged["templating"]["list"]]
    assert len(set(variables)) == len(variables) and {"datasource", "study", "SessionName"} <= set(variables)
    assert (merged["uid"], rays["uid"]) == ("rayDefaultDashboard",) * 2  # by which Ray's page finds it


def test_without_a_running_ray_there_are_no_metrics_to_show(deploy, tmp_path):
    command = [sys.executable, deploy / "metrics.py", "--session", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "start a study first" in done.stderr
