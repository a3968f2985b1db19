"""What the trials of a study say: capacity, importance, hypotheses, Pareto front, levelling."""
