"""Teachers, what they teach, and the losses of being taught."""
