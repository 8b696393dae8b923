"""Images, batches of them, and the random streams they are drawn from."""
