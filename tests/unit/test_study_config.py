"""Study configs, and what the command line makes of flags, a YAML file and a study to be resumed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast, get_args

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from results.records.study_folder import StudyFolder
from search_spaces.space import space_content
from spinlock_dist.config_file import dump_config, load_config, parse_config
from spinlock_dist.errors import ConfigError
from spinlock_dist.prepare import PreparedData
from spinlock_dist.preset import merge
from study.config import StudyConfig, UntilConfig
from study.launch_options import FLAGS, GROUPS, make_parser, study_config
from study.provenance import study_space
from study.validate import check_rerun


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


# ---------------------------------------------------------------- every key

OTHERS = [True, False, 1, 2, 3, 16, 0.25, 0.5, 1.5, "x", ["x"], [0.5, 1.0]]
"""Values to try for a setting until one is valid and not the default."""
TOGETHER = {
    "track": ["mlflow"],
    "sampler": "random",
    "base.quantizer.kind": "fsq",
    "base.compression.strategy": "uniform",
    "base.compression.given": [0.4, 1.0, 1.5],
    "base.prepare.families": {"summary": {"encoder": "identity"}},
    "base.prepare.split": {"train": 0.6, "validation": 0.2, "test": 0.2, "seed": 1, "search_seed": 2},
    "base.prepare.categories": {"mapping": "m.json", "only_mapped": True},
    "base.compression.bounds": {level: {"low": 0.4, "high": 1.9} for level in ("L0", "L1", "L2")},
}
"""Settings that are valid beside certain others alone."""


def leaves(section: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every setting in a section and in those below it."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name)


def tree_of(path: tuple[str, ...], value: object) -> dict:
    for key in reversed(path):
        value = {key: value}
    return value


def at(config: BaseModel, path: tuple[str, ...]) -> object:
    for key in path:
        config = getattr(config, key)
    return config


def another(path: tuple[str, ...]) -> dict:
    """Return a valid tree in which a setting is not its default."""
    default = StudyConfig(name="n")
    words = get_args(type(at(default, path[:-1])).model_fields[path[-1]].annotation)
    known = [word for word in words if isinstance(word, str)]
    together: dict = {"name": "n"}
    for prefix, value in TOGETHER.items():
        if ".".join(path).startswith(prefix):
            together = merge(together, tree_of(tuple(prefix.split(".")), value))
    for tree in [together, *(merge(together, tree_of(path, value)) for value in [*known, *OTHERS])]:
        with suppress(ValidationError):
            if at(StudyConfig.model_validate(tree), path) != at(default, path):
                return tree
    raise AssertionError(f"no other value of {'.'.join(path)} is known; give one in TOGETHER")


@pytest.mark.parametrize("path", list(leaves(StudyConfig(name="n"))), ids=".".join)
def test_a_file_reaches_every_setting(tmp_path, path):
    tree = another(path)
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(tree))
    config = parsed("--config", str(file))
    assert config == StudyConfig.model_validate(tree)
    assert at(config, path) != at(StudyConfig(name="n"), path)


def test_the_flags_are_names_of_settings():
    known = {".".join(path) for path in leaves(StudyConfig(name="n"))}
    assert {setting for setting, _ in FLAGS.values()} <= known


# ---------------------------------------------------------------- study.yaml


def described(folder: Path, config: StudyConfig) -> Path:
    content = {"space": space_content(study_space(config)), "fingerprint": "f", "started": "2026-11-24T00:00:00+00:00"}
    (folder / "study.yaml").write_text(yaml.safe_dump({"config": config.model_dump(mode="json"), **content}))
    return folder / "study.yaml"


def test_the_description_of_a_study_is_a_config(tmp_path):
    config = StudyConfig(name="n", space="quick", epochs=3, deterministic=True, batch=2, warm_start=("m",))
    path = str(described(tmp_path, config))
    stored = config.model_copy(update={"fingerprint": "f"})
    assert parsed("--config", path) == stored
    again = parsed("--config", path, "--name", "again", "--trials", "7")
    assert again == stored.model_copy(update={"name": "again", "trials": 7})
    damaged = path.replace("study", "damaged")
    Path(damaged).write_text(Path(path).read_text().replace("  trials:", "  trails:"))
    with pytest.raises(ConfigError, match=r"line \d+: unknown setting 'trails'"):
        parsed("--config", damaged)


def test_a_study_is_run_again_on_its_own_data_or_on_what_is_named(tmp_path):
    path, data = str(described(tmp_path, StudyConfig(name="n"))), cast(PreparedData, SimpleNamespace(fingerprint="g"))
    with pytest.raises(ConfigError, match="not that of the study to be run again"):
        check_rerun(parsed("--config", path), data)
    check_rerun(parsed("--config", path, "--dataset", "other.h5"), data)
    check_rerun(StudyConfig(name="n", fingerprint="g"), data)


def test_a_space_that_is_no_longer_what_it_was_is_refused(tmp_path):
    space = tmp_path / "space.yaml"
    text = "description: a test\nparameters:\n  compression.sharpness: {type: float, low: 0.5, high: HIGH}\n"
    space.write_text(text.replace("HIGH", "2.0"))
    path = str(described(tmp_path, StudyConfig(name="n", space=str(space))))
    assert parsed("--config", path).space == str(space)
    space.write_text(text.replace("HIGH", "3.0"))
    with pytest.raises(ConfigError, match=r"compression.sharpness.high was 2.0, now it is 3.0"):
        parsed("--config", path)
    assert parsed("--config", path, "--space", "quick").space == "quick"


# ---------------------------------------------------------------- presets, and going on


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


# ---------------------------------------------------------------- --set


def test_set_gives_any_setting_of_the_study_and_of_its_trials():
    config = parsed(
        "--name", "n", "--set", "finals.top=3", "--set", "model.hidden=128", "--set", "guards.utilization=0.8"
    )
    assert (config.finals.top, config.base.model.hidden, config.guards.utilization) == (3, 128, 0.8)
    assert parsed("--name", "n", "--set", "base.model.hidden=128").base.model.hidden == 128


def test_set_overrides_a_file_and_the_study_that_it_describes(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("name: n\nfinals: {top: 4}\nbase: {model: {hidden: 64}}\nfingerprint: f\n")
    config = parsed("--config", str(path), "--set", "finals.top=3")
    assert (config.finals.top, config.base.model.hidden, config.fingerprint) == (3, 64, "f")
    assert parsed("--config", str(path), "--set", "prepare.max_samples=500").fingerprint is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("finals.tob=3", "command line: 'finals.tob' is not a setting; did you mean 'top'"),
        ("modle.hidden=3", "'modle.hidden' is not a setting; did you mean 'model'"),
        ("model.hidden=many", "command line: base.model.hidden: input should be a valid integer.*'many'"),
        ("finals.top", "--set finals.top: expected NAME=VALUE"),
        ("finals.top=[", "--set finals.top=\\[, line 2: not valid YAML"),
        ("name=x", "--set name: give it as --name"),
        ("training.epochs=3", "space 'adaptive_compression' fixes it at 20; give --epochs"),
        ("base.loss.commitment=3", "space 'adaptive_compression' varies it; write a space that extends it"),
        ("compression.bounds.L0.high=3", "varies it"),
    ],
)
def test_set_refuses_what_train_refuses_and_what_the_space_decides(given, message):
    with pytest.raises(ConfigError, match=message):
        parsed("--name", "n", "--set", given)


def test_every_option_of_the_help_stands_under_a_heading():
    text = make_parser().format_help()
    headings = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert {f"{heading}:" for heading in GROUPS} <= {*headings}
    general = text.split("options:\n")[1].split("\n\n")[0]
    assert general.split() == ["-h,", "--help", "show", "this", "help", "message", "and", "exit"]
