"""Estimators on data frames; nothing here imports torch."""
