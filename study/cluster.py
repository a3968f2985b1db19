"""Starts a Ray cluster of its own, or joins one, and refuses at once what it cannot give."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import torch

from study.config import ClusterConfig
from study.resources import ResourceError, Resources, check_gpus, plan

OBJECT_STORE_BYTES = 512 * 2**20
PROBE_SECONDS = 3.0


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs, and what a trial gets on it."""

    resources: Resources
    dashboard: str | None
    """Address of Ray's dashboard, if it has one."""

    @property
    def notice(self) -> str:
        """One line about the dashboard, empty without one."""
        if self.dashboard is None:
            return ""
        locked = os.environ.get("RAY_AUTH_MODE") != "disabled"
        return f"{self.dashboard}" + (" (token: ray get-auth-token)" if locked else "")


def preflight(config: ClusterConfig) -> None:
    """Refuse what this machine, or the cluster to be joined, cannot give, before anything slow begins.

    Raises `ResourceError`.
    """
    if ray.is_initialized():
        plan(_nodes(), config)
    elif config.address is None:
        check_gpus(config.gpus, torch.cuda.device_count(), "this machine")
    else:
        _probe(config.address)


def _probe(address: str) -> None:
    """Raise `ResourceError` if nothing listens at `host:port`; Ray itself would try for a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), PROBE_SECONDS).close()
    except OSError as error:
        raise ResourceError(f"no Ray cluster answers at {address}: {error}; leave --address out to start one") from None


@contextmanager
def running(config: ClusterConfig) -> Iterator[Cluster]:
    """Yield a cluster: the one this process is connected to, the one at `config.address`, or one of its own.

    Only what was started or joined here is left at the end; a joined cluster goes on running. Raises `ResourceError`.
    """
    ours = not ray.is_initialized()
    dashboard = _connect(config) if ours else None
    for part in ("ray.tune", "ray.train"):  # what befalls trials is told by the study, without tracebacks
        logging.getLogger(part).setLevel(logging.CRITICAL)
    try:
        with _termination_as_interrupt():
            yield Cluster(plan(_nodes(), config), dashboard)
    finally:
        if ours:
            ray.shutdown()


def _connect(config: ClusterConfig) -> str | None:
    """Join or start a cluster and return the address of its dashboard."""
    if config.address is not None:
        own: dict[str, Any] = {"address": config.address}
    else:
        own = {
            "address": "local",  # without it Ray joins whatever cluster runs on this machine
            "num_gpus": torch.cuda.device_count() if config.gpus is None else config.gpus,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": config.dashboard,
            "dashboard_host": "127.0.0.1",
        }
    try:
        context = ray.init(log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"at {config.address}" if config.address else "on this machine"
        raise ResourceError(f"no Ray cluster {where}: {str(error).splitlines()[0]}") from None
    return f"http://{context.dashboard_url}" if context.dashboard_url else None


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C: Tune ends cleanly on SIGINT only, and Ray's own SIGTERM handler leaves trials behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
