"""Starts a Ray cluster, or joins one, and refuses at once what it cannot provide."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ray
import torch
from ray.job_config import JobConfig

from spinlock_dist.command import tool
from spinlock_dist.cores import available_cores
from study.cluster.connection_errors import compiled_parts_muted, connection_error
from study.cluster.elastic import Demand, Slots, living_nodes
from study.cluster.ray_internals import worker_logs_silenced
from study.cluster.resources import ResourceError, Resources, check_gpus, demand, plan, taken
from study.cluster.token_file import keep_token_private
from study.cluster.watch import watched
from study.config import ClusterConfig

OBJECT_STORE_BYTES = 512 * 2**20
PROBE_SECONDS = 3.0
POLL_SECONDS = 1.0

PACKAGES = ("spinlock_dist", "search_spaces", "results", "study")
"""What trials import; a joined cluster is sent them."""

IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by `ray job submit` for what it starts, which has the job's working folder on every node."""

MOST_FILES = 65_536


@dataclass(frozen=True)
class Cluster:
    """A running cluster, and what a trial gets on it."""

    resources: Resources
    dashboard: str | None
    """Address of this study's page in Ray's dashboard, if there is one."""
    slots: Callable[[], int]
    """How many trials it has room for now."""
    demand: Demand | None = None
    """What an autoscaler is asked for, if there is one."""

    @property
    def notice(self) -> str:
        """One line about the dashboard, empty without one."""
        if self.dashboard is None:
            return ""
        locked = os.environ["RAY_AUTH_MODE"] == "token"
        return self.dashboard + (f" (token: {tool('ray')} get-auth-token)" if locked else "")


def preflight(config: ClusterConfig) -> None:
    """Refuse what this machine, or a cluster that is connected already, cannot provide.

    Raises `ResourceError`.
    """
    if ray.is_initialized():
        if not config.wait_for_nodes:
            plan(living_nodes(), config)
    elif config.address is None:
        check_gpus(config.gpus, torch.cuda.device_count(), "this machine")
    else:
        _probe(config.address)


def _probe(address: str) -> None:
    """Raise `ResourceError` if nothing listens at `host:port`; Ray itself would try for a minute."""
    if address.startswith("ray://"):
        raise ResourceError(
            f"{address}: through Ray's client the study would run apart from its folder; use `ray job submit` "
            "(deploy/README.md), or --address HOST:PORT from a node of the cluster"
        )
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), PROBE_SECONDS).close()
    except OSError as error:
        raise ResourceError(
            f"no Ray cluster answers at {address}: {error}; a study without --address starts its own"
        ) from None


@contextmanager
def running(
    config: ClusterConfig,
    say: Callable[[str], None] = lambda _: None,
    most: int | None = None,
    job: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """Yield a cluster: the one this process is connected to, the one at `config.address`, or one of its own.

    At the end it is left only if it was started or joined here; a joined cluster keeps running. `say` gets a line on
    what is waited for, and on nodes that come and go. An autoscaler is asked for room for `most` trials at most. `job`
    is what Ray's pages tell of the study, `job_name` in their list. Raises `ResourceError`.
    """
    ours = not ray.is_initialized()
    if ours and config.address is None:
        config = config.model_copy(update={"wait_for_nodes": 0})  # none can come
    dashboard = _connect(config, job or {}) if ours else None
    try:
        with (
            _termination_as_interrupt(),
            _quiet(),
            watched() if ours else nullcontext(),
            _asked(config, most) as asked,
        ):
            resources = _await(config, say) if asked else plan(living_nodes(), config)
            if asked:
                asked.use(resources, most)
            if busy := taken(ray.available_resources(), resources):
                say(f"the cluster is busy, {busy}: waiting for room")
            yield Cluster(resources, dashboard, Slots(resources, say), asked)
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def _asked(config: ClusterConfig, most: int | None) -> Iterator[Demand | None]:
    """What an autoscaler is asked for, where nodes are waited for. A standing request would keep them for ever."""
    if not config.wait_for_nodes:
        yield None
        return
    asked = Demand(demand(config)[:most])
    try:
        yield asked
    finally:
        asked.withdraw()


def _connect(config: ClusterConfig, job: Mapping[str, str]) -> str | None:
    """Join or start a cluster and return the address of this job's page in its dashboard."""
    if config.address is not None:
        own: dict[str, Any] = {"address": config.address, "runtime_env": _code()}
    else:
        keep_token_private()
        _raise_file_limit()
        own = {
            "address": "local",  # without it Ray joins whatever cluster runs on this machine
            "num_cpus": _fewer_cores(),
            "num_gpus": torch.cuda.device_count() if config.gpus is None else config.gpus,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": config.dashboard,
            "dashboard_host": config.dashboard_host,
        }
    try:
        with compiled_parts_muted():
            described = JobConfig(metadata=dict(job))
            context = ray.init(log_to_driver=False, logging_level=logging.ERROR, job_config=described, **own)
    except Exception as error:  # Ray raises what its parts raise
        raise connection_error(error, config.address) from None
    page = f"http://{context.dashboard_url}/#/jobs/{ray.get_runtime_context().get_job_id()}"
    return page if context.dashboard_url else None


def _raise_file_limit() -> None:
    """Let this process and Ray's have as many open files as they may: a few hundred do not last for a study."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _fewer_cores() -> int | None:
    """The cores that this process may use if they are not all; Ray counts those of the machine or container."""
    cores = available_cores()
    return cores if cores < (os.cpu_count() or 1) else None


def _code() -> dict[str, Any]:
    """The runtime environment that brings this code to every node: other versions of it may be there."""
    if IN_A_JOB in os.environ:
        return {}
    origins = [spec.origin for spec in map(find_spec, PACKAGES) if spec and spec.origin]
    return {"py_modules": [str(Path(origin).parent) for origin in origins]}


def _await(config: ClusterConfig, say: Callable[[str], None]) -> Resources:
    """The plan, as soon as there is room for one trial.

    Raises `ResourceError` saying what is missing when `config.wait_for_nodes` seconds are over.
    """
    deadline = time.monotonic() + config.wait_for_nodes
    said = ""
    while True:
        try:
            resources = plan(living_nodes(), config)
        except ResourceError as error:
            if time.monotonic() > deadline:
                raise ResourceError(f"{error}; --wait-for-nodes {config.wait_for_nodes:g} is over") from None
            if str(error) != said:
                said = str(error)
                say(f"waiting up to {config.wait_for_nodes:g} s for nodes: {said}")
            time.sleep(POLL_SECONDS)
            continue
        if resources.concurrent < resources.expected:
            say(f"there is room for {resources.concurrent} of {resources.expected} trials: beginning with those")
        return resources


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray from printing paragraphs about failed trials on stdout: the study prints a line."""
    for part in ("ray.tune", "ray.train"):
        logging.getLogger(part).setLevel(logging.CRITICAL)
    with worker_logs_silenced():
        yield


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM, and SIGHUP of a terminal that is closed, as Ctrl-C.

    Tune ends cleanly on SIGINT only, and Ray's own SIGTERM handler leaves trials behind. What is ignored, as SIGHUP
    under nohup, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = [stop for stop in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(stop) != signal.SIG_IGN]
    before = {stop: signal.signal(stop, lambda *_: signal.raise_signal(signal.SIGINT)) for stop in heeded}
    try:
        yield
    finally:
        for stop, handler in before.items():
            signal.signal(stop, handler)
