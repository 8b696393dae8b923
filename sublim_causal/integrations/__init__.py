"""Measure and change the steps of training that another library runs."""
