"""Mediation, cross-world effects, instruments and doses."""
