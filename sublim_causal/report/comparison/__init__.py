"""The parts of a page that puts two runs side by side."""
