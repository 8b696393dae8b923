"""Estimators on the rows of the table ``steps``."""
