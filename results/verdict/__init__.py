"""Better, worse, or no difference shown: paired tests, replicates, verification."""
