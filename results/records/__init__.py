"""What a study has left on disk, written and read."""
