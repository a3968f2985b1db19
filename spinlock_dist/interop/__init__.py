"""Spinlock's own configs, read and written."""
