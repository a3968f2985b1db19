"""Samplers: how Optuna's are built."""
