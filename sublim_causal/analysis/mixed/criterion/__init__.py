"""The REML criterion and its maximum."""
