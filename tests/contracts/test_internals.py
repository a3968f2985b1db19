"""What is used of Ray, Optuna and torch without being public: it is there, and does what it did."""

from __future__ import annotations

import inspect
import subprocess
import sys
from contextlib import nullcontext
from importlib.metadata import version
from types import SimpleNamespace

import optuna
import pytest
import ray
import torch
from optuna.trial import TrialState
from ray.tune import Trainable
from ray.tune.experiment.trial import _TemporaryTrialState
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from spinlock_dist.training.torch_internals import fused_adam
from study.cluster import ray_internals
from study.search import optuna_internals

OPTUNA = f"Optuna {version('optuna')} is not as study/search/optuna_internals.py takes it to be (checked on 5.0.0): "
RAY = f"Ray {version('ray')} is not as study/cluster/ray_internals.py takes it to be (checked on 2.59 and 2.60): "
TORCH = (
    f"torch {version('torch')} is not as spinlock_dist/training/torch_internals.py takes it to be (checked on 2.13): "
)


@pytest.fixture(params=["memory", "journal"])
def study(request, tmp_path) -> optuna.Study:
    if request.param == "memory":
        return optuna.create_study()
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal"))
    return optuna.create_study(storage=optuna.storages.JournalStorage(backend))


def test_optuna_hands_out_what_it_stores_of_a_trial(study):
    trial = study.ask()
    trial.set_user_attr("a", 1)
    found = optuna_internals.stored_trial(trial)
    assert (found.number, found.user_attrs) == (trial.number, {"a": 1}), OPTUNA + "Trial.storage, Trial._trial_id"


def test_optuna_takes_attributes_of_trials_that_another_process_asked_for(study):
    study.ask()
    [frozen] = study.get_trials(deepcopy=False)
    optuna_internals.set_stored_attribute(study, frozen, "a", 1)
    assert study.trials[0].user_attrs == {"a": 1}, OPTUNA + "Study._storage.set_trial_user_attr"


def test_optuna_asks_again_for_a_trial_that_was_put_back(study):
    study.ask()
    optuna_internals.wait_again(study, study.get_trials(deepcopy=False)[0])
    assert [trial.state for trial in study.trials] == [TrialState.WAITING], OPTUNA + "set_trial_state_values"
    assert study.ask().number == 0, OPTUNA + "a waiting trial is asked for first, under its number"


def test_optuna_keeps_what_a_trial_was_enqueued_with(study):
    study.enqueue_trial({"x": 1})
    study.ask()
    study.ask()
    found = [optuna_internals.enqueued_params(trial) for trial in study.trials]
    assert found == [{"x": 1}, None], OPTUNA + "system attribute fixed_params"


def test_ray_can_be_kept_from_printing_what_workers_log():
    assert ray._private.worker._worker_logs_enabled is True, RAY + "ray._private.worker._worker_logs_enabled"
    source = inspect.getsource(ray._private.worker)
    assert "if not _worker_logs_enabled" in source, RAY + "_worker_logs_enabled is not looked at before printing"
    with ray_internals.worker_logs_silenced():
        assert ray._private.worker._worker_logs_enabled is False
    assert ray._private.worker._worker_logs_enabled is True


def test_ray_names_processes():
    naming = "from study.cluster.ray_internals import name_process; name_process('ray::s trial-0001')"
    code = f"{naming}; print(open('/proc/self/cmdline').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ray::s trial-0001"), RAY + "ray._raylet.setproctitle"


def test_ray_names_calls_of_an_actor_and_takes_a_method_of_its_handle():
    from ray.actor import ActorHandle, ActorMethod

    assert "name" in inspect.signature(ActorMethod._remote).parameters, RAY + "calls of an actor have no name"
    assert "_method_shells" in inspect.getsource(ActorHandle.__getattr__), RAY + "ActorHandle.__getattr__ makes methods"
    calls: list[dict] = []

    class Handle:
        def __getattr__(self, method: str) -> SimpleNamespace:
            return SimpleNamespace(options=lambda **given: calls.append({"method": method, **given}) or self)

    handle = Handle()
    handle.remote = lambda *args: calls.append({"args": args})
    for name in ("trial-0001", "trial-0002"):
        ray_internals.name_steps(handle, name)
        handle.train.remote(name)
    assert [call for call in calls if "name" in call] == [
        {"method": "train", "name": "trial-0001"},
        {"method": "train", "name": "trial-0002"},
    ]


def test_ray_has_bars_of_any_name_in_its_timeline():
    from ray._private import profiling

    source = inspect.getsource(profiling.profile)
    assert "core_worker.profile_event(" in source, RAY + "core_worker.profile_event"
    assert 'name = extra_data["name"]' in inspect.getsource(profiling), RAY + "a profile event has a name of its own"


def test_tune_makes_classes_of_functions():
    made = ray_internals.function_trainable(lambda config: None, "trials of s")
    assert issubclass(made, Trainable), RAY + "ray.tune.trainable.function_trainable.wrap_function"


def test_tune_keeps_the_actor_of_a_trial_where_it_is_looked_for():
    state = _TemporaryTrialState()
    assert hasattr(state, "ray_actor"), RAY + "Trial.temporary_state.ray_actor"
    state.ray_actor = "actor"
    assert ray_internals.actor_of(SimpleNamespace(temporary_state=state)) == "actor"


def test_tune_starts_trials_in_order_where_a_scheduler_chooses_none():
    from ray.tune.execution.tune_controller import TuneController

    source = inspect.getsource(TuneController)
    assert "if trial_to_run:" in source, RAY + "a scheduler that chooses no trial leaves the choice to Tune"
    assert "choose_trial_to_run" in vars(TrialScheduler), RAY + "TrialScheduler.choose_trial_to_run"


def test_torch_takes_a_step_of_adam_in_one_call_or_leaves_it_out():
    weights, reference = torch.tensor([1.0, -2.0]), torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    gradients = torch.tensor([0.5, 3.0])
    buffers = [[weights], [gradients], [torch.zeros(2)], [torch.zeros(2)]]
    adam = torch.optim.Adam([reference], lr=0.1)
    reference.grad = gradients.clone()
    adam.step()
    fused_adam(buffers, torch.tensor(1.0), 0.1, (0.9, 0.999), 1e-8, skip=torch.tensor(0.0))
    assert torch.allclose(weights, reference), TORCH + "torch._fused_adam_"
    kept = [each.clone() for [each] in buffers]
    gradients[0] = kept[1][0] = torch.inf
    fused_adam(buffers, torch.tensor(2.0), 0.1, (0.9, 0.999), 1e-8, skip=torch.tensor(1.0))
    assert all(torch.equal(each, before) for [each], before in zip(buffers, kept, strict=True)), TORCH + "found_inf"


def test_asha_is_told_reports_without_working_out_cutoffs():
    """What it knows afterwards, and how it decides then, is the same."""
    quick, plain = [ASHAScheduler(time_attr="t", metric="m", mode="min", max_t=9, grace_period=1) for _ in range(2)]
    for scheduler in (quick, plain):
        with ray_internals.without_cutoffs(scheduler) if scheduler is quick else nullcontext():
            for number in range(20):
                trial = SimpleNamespace(trial_id=str(number))
                scheduler.on_trial_add(None, trial)
                for time in (1, 4):
                    scheduler.on_trial_result(None, trial, {"t": time, "m": number * time % 7})
    known = [scheduler.debug_string().splitlines()[1:] for scheduler in (quick, plain)]  # cutoffs and how many reported
    assert known[0] == known[1], RAY + "AsyncHyperBandScheduler._brackets, cutoff"
    for value in (0, 6):
        trial, answers = SimpleNamespace(trial_id=f"new {value}"), []
        for scheduler in (quick, plain):
            scheduler.on_trial_add(None, trial)
            answers.append(scheduler.on_trial_result(None, trial, {"t": 1, "m": value}))
        assert answers[0] == answers[1]
