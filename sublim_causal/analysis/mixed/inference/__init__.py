"""Covariance, degrees of freedom and variance components of a fit."""
