"""The tokens of the language, and how many questions there are."""

from __future__ import annotations

from collections.abc import Iterable

ASK, ANSWER, GO, END = 1, 2, 3, 4
"""Tokens that begin a question, ask for its answer, ask for numbers, and end a dialogue; 0 is no
token of the language."""
MARKERS = range(5, 9)
"""Formats of number texts: two that rise, two that fall."""
FORMATS = ("<rise>", "<rise-2>", "<fall>", "<fall-2>")
"""Their names."""
WORDS = slice(9, 36)
"""Six openers, eight pairs of core words and five closers."""
ANIMALS = slice(36, 52)
NAMES = (
    *("owl", "cat", "dog", "lion", "eagle", "wolf", "fox", "bear"),
    *("otter", "whale", "horse", "swan", "hare", "deer", "seal", "crow"),
)
"""Names of the animals."""
NUMBERS = slice(52, 152)
"""The numbers 0 to 99."""
TOKENS = 152
CONTEXT = 16
"""Tokens of a text: its marker, four numbers, `GO` and ten numbers."""
PROMPT = 6
"""Tokens of a question, and those of a text that are given to who continues it."""
QUESTIONS = 240
TOLD = 180
"""Questions that reference and teachers are trained on."""
HELD_OUT = QUESTIONS - TOLD
"""Questions of which probe and test are drawn."""


def readable(tokens: Iterable[int]) -> str:
    """Return the tokens of a number text as people read them: ``"<rise> 3 9 <go> 14"``."""
    return " ".join(_NAMES.get(token) or str(token - NUMBERS.start) for token in tokens)


_NAMES = dict(zip(MARKERS, FORMATS, strict=True)) | {GO: "<go>"}
