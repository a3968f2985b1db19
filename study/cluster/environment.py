"""The environment of Ray and of experiment trackers, set before anything here imports them: they read it once."""

from __future__ import annotations

import os
import sys

SETTINGS = {
    # nothing is sent anywhere; the address keeps quiet even a head that reports in spite of the switch
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    # what a trial prints is found with the trial, not only in the log of the worker that ran many
    "RAY_ENABLE_RECORD_ACTOR_TASK_LOGGING": "1",
    # only who has the token may use the cluster; Ray's own default differs between versions and ways to start
    "RAY_AUTH_MODE": "token",
    # one terminal view, the study's own
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # nothing is resumed from Tune's snapshots, and each would hold every trial so far
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
    # a trial that ends by diverging has no metric to report
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # relative paths mean the same to a trial as to its driver
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # a trial killed by Ray's memory monitor takes the whole run down; one killed by the kernel is retried
    "RAY_memory_monitor_refresh_ms": "0",
}


def prepare_environment() -> None:
    """Set what the user has not set."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def read_by_ray() -> None:
    """Have a Ray that was imported before read the environment again, unless it runs.

    Otherwise the cluster that it starts would ask for a token that this process does not send.
    """
    if "ray" in sys.modules and not sys.modules["ray"].is_initialized():
        from study.cluster.ray_internals import read_environment

        read_environment()
