"""What a worker process does: train blocks of seeds and write their tables."""
