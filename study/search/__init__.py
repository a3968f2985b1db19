"""The search: Optuna asked and told, early stopping, what is kept."""
