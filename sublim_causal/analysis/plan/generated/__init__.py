"""Plans that are made rather than declared: of a report, and of a comparison of two runs."""
