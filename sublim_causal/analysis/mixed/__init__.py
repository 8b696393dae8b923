"""Linear mixed models by formula: design, REML, tests, resampling."""
