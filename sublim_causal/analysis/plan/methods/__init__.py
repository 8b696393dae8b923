"""What a plan can ask for, a module a kind of question."""
