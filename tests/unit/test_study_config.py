"""Study configs, and what the command line makes of flags, a YAML file and a study to be resumed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from results.study_folder import StudyFolder
from spinlock_dist.config import dump_config, load_config, parse_config
from spinlock_dist.errors import ConfigError
from study.command_line import make_parser, study_config
from study.config import StudyConfig, UntilConfig


def parsed(*argv: str) -> StudyConfig:
    return study_config(make_parser().parse_args(argv))


def store(runs: Path, config: StudyConfig) -> None:
    content = {"config": config.model_dump(mode="json"), "fingerprint": "f"}
    folder = StudyFolder(runs / config.name)
    folder.write_description(content)


def test_flags_give_settings():
    config = parsed(
        "--dataset", "x.h5", "--gpus", "8", "--trials", "3", "--name", "n", "--no-dashboard", "--epochs", "9"
    )
    assert config.base.prepare.dataset == "x.h5"
    assert (config.cluster.gpus, config.cluster.dashboard) == (8, False)
    assert (config.trials, config.name, config.epochs) == (3, "n", 9)


def test_defaults_are_those_of_the_config():
    assert parsed("--name", "n") == StudyConfig(name="n")


def test_the_seed_moves_sampler_and_trials_together():
    config = parsed("--seed", "5")
    assert (config.seed, config.base.seed) == (5, 5)


def test_a_study_without_a_name_is_called_after_its_space_and_the_time():
    assert parsed("--space", "spaces/mine.yaml").name.startswith("mine-20")


def test_flags_override_the_file(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("name: n\ntrials: 5\nbase: {training: {batch_size: 64}}\n")
    config = parsed("--config", str(path), "--trials", "7", "--dataset", "x.csv")
    assert (config.trials, config.base.training.batch_size, config.base.prepare.dataset) == (7, 64, "x.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trails: 5", "line 1: unknown setting 'trails'; did you mean 'trials'"),
        ("base:\n  training: {epoch: 5}", "line 2: unknown setting 'base.training.epoch'; did you mean 'epochs'"),
        ("guards: {utilisation: 0.5}", "did you mean 'utilization'"),
        ("base: {preset: spinloc}", "unknown preset 'spinloc'; did you mean 'spinlock'"),
        ("base:\n  preset: spinlock\n  model: {hiden: 3}", "line 3: unknown setting 'base.model.hiden'"),
        ("- a list", "expected a mapping"),
        ("name: ../elsewhere", "cannot be the name of a folder"),
        ("trials: 0", "trials"),
    ],
)
def test_a_file_with_a_fault_is_refused_with_the_place_and_the_nearest_name(tmp_path, text, message):
    path = tmp_path / "s.yaml"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError, match=message):
        parsed("--config", str(path))


def test_the_base_takes_a_preset_as_a_trial_does(tmp_path):
    above = "prepare: {families: {summary: {encoder: identity}}}\ntraining: {batch_size: 64}\n"
    trial, study = tmp_path / "trial.yaml", tmp_path / "study.yaml"
    trial.write_text(f"preset: spinlock\n{above}")
    indented = above.replace("\n", "\n  ")
    study.write_text(f"base:\n  preset: spinlock\n  {indented}\n")
    config = parsed("--config", str(study), "--name", "n")
    assert config.base == load_config(trial)
    assert parsed("--config", str(study), "--name", "n", "--dataset", "x.h5").base.prepare.dataset == "x.h5"
    store(tmp_path, config)
    resumed = parsed("--config", str(study), "--resume", "--name", "n", "--runs", str(tmp_path), "--trials", "99")
    assert (resumed.base, resumed.trials) == (config.base, 99)


def test_a_family_given_at_resume_replaces_its_encoder(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("base: {preset: spinlock}\n")
    store(tmp_path, parsed("--config", str(path), "--name", "n"))
    path.write_text("base: {prepare: {families: {summary: {encoder: identity}}}}\n")
    families = parsed("--config", str(path), "--resume", "--name", "n", "--runs", str(tmp_path)).base.prepare.families
    assert {name: encoder.encoder for name, encoder in families.items()} == {
        "initial": "initial_hybrid",
        "summary": "identity",
        "temporal": "temporal_cnn",
    }


def test_resume_takes_the_settings_of_the_study(tmp_path):
    store(tmp_path, StudyConfig(name="n", trials=5, epochs=3))
    config = parsed("--resume", "--name", "n", "--runs", str(tmp_path), "--trials", "8")
    assert (config.name, config.trials, config.epochs, config.runs) == ("n", 8, 3, str(tmp_path))


def test_resume_without_a_name_takes_the_newest(tmp_path):
    for name in ("old", "new"):
        store(tmp_path, StudyConfig(name=name))
    assert parsed("--resume", "--runs", str(tmp_path)).name == "new"


def test_resume_of_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no study"):
        parsed("--resume", "--runs", str(tmp_path))
    store(tmp_path, StudyConfig(name="operators"))
    with pytest.raises(ConfigError, match=r"no study 'operator'.*did you mean 'operators'"):
        parsed("--resume", "--name", "operator", "--runs", str(tmp_path))


def test_limits_and_samplers_are_given_by_flags():
    config = parsed("--max-hours", "2", "--no-improvement", "30", "--sampler", "qmc", "--stopping", "median")
    assert config.until == UntilConfig(hours=2, no_improvement=30)
    assert (config.sampler, config.stopping.rule, config.objective) == ("qmc", "median", "single")
    assert parsed("--warm-start", "a", "runs/b", "--max-gpu-hours", "5", "--target-imbalance", "2").warm_start == (
        "a",
        "runs/b",
    )


@pytest.mark.parametrize("more", ["+0", "-5", "many", "1.5"])
def test_an_extension_by_no_number_is_refused(more, capsys):
    with pytest.raises(SystemExit) as exited:
        parsed("--extend", more)
    assert exited.value.code == 2
    assert "give a number of further trials, as in --extend +100" in capsys.readouterr().err


def test_an_extension_without_trials_or_to_a_total_is_refused(tmp_path):
    store(tmp_path, StudyConfig(name="n"))
    with pytest.raises(ConfigError, match="study 'n' has no trials yet; go on with --resume"):
        parsed("--extend", "+5", "--name", "n", "--runs", str(tmp_path))
    with pytest.raises(ConfigError, match="give one of them"):
        parsed("--extend", "+5", "--trials", "9", "--name", "n", "--runs", str(tmp_path))
    with pytest.raises(ConfigError, match="no study 'm'"):
        parsed("--extend", "+5", "--name", "m", "--runs", str(tmp_path))


def test_a_config_survives_its_file():
    config = StudyConfig(name="n", epochs=4)
    assert parse_config(StudyConfig, yaml.safe_load(dump_config(config)), "test") == config


def test_help_needs_neither_torch_nor_ray_nor_optuna():
    code = (
        "import sys, study.launch\n"
        "try: study.launch.main(['--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'ray', 'optuna', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported {slow}' if slow else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout
