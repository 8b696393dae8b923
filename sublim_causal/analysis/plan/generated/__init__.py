"""Plans that the package writes: of a report, and of a comparison of two runs."""
