"""Study files: what is run, and what identifies it."""
