"""The answer: sentences built from the estimates, a module a question."""
