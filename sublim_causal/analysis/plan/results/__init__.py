"""What a plan found: as a frame, JSON or text, read back, and what pictures draw."""
