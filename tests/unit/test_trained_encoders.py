"""Family encoders that train with the tokenizer: they change what it sees, never what it has to rebuild."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spinlock_dist.checkpoint import load_checkpoint
from spinlock_dist.compression.capacity import plan_capacity
from spinlock_dist.config import TrialConfig
from spinlock_dist.data.initial_fields import Fields
from spinlock_dist.data.load import load_table
from spinlock_dist.data.table import FeatureTable
from spinlock_dist.diagnosis.measure import diagnose
from spinlock_dist.metrics.record import EpochMetrics
from spinlock_dist.model.hierarchical_vqvae import HierarchicalVQVAE
from spinlock_dist.model.initialization import initialize
from spinlock_dist.model.layout import GroupLayout
from spinlock_dist.model.trained_encoders import TrainedEncoders, to_device
from spinlock_dist.prepare import PreparedData, prepare
from spinlock_dist.run import TrialOutcome, run_members, run_trial
from spinlock_dist.training import losses
from spinlock_dist.training.evaluation import EvaluationData
from spinlock_dist.training.snapshot import Snapshots
from spinlock_dist.training.trainer import Member, Trainer

NETWORKS: dict[str, dict[str, Any]] = {
    "initial": {"encoder": "initial_hybrid", "embedding": 6},
    "summary": {"encoder": "mlp", "hidden": [12], "output": 8},
    "temporal": {"encoder": "temporal_cnn", "embedding": 5},
}
QUICK = {"epochs": 4, "evaluate_every": 2, "batch_size": 32, "device": "cpu"}


def trial(file: Path, *trainable: str, **prepare_settings: Any) -> TrialConfig:
    families = {family: {**network, "trainable": family in trainable} for family, network in NETWORKS.items()}
    return TrialConfig(
        prepare={"dataset": str(file), "families": families, "categories": {"count": 3}, **prepare_settings},
        training=QUICK,
        model={"hidden": 8},
        compression={"min_rows_per_code": 2},
    )


@pytest.fixture(scope="module")
def config(operators_file: Path) -> TrialConfig:
    return trial(operators_file, *NETWORKS)


@pytest.fixture(scope="module")
def data(config: TrialConfig) -> PreparedData:
    return prepare(config.prepare)


@pytest.fixture(scope="module")
def outcome(config: TrialConfig, data: PreparedData) -> TrialOutcome:
    return run_trial(config.with_overrides({"training.learning_rate": 0.03}), data)


def seen_by_model(data: PreparedData, encoders: TrainedEncoders, layout: GroupLayout, members: int) -> np.ndarray:
    """Return what the model sees of all rows, `[M, N, D]`."""
    x_MNGF = layout.pack(torch.from_numpy(data.values)).expand(members, -1, -1, -1)
    inputs = {name: values.expand(members, *values.shape) for name, values in to_device(data.inputs, layout).items()}
    return layout.unpack(encoders(x_MNGF, inputs)).detach().numpy()


class TestWhatTheModelSees:
    @pytest.mark.parametrize("normalization", ["standard", "robust", "quantile"])
    @pytest.mark.parametrize("calibrate", [True, False])
    def test_at_the_start_exactly_its_targets(self, operators_file: Path, normalization: str, calibrate: bool) -> None:
        families = {name: {**network, "trainable": True, "calibrate": calibrate} for name, network in NETWORKS.items()}
        config = trial(operators_file, normalization=normalization, families=families)
        data = prepare(config.prepare)
        layout = GroupLayout(data.categories)
        seen_MND = seen_by_model(data, TrainedEncoders(data.pipeline, layout, 2), layout, 2)
        np.testing.assert_array_equal(seen_MND[0], data.values)
        np.testing.assert_array_equal(seen_MND[1], data.values)

    def test_later_what_preparing_would_make_of_each_members_networks(
        self, config: TrialConfig, data: PreparedData
    ) -> None:
        """Against the pipeline itself, with the members' weights put in its encoders one by one."""
        layout = GroupLayout(data.categories)
        encoders = TrainedEncoders(data.pipeline, layout, 3)
        generator = torch.Generator().manual_seed(0)
        for weight in encoders.parameters():
            weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
        seen_MND = seen_by_model(data, encoders, layout, 3)
        table = load_table(config.prepare)
        for member in range(3):
            changed = {
                family: replace(data.pipeline.encoders[family], arrays=self.arrays_of(data, family, trained, member))
                for family, trained in zip(encoders.families, encoders.networks, strict=True)
            }
            expected = replace(data.pipeline, encoders={**data.pipeline.encoders, **changed}).transform(table)
            np.testing.assert_allclose(seen_MND[member], expected, rtol=1e-4, atol=1e-4)
            assert np.abs(expected - data.values).max() > 1

    @staticmethod
    def arrays_of(data: PreparedData, family: str, trained: torch.nn.Module, member: int) -> dict[str, np.ndarray]:
        """Return the arrays of an encoder with the weights of a member."""
        weights = {
            f"network.{name.removeprefix('weights.').replace('/', '.')}": weight[member].detach().double().numpy()
            for name, weight in trained.named_parameters()
        }
        assert weights.keys() < data.pipeline.encoders[family].arrays.keys()
        return {**data.pipeline.encoders[family].arrays, **weights}

    def test_outliers_are_not_moved_further_than_targets_reach(self, data: PreparedData) -> None:
        layout = GroupLayout(data.categories)
        encoders = TrainedEncoders(data.pipeline, layout, 1)
        for weight in encoders.parameters():
            weight.data *= 10
        seen_ND = seen_by_model(data, encoders, layout, 1)[0]
        assert (seen_ND.max(axis=0) <= data.values[data.split.train].max(axis=0) + 1e-3).all()
        assert (seen_ND.min(axis=0) >= data.values[data.split.train].min(axis=0) - 1e-3).all()

    def test_manual_features_are_not_moved(self, config: TrialConfig, data: PreparedData) -> None:
        layout = GroupLayout(data.categories)
        encoders = TrainedEncoders(data.pipeline, layout, 1)
        for weight in encoders.parameters():
            weight.data += 0.1
        moved_D = np.abs(seen_by_model(data, encoders, layout, 1)[0] - data.values).max(axis=0)
        learned = [("::cnn_" in name or "::feature_" in name) for name in data.feature_names]
        np.testing.assert_array_equal(moved_D > 0, learned)
        assert not all(learned)

    def test_only_trainable_families_train(self, operators_file: Path, data: PreparedData) -> None:
        partly = prepare(trial(operators_file, "summary").prepare)
        assert list(partly.inputs) == ["summary"]
        encoders = TrainedEncoders(partly.pipeline, GroupLayout(partly.categories), 1)
        assert encoders.families == ["summary"]
        frozen = trial(operators_file)
        outcome = run_trial(frozen, prepare(frozen.prepare))
        assert outcome.inputs == {} and outcome.tokenizer.model.encoders is None


class TestGradients:
    @pytest.mark.parametrize(
        "term", ["reconstruction", "informativeness", "commitment", "orthogonality", "topographic"]
    )
    @pytest.mark.parametrize("levels", ["residual", "parallel"])
    def test_every_term_reaches_every_weight(
        self, config: TrialConfig, data: PreparedData, term: str, levels: str
    ) -> None:
        config = config.with_overrides({"model.levels": levels})
        layout = GroupLayout(data.categories)
        plan = plan_capacity(config.compression, data.characteristics, len(data.split.train), config.quantizer)
        encoders = TrainedEncoders(data.pipeline, layout, 2)
        model = HierarchicalVQVAE(layout, [plan, plan], config.model, config.quantizer, encoders)
        grouped_NGF = layout.pack(torch.from_numpy(data.values))
        initialize(model, grouped_NGF, [0, 1], batch_size=32)
        for weight in model.parameters():  # off the start, where a level's linear path may be blind to an input
            weight.data += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        inputs = {name: values.expand(2, *values.shape) for name, values in to_device(data.inputs, layout).items()}
        results = model(grouped_NGF.expand(2, -1, -1, -1), inputs)
        spread = losses.Spread.of(layout.split(grouped_NGF.var(dim=0, unbiased=False)))
        value_M = {
            "reconstruction": lambda: losses.reconstruction(results, spread, "features"),
            "informativeness": lambda: losses.informativeness(results, spread),
            "commitment": lambda: losses.commitment(results, spread, "features"),
            "orthogonality": lambda: losses.orthogonality(results),
            "topographic": lambda: losses.topographic(results),
        }[term]()
        value_M.sum().backward()
        for name, weight in encoders.named_parameters():
            assert weight.grad is not None and (weight.grad.flatten(1).abs().amax(dim=1) > 0).all(), name

    def test_one_member_gives_another_no_gradient(self, config: TrialConfig, data: PreparedData) -> None:
        layout = GroupLayout(data.categories)
        encoders = TrainedEncoders(data.pipeline, layout, 2)
        x_MNGF = layout.pack(torch.from_numpy(data.values)).expand(2, -1, -1, -1)
        inputs = {name: values.expand(2, *values.shape) for name, values in to_device(data.inputs, layout).items()}
        encoders(x_MNGF, inputs)[0].square().sum().backward()
        for name, weight in encoders.named_parameters():
            assert weight.grad is not None
            assert weight.grad[0].abs().sum() > 0 and (weight.grad[1] == 0).all(), name


class TestTraining:
    def test_targets_stay_what_the_frozen_encoders_gave(
        self, config: TrialConfig, data: PreparedData, outcome: TrialOutcome
    ) -> None:
        """A high learning rate moves the networks far; errors are still of the same targets."""
        before = prepare(config.prepare).values
        encoders = outcome.tokenizer.model.encoders
        assert encoders is not None
        layout = outcome.tokenizer.model.layout
        assert np.abs(seen_by_model(data, encoders, layout, 1)[0] - data.values).max() > 1
        np.testing.assert_array_equal(data.values, before)
        table = load_table(config.prepare)
        np.testing.assert_array_equal(outcome.tokenizer.pipeline.transform(table), before)
        normalization = outcome.tokenizer.pipeline.normalization
        decoded = normalization.apply(outcome.tokenizer.decode(outcome.tokenizer.encode(table)))
        rows = data.split.validation
        mean_D = before[data.split.train].mean(axis=0)
        for category in data.categories:
            columns = list(category.columns)
            errors = np.square(before[rows][:, columns] - decoded[rows][:, columns]).sum()
            total = np.square(before[rows][:, columns] - mean_D[columns]).sum()
            assert outcome.validation.fvu[category.name] == pytest.approx(errors / total, rel=1e-3)

    def test_the_losses_of_a_step_are_of_the_frozen_targets(
        self, config: TrialConfig, data: PreparedData, outcome: TrialOutcome
    ) -> None:
        """The trained networks of `outcome` are far from the frozen ones: as targets they would give another loss."""
        model = outcome.tokenizer.model
        layout = model.layout
        x_NGF, inputs = layout.pack(torch.from_numpy(data.values)), to_device(data.inputs, layout)
        evaluated = EvaluationData(
            values_ND=data.values,
            grouped_NGF=x_NGF,
            split=data.split,
            categories=data.categories,
            characteristics=data.characteristics,
            pipeline=data.pipeline,
            inputs=inputs,
        )
        trainer = Trainer(copy.deepcopy(model), [Member(config, model.plans[0])], evaluated)
        inputs_MB = {name: values[None] for name, values in inputs.items()}
        with torch.no_grad():
            results = model(x_NGF[None], inputs_MB)
        expected = losses.reconstruction(results, trainer.spread, "features")
        partial = losses.informativeness(results, trainer.spread)
        reported = trainer.step(x_NGF[None], inputs_MB)
        torch.testing.assert_close(reported["reconstruction"], expected)
        torch.testing.assert_close(reported["informativeness"], partial)

    def test_weights_move_and_statistics_stay(self, data: PreparedData, outcome: TrialOutcome) -> None:
        encoders = outcome.tokenizer.model.encoders
        assert encoders is not None
        for family, trained in zip(encoders.families, encoders.networks, strict=True):
            network = data.pipeline.encoders[family].network().float()
            for name, weight in network.named_parameters():
                assert not torch.equal(trained.weights[name.replace(".", "/")][0], weight), name
            for name, statistic in network.named_buffers():
                assert torch.equal(trained.get_buffer(name.replace(".", "/")), statistic), name

    def test_members_trained_together_equal_each_alone(self, config: TrialConfig, data: PreparedData) -> None:
        configs = [
            config.with_overrides({"seed": seed, "training.learning_rate": rate, "compression.strategy": strategy})
            for seed, rate, strategy in [(0, 1e-3, "uniform"), (1, 3e-3, "dimensionality"), (2, 1e-4, "balanced")]
        ]
        together = run_members(configs, data)
        for member, each in zip(together, configs, strict=True):
            assert isinstance(member, TrialOutcome)
            alone = run_trial(each, data)
            assert member.validation.fvu == pytest.approx(alone.validation.fvu, rel=1e-3, abs=1e-4)
            ours, theirs = member.tokenizer.model.state_dict(), alone.tokenizer.model.state_dict()
            for name in (name for name in ours if name.startswith("encoders.")):
                torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-3)

    def test_same_seed_same_result(self, config: TrialConfig, data: PreparedData) -> None:
        assert run_trial(config, data).validation == run_trial(config, data).validation

    def test_frozen_and_trained_have_one_fingerprint(self, operators_file: Path, data: PreparedData) -> None:
        frozen = prepare(trial(operators_file).prepare)
        np.testing.assert_array_equal(frozen.values, data.values)
        assert frozen.fingerprint == data.fingerprint
        others = [trial(operators_file, *NETWORKS, normalization="robust"), trial(operators_file, split={"seed": 1})]
        assert all(prepare(other.prepare).fingerprint != data.fingerprint for other in others)

    def test_early_stopping_keeps_the_encoders_of_the_best_evaluation(
        self, config: TrialConfig, data: PreparedData
    ) -> None:
        restless = {"training.patience": 1, "training.epochs": 60, "training.learning_rate": 0.03}
        outcome = run_trial(config.with_overrides(restless), data)
        assert outcome.epochs < 60
        assert outcome.evaluate("validation").fvu_worst == pytest.approx(outcome.validation.fvu_worst, rel=1e-5)

    def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
        self, config: TrialConfig, data: PreparedData, tmp_path: Path
    ) -> None:
        class Killed(BaseException):
            pass

        def die(metrics: EpochMetrics) -> None:
            if metrics.epoch == 2:
                raise Killed

        config = config.with_overrides({"training.evaluate_every": 1})
        with pytest.raises(Killed):
            run_trial(config, data, die, Snapshots(tmp_path / "trial", every=0))
        resumed = Snapshots(tmp_path / "trial", every=0)
        outcome = run_trial(config, data, snapshots=resumed)
        assert resumed.epoch == 1
        expected = run_trial(config, data)
        assert outcome.validation == expected.validation
        theirs = expected.tokenizer.model.state_dict()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in outcome.tokenizer.model.state_dict().items())

    def test_pilots_train_encoders_too(self, config: TrialConfig, data: PreparedData) -> None:
        feedback = {"strategy": "feedback", "feedback.rounds": 1}
        chosen = config.with_overrides({f"compression.{name}": value for name, value in feedback.items()})
        assert np.isfinite(run_trial(chosen, data).validation.fvu_worst)


class TestCheckpoint:
    def test_it_holds_the_trained_networks(self, outcome: TrialOutcome, tmp_path: Path) -> None:
        outcome.save(tmp_path / "checkpoint")
        reloaded = load_checkpoint(tmp_path / "checkpoint", device="cpu")
        stored = load_table(outcome.config.prepare)
        assert stored.fields is not None
        everything = np.arange(len(stored))
        raw = FeatureTable(
            columns=stored.columns, names=stored.names, source="raw", fields=Fields(stored.fields.rows(everything)[:])
        )
        tokens = outcome.tokenizer.encode(stored)
        np.testing.assert_array_equal(reloaded.encode(raw), tokens)
        rows = np.array([99, 4, 31, 7])
        np.testing.assert_array_equal(reloaded.encode(raw.rows(rows)), tokens[rows])
        assert reloaded.evaluate(raw, "validation") == outcome.validation
        forgotten = HierarchicalVQVAE(
            reloaded.model.layout, [reloaded.plan], outcome.config.model, outcome.config.quantizer
        )
        kept = {name: weight for name, weight in reloaded.model.state_dict().items() if "encoders." not in name}
        forgotten.load_state_dict(kept)
        blind = type(reloaded)(**{**reloaded.__dict__, "model": forgotten})
        assert (blind.encode(raw) != tokens).any(), "without the trained networks the tokens would be others"

    def test_a_checkpoint_of_before_this_option_is_frozen(self, operators_file: Path, tmp_path: Path) -> None:
        frozen = trial(operators_file)
        outcome = run_trial(frozen, prepare(frozen.prepare))
        outcome.save(tmp_path / "checkpoint")
        meta_file = tmp_path / "checkpoint" / "meta.json"
        meta = json.loads(meta_file.read_text())
        for encoder in (
            *meta["pipeline"]["encoders"].values(),
            *({"config": each} for each in meta["config"]["prepare"]["families"].values()),
        ):
            del encoder["config"]["trainable"]
        meta_file.write_text(json.dumps(meta))
        table = load_table(frozen.prepare)
        reloaded = load_checkpoint(tmp_path / "checkpoint", device="cpu")
        np.testing.assert_array_equal(reloaded.encode(table), outcome.tokenizer.encode(table))

    def test_a_diagnosis_agrees_with_the_metrics(self, outcome: TrialOutcome) -> None:
        diagnosis = diagnose(outcome.tokenizer, load_table(outcome.config.prepare), "validation")
        assert diagnosis.is_training_data
        assert {each.name: each.fvu for each in diagnosis.categories} == pytest.approx(outcome.validation.fvu, rel=1e-4)


def test_a_file_of_spinlock_trains_its_encoders(spinlock_file: Path) -> None:
    config = trial(spinlock_file, *NETWORKS).with_overrides({"compression.min_rows_per_code": 1})
    outcome = run_trial(config, prepare(config.prepare))
    assert np.isfinite(outcome.validation.fvu_worst)
    assert {name: values.shape for name, values in outcome.inputs.items()} == {
        "initial": (32, 32, 32, 3),
        "summary": (32, 330),
        "temporal": (32, 64, 63),
    }
