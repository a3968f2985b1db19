"""The search: asking and telling Optuna, early stopping, storage, checkpoint retention."""
