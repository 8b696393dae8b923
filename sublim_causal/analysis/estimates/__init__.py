"""Types of estimands and estimates, and the intervals that all estimators share."""
