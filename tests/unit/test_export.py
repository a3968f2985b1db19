"""Exports: any trial, of any study, as a config of ours or of Spinlock's; refusals; the best that a study leaves."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from results.export.command import find_trial, main, shortfall
from results.export.spinlock import export_spinlock, trial_plan
from results.records.study_folder import StudyFolder
from results.records.study_record import StudyRecord, read_study
from results.records.trial_record import TrialRecord
from spinlock_dist.categories.mapping import read_names
from spinlock_dist.compression.capacity import plan_capacity
from spinlock_dist.compression.characteristics import Characteristics
from spinlock_dist.config import CategoriesConfig, PrepareConfig, SplitConfig, TrialConfig
from spinlock_dist.config_file import load_config
from spinlock_dist.data.load import load_table
from spinlock_dist.errors import ConfigError, SpinlockError
from spinlock_dist.interop.spinlock_reader import is_spinlock_yaml, load_spinlock_yaml
from spinlock_dist.prepare import prepare
from tests.spinlock_loader import load_as_spinlock
from tests.synthetic import write_table
from tests.synthetic_study import build_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    return read_study(build_study(tmp_path_factory.mktemp("runs"), "s", 60))


def export(study: StudyRecord, out: Path, *options: str) -> None:
    runs = ["--runs", str(study.folder.path.parent)]
    assert main([study.name, *runs, "--out", str(out), *options]) == 0


# ---------------------------------------------------------------- ours


def test_the_best_is_exported_unless_another_is_named(study, tmp_path):
    export(study, tmp_path / "best.yaml")
    assert load_config(tmp_path / "best.yaml") == load_config(study.folder.best / "config.yaml")
    for record in [record for record in study.search if record.feasible][:5]:
        export(study, tmp_path / "deep" / "one.yaml", "--trial", str(record.number))
        assert load_config(tmp_path / "deep" / "one.yaml") == study.config(record)
    head = (tmp_path / "deep" / "one.yaml").read_text().splitlines()
    assert head[1].startswith(f"# trial {record.number} of study s, imbalance {record.metrics.imbalance:.2f}x")
    assert any(study.fingerprint in line for line in head)


def test_an_infeasible_trial_needs_force_and_says_why(study, tmp_path):
    broken = next(record for record in study.search if record.state == "complete" and not record.feasible)
    guard, excess = max(broken.guards.items(), key=lambda item: item[1])
    with pytest.raises(SpinlockError, match=rf"breaks .*{guard} \({excess:.1%} above its limit\).*--force") as refused:
        export(study, tmp_path / "x.yaml", "--trial", str(broken.number))
    assert refused.value.exit_code == 1
    assert not (tmp_path / "x.yaml").exists()
    export(study, tmp_path / "x.yaml", "--trial", str(broken.number), "--force")
    assert f"{guard} (" in (tmp_path / "x.yaml").read_text().splitlines()[2]
    assert load_config(tmp_path / "x.yaml") == study.config(broken)


@pytest.mark.parametrize(("state", "why"), [("pruned", "stopped early"), ("diverged", "diverged")])
def test_a_trial_that_did_not_complete_needs_force(study, tmp_path, state, why):
    record = next(record for record in study.search if record.state == state)
    with pytest.raises(SpinlockError, match=f"not feasible: {why}"):
        export(study, tmp_path / "x.yaml", "--trial", str(record.number))
    export(study, tmp_path / "x.yaml", "--trial", str(record.number), "--force")


def test_a_reason_of_several_lines_is_one_in_the_head():
    record = TrialRecord(phase="search", arm="trial-0", number=0, state="failed", seed=0, reason="a\n  b: c\n")
    assert shortfall(record) == "failed: a b: c"
    assert shortfall(replace(record, reason="")) == "failed"


def test_trials_are_named_by_number_or_arm(study):
    record = study.search[3]
    assert find_trial(study, "3") is find_trial(study, "trial-3") is record
    for name, message in (("60", "its trials: 0 to 59"), ("x", "its trials: 0 to 59"), ("a/3", "not a tournament")):
        with pytest.raises(ConfigError, match=message):
            find_trial(study, name)
    running = replace(study, running=["trial-60"])
    with pytest.raises(ConfigError, match="trial 60 of s has not finished"):
        find_trial(running, "60")
    with pytest.raises(ConfigError, match="has no feasible trial"):
        find_trial(replace(study, records=[], verdict=None), None)


def test_a_tournaments_trials_are_named_with_their_search(tmp_path):
    cup = read_study(build_study(tmp_path, "cup", 4, space="quick", tournament=True))
    record = next(record for record in cup.search if record.feasible and record.arm.startswith("balanced/"))
    assert find_trial(cup, record.arm) is find_trial(cup, f"balanced/{record.number}") is record
    with pytest.raises(ConfigError, match=r"tournament; name the search too, e\.g\. uniform/trial-0"):
        find_trial(cup, "2")
    export(cup, tmp_path / "x.yaml", "--trial", record.arm, "--format", "spinlock")
    config, _ = load_spinlock_yaml(tmp_path / "x.yaml")
    unsaid = {"patience": config.training.patience, "schedule": "constant", "device": "cpu"}
    assert config.training == cup.config(record).training.model_copy(update=unsaid)


def test_what_cannot_be_written_is_a_line(study, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpinlockError, match="cannot be written"):
        export(study, tmp_path / "file" / "x.yaml")


# ---------------------------------------------------------------- Spinlock's


def test_spinlocks_file_has_the_sizes_the_categories_and_what_it_cannot_say(study, tmp_path, capsys):
    export(study, tmp_path / "s.yaml", "--format", "spinlock")
    assert is_spinlock_yaml(tmp_path / "s.yaml")
    tree = yaml.safe_load((tmp_path / "s.yaml").read_text())
    plan = json.loads((study.folder.checkpoint(study.best.number) / "meta.json").read_text())["plan"]
    assert study.config(study.best).compression.capacity == "codes"
    assert list(tree["model"]["factors"]) == study.folder.category_names()
    given = [[level["latent_dim"] for level in row] for row in tree["model"]["factors"].values()]
    assert given == plan["dims"]

    names = read_names(str(tmp_path / "s.categories.json"))
    assert names == read_names(str(study.folder.categories))
    columns = json.loads(Path(tree["training"]["category_mapping_file"]).read_text())
    assert sorted(number for row in columns.values() for number in row) == [*range(sum(map(len, names.values())))]

    head = [line for line in (tmp_path / "s.yaml").read_text().splitlines() if line.startswith("#")]
    printed = capsys.readouterr().out.splitlines()
    assert [line.removeprefix("# ") for line in head[2:]] == printed[1:]
    assert any("compression.capacity" in line for line in head)
    assert any(line.startswith("not written: s.h5") and "--with-data" in line for line in printed)
    assert sum(line.startswith("sizes: ") for line in printed) == 1 + len(names)
    assert not (tmp_path / "s.h5").exists()


def test_data_goes_with_spinlocks_format_alone(study, tmp_path):
    with pytest.raises(ConfigError, match="--format spinlock"):
        export(study, tmp_path / "s.yaml", "--with-data")


def test_without_a_checkpoint_sizes_come_from_the_strategy(study):
    record = next(
        record
        for record in study.search
        if record.state == "complete"
        and record.params["compression.strategy"] in ("balanced", "waterfill", "information")
        and not study.folder.checkpoint(record.number).exists()
    )
    config = study.config(record)
    each = [Characteristics(**scores) for scores in study.prepared["characteristics"].values()]
    expected = plan_capacity(config.compression, each, study.prepared["rows"]["train"], config.quantizer)
    plan = trial_plan(study.folder, record, config)
    assert (plan.codes == expected.codes).all() and (plan.ratios == expected.ratios).all()


def test_measured_ratios_are_refused_without_their_checkpoint(study, tmp_path):
    record = next(
        record
        for record in study.search
        if record.feasible
        and record.params["compression.strategy"] == "feedback"
        and not study.folder.checkpoint(record.number).exists()
    )
    with pytest.raises(SpinlockError, match="ratios of feedback are measured by pilots"):
        export(study, tmp_path / "x.yaml", "--format", "spinlock", "--trial", str(record.number))
    export(study, tmp_path / "x.yaml", "--trial", str(record.number))


def copied(study: StudyRecord, to: Path) -> StudyFolder:
    shutil.copytree(study.folder.path, to / study.name)
    return StudyFolder(to / study.name)


def test_the_exported_best_outlives_its_trials_checkpoint(study, tmp_path):
    folder = copied(study, tmp_path)
    kept = trial_plan(study.folder, study.best, study.config(study.best))
    shutil.rmtree(folder.tune)
    assert (trial_plan(folder, study.best, study.config(study.best)).codes == kept.codes).all()


@pytest.mark.parametrize("damaged", ["categories.json", "ledger.parquet"])
def test_damaged_preparation_is_a_line(study, tmp_path, damaged):
    folder = copied(study, tmp_path)
    (folder.prepared / damaged).write_bytes(b"{")
    with pytest.raises(SpinlockError, match=damaged):
        main(["s", "--runs", str(tmp_path), "--format", "spinlock", "--out", str(tmp_path / "x.yaml")])


def test_data_of_others_is_not_replaced(study, tmp_path):
    (tmp_path / "s.h5").write_bytes(b"years of simulation")
    with pytest.raises(ConfigError, match=r"s\.h5: holds something else than features that an export wrote"):
        export(study, tmp_path / "s.yaml", "--format", "spinlock", "--with-data")
    with pytest.raises(ConfigError, match=r"name a \.yaml file"):
        export(study, tmp_path / "t.h5", "--format", "spinlock")
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]


# ---------------------------------------------------------------- Spinlock's, with the features


@pytest.fixture(scope="module", params=["standard", "robust", "quantile"])
def data(request, tmp_path_factory):
    dataset = write_table(tmp_path_factory.mktemp("data") / "table.npz", sizes=(8, 4, 36))
    return prepare(PrepareConfig(dataset=str(dataset), normalization=request.param))


@pytest.fixture
def real(data, tmp_path):
    folder = StudyFolder(tmp_path / "runs" / "real")
    folder.write_prepared(data)
    return folder


@pytest.mark.parametrize("capacity", ["latent", "codes"])
def test_columns_categories_and_sizes_arrive(data, real, make_record, tmp_path, capacity):
    config = TrialConfig(prepare=data.config).with_overrides({"compression.capacity": capacity})
    files, _ = export_spinlock(real, make_record(0, 0.1, 0.2), config, tmp_path / "t.yaml", with_data=True)
    assert tmp_path / "t.h5" in files
    found = load_as_spinlock(tmp_path / "t.yaml")

    cleaned = data.pipeline.clean(load_table(data.config))
    assert list(found.categories) == [category.name for category in data.categories]
    for category in data.categories:
        given, expected = found.features[:, found.categories[category.name]], cleaned[:, list(category.columns)]
        assert given / expected.std(axis=0) == pytest.approx(expected / expected.std(axis=0), rel=1e-5, abs=1e-5)

    plan = plan_capacity(config.compression, data.characteristics, len(data.split.train))
    if capacity == "codes":
        assert (found.codes, found.dims) == (plan.codes.prod(axis=2).tolist(), plan.dims.tolist())
    else:
        ratios = found.settings["compression_ratios_per_category"]
        assert [*ratios.values()] == [pytest.approx(row, abs=1e-6) for row in plan.ratios]


def test_data_that_is_not_the_studys_any_more_is_refused(data, real, make_record, tmp_path):
    config = TrialConfig(prepare=data.config.model_copy(update={"split": SplitConfig(seed=1)}))
    with pytest.raises(SpinlockError, match="is not what study real was run on"):
        export_spinlock(real, make_record(0, 0.1, 0.2), config, tmp_path / "t.yaml", with_data=True)
    assert not (tmp_path / "t.yaml").exists()


def test_this_program_reads_what_it_wrote(data, real, make_record, tmp_path):
    config = TrialConfig(prepare=data.config).with_overrides({"compression.strategy": "waterfill"})
    export_spinlock(real, make_record(0, 0.1, 0.2), config, tmp_path / "t.yaml", with_data=True)
    theirs, _ = load_spinlock_yaml(tmp_path / "t.yaml")
    rows = len(data.split.train)
    plan = plan_capacity(theirs.compression, data.characteristics, rows)
    assert plan.bits == pytest.approx(plan_capacity(config.compression, data.characteristics, rows).bits, abs=0.3)
    mapping = CategoriesConfig(mapping=str(tmp_path / "t.categories.json"), only_mapped=True)
    again = prepare(theirs.prepare.model_copy(update={"categories": mapping}))
    assert [category.name for category in again.categories] == [category.name for category in data.categories]
    assert set(again.feature_names) == set(data.feature_names)
