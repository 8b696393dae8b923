"""Measure and change the steps of an optimizer in a training loop of your own."""

from sublim_causal.monitor.alignment import COLUMNS, AlignmentMonitor
from sublim_causal.monitor.guard import guard
from sublim_causal.monitor.screen import Screen, screen
from sublim_causal.monitor.steps import Handle

__all__ = ["COLUMNS", "AlignmentMonitor", "Handle", "Screen", "guard", "screen"]
