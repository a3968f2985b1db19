"""Who watches a search: the terminal, Prometheus, TensorBoard, experiment trackers."""
