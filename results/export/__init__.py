"""A trial of a study as a config, for this program or for Spinlock, and the folder of the best."""
