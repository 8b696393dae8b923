"""What a run would do, what it needs, and whether its classes keep their contracts."""
