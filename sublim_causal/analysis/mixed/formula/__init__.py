"""Formulas and contrasts: what they say, and how their factors are coded."""
