"""Samplers: how Optuna's are built, and one of our own."""
