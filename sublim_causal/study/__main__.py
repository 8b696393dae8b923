"""``python -m sublim_causal.study`` and the console script ``sublim-causal``."""

from __future__ import annotations

from sublim_causal.study.cli import main

if __name__ == "__main__":
    main()
