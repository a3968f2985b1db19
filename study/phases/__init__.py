"""The phases of a study, one a file."""
