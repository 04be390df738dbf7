"""Candidates: the estimator, how it is trained, and what it has to show before it is promoted."""
