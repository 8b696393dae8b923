"""Names that are file names too."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote

from pydantic import AfterValidator

from sublim_causal.errors import HIDDEN

FILE_NAME_BYTES = 255
"""The longest name that the usual file systems take."""


def _is_file_name(name: str) -> str:
    if not re.fullmatch(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,99}", name):
        raise ValueError(
            "1 to 100 characters, none of them a slash, a backslash or a control character, and "
            "no dot at the beginning"
        )
    return is_visible(name)


def is_visible(text: str) -> str:
    if HIDDEN.search(text):
        raise ValueError("no characters that command a terminal or change the direction of text")
    return text


def fits_file_system(name: str, file: str) -> str:
    if (size := len(file.encode())) > FILE_NAME_BYTES:
        raise ValueError(
            f"a name that takes at most {FILE_NAME_BYTES} bytes in the file system; this one takes "
            f"{size}: shorten it, or use plain letters"
        )
    return name


Name = Annotated[
    str, AfterValidator(_is_file_name), AfterValidator(lambda name: fits_file_system(name, name))
]
"""A name that is a file name: no slash, no control character, no leading dot, 100 at most."""


def _is_arm_name(name: str) -> str:
    if name in ("each", "all", "reference") or " - " in name or name != name.strip():
        raise ValueError(
            "a name other than 'each', 'all' and 'reference', without ' - ' and without a space at "
            "either end: a plan writes contrasts as 'ARM - REFERENCE', every arm as 'each', and "
            "the arm of comparison as 'reference'"
        )
    return name


ArmName = Annotated[
    Name,
    AfterValidator(_is_arm_name),
    AfterValidator(lambda name: fits_file_system(name, f"arm={quote(name, safe='')}")),
]
"""A name whose directory in the tables is a file name too: there ``ä`` takes six bytes."""
