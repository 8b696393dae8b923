"""Differences between arms, paired by seed."""
