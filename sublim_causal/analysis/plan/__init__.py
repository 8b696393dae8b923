"""Analysis plans: what is declared, run on a record, and judged."""
