"""What a user runs: study files, their plan, the runner, and the command line."""
