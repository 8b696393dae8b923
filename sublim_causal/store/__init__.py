"""The record of a run: Parquet tables, and their mirror in MLflow."""
