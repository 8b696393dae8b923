"""Shell completion of the names of built-in files."""

from __future__ import annotations


def complete_study(incomplete: str) -> list[str]:
    """Return the built-in studies whose name begins with `incomplete`."""
    from sublim_causal.declared import list_declared

    return [name for name in list_declared("studies") if name.startswith(incomplete)]


def complete_plan(incomplete: str) -> list[str]:
    """Return the built-in analysis plans whose name begins with `incomplete`."""
    from sublim_causal.declared import list_declared

    return [name for name in list_declared("analysis") if name.startswith(incomplete)]
