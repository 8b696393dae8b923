"""Runs of the user's own: written from any training loop, or imported from other programs."""
