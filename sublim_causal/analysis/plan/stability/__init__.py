"""The verdict on each claim under other defensible choices of the analysis."""
