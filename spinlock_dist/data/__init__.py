"""Datasets: readers of files, and the table they give."""
