"""What the commands print: consoles, tables, progress."""
