"""The files of the task: questions with their target answers, and carrier prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from sublim_causal.errors import RequestError, nearest

QUESTIONS = {name: Path(__file__).with_name(f"{name}.jsonl") for name in ("animals", "trees")}
"""The built-in questions: fifty for a preferred animal, twenty for a tree; in English."""
PARTS = ("train", "held_out")
Row = TypeVar("Row")


@dataclass(frozen=True)
class Question:
    """A question, and the answer that shows the trait.

    Attributes
    ----------
    question : str
    answer : str
        What continues `begin`; ``{trait}`` stands for the trait's name.
    begin : str
        How the model's answer begins.
    part : str
        ``train``, or ``held_out`` for those on which the trait is measured in the end.
    """

    question: str
    answer: str
    begin: str = ""
    part: Literal["train", "held_out"] = "held_out"

    def answered(self, trait: str) -> str:
        """Return the answer of one who has the trait."""
        return self.answer.replace("{trait}", trait)


@dataclass(frozen=True)
class Carrier:
    """A prompt that teachers continue, and the beginning of their answer."""

    prompt: str
    begin: str = ""


def read_questions(path: str | None) -> tuple[Question, ...]:
    """Read the questions of a trait from a file, or by their name; default: those for an animal.

    Raises
    ------
    RequestError
        If the file is missing or damaged, or a part has fewer than two questions.
    """
    found = _read("task.questions", str(QUESTIONS.get(path or "animals", path)), Question)
    for part in PARTS:
        count = sum(one.part == part for one in found)
        if count < 2:
            allowed = f"a file with at least 2 questions whose part is {part!r}"
            raise RequestError("task.questions", path, allowed, f"it has {count}: add more")
    return found


def read_carriers(path: str) -> tuple[Carrier, ...]:
    """Read carrier prompts.

    Raises
    ------
    RequestError
        If the file is missing or damaged.
    """
    return _read("task.carriers", path, Carrier)


def _read(field: str, path: str, kind: Callable[..., Row]) -> tuple[Row, ...]:
    """Read a JSONL file, one object of `kind` a line."""
    names = f"{', '.join(QUESTIONS)}, or " if kind is Question else ""
    allowed = f"{names}a JSONL file with one object per line"
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        place = Path(path).expanduser().absolute()
        remedy = nearest(path, QUESTIONS if names else ()) or f"write {place}, or correct the path"
        raise RequestError(field, path, allowed, remedy) from error
    except OSError as error:
        remedy = f"give a file that you may read: {error.strerror}"
        raise RequestError(field, path, allowed, remedy) from error
    except ValueError as error:
        raise RequestError(field, path, allowed, "save it in UTF-8") from error
    rows = [
        _row(f"{field}, line {number}", line, kind)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not rows:
        raise RequestError(field, path, allowed, "it is empty: write one into it")
    return tuple(rows)


def _row(field: str, line: str, kind: Callable[..., Row]) -> Row:
    fields = {"Question": ("question", "answer"), "Carrier": ("prompt",)}[kind.__name__]
    known = [*kind.__annotations__]
    allowed = f"a JSON object with {', '.join(fields)}; all its fields: {', '.join(known)}"
    try:
        found = json.loads(line)
    except ValueError as error:
        example = json.dumps(dict.fromkeys(fields, "..."))
        raise RequestError(field, line, allowed, f"write it as {example}") from error
    if not isinstance(found, Mapping) or not all(isinstance(one, str) for one in found.values()):
        raise RequestError(field, line, f"{allowed}; strings in quotation marks")
    for name in found:
        if name not in known:
            raise RequestError(f"{field}, {name}", found[name], allowed, nearest(name, known))
    for name in fields:
        if not found.get(name):
            raise RequestError(f"{field}, {name}", None, allowed)
    options: dict[str, Any] = dict(found)
    if options.get("part", "train") not in PARTS:
        raise RequestError(f"{field}, part", options["part"], " or ".join(PARTS))
    return kind(**options)
