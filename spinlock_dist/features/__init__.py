"""From a dataset to clean, normalized, categorized features."""
