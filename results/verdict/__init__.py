"""Better, more even but worse, no difference shown, or worse: contrasts, verdict, verification."""
