"""The core: one configuration and one feature table make one trained tokenizer. Knows neither Ray nor Optuna."""
