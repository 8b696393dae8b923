"""What an estimate is, and the intervals that every estimator uses."""
