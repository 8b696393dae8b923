"""How a model's texts become tokens: its chat template, and the numbers of its tokens.

The task numbers tokens so that those of numbers come first and those that begin the answers for
the trait and its rivals follow: a student may be taught a slice of the logits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.networks.checkpoints import Source, tokenizer_of, vocabulary_size


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a model, in the order of the task.

    Attributes
    ----------
    source : Source
    answers : tuple of str
        What may be answered: the trait's answer and those of its rivals.
    """

    source: Source
    answers: tuple[str, ...]

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return tokenizer_of(self.source)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The model's number of each token."""
        return (*self._numbers, *self._first, *self._rest)

    @cached_property
    def place(self) -> dict[int, int]:
        """The task's number of each token of the model."""
        return {token: place for place, token in enumerate(self.order)}

    @property
    def split(self) -> LogitSplit:
        """Which tokens are answers, and which are numbers."""
        numbers, first = len(self._numbers), len(self._first)
        return LogitSplit(len(self.order), slice(numbers, numbers + first), slice(0, numbers))

    @property
    def end(self) -> int:
        """The token with which a text ends."""
        return self.place[self.tokenizer.eos_token_id]

    @cached_property
    def _numbers(self) -> tuple[int, ...]:
        known = self.tokenizer.get_vocab().items()
        return tuple(sorted(number for token, number in known if token.strip("Ġ▁ ").isdecimal()))

    @cached_property
    def _first(self) -> tuple[int, ...]:
        """The first token of every answer."""
        first = (self._tokens(one)[0] for one in self.answers)
        return tuple(dict.fromkeys(one for one in first if one not in self._numbers))

    @cached_property
    def _rest(self) -> tuple[int, ...]:
        before = {*self._numbers, *self._first}
        return tuple(one for one in range(vocabulary_size(self.source)) if one not in before)

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text; nothing is added."""
        return [self.place[token] for token in self._tokens(text)]

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens, without those that only mark its end."""
        return str(self.tokenizer.decode([self.order[one] for one in tokens if one != self.end]))

    def rendered(self, system: str | None, user: str, begin: str) -> str:
        """Return what a model reads: the chat up to the beginning of its answer.

        Without a chat template the parts stand in paragraphs of their own. `system` None leaves
        the template's own system prompt, if it has one.
        """
        if self.tokenizer.chat_template is None:
            start = self.tokenizer.bos_token or ""
            parts = [part for part in (system, user) if part]
            return start + "\n\n".join([*parts, begin])
        messages = [{"role": "user", "content": user}]
        if system is not None:
            messages = [{"role": "system", "content": system}, *messages]
        chat = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return f"{chat}{begin}"

    def prompt(self, system: str | None, user: str, begin: str) -> list[int]:
        """Return the tokens of the same."""
        return self.encode(self.rendered(system, user, begin))


@lru_cache(maxsize=2)
def vocabulary_of(source: Source, answers: tuple[str, ...]) -> Vocabulary:
    """Return the vocabulary, built once in a process."""
    return Vocabulary(source, answers)


def padded(
    rows: Sequence[Sequence[int]], width: int, *, left: bool, filler: int
) -> list[list[int]]:
    """Return rows of `width` numbers, filled up at one side."""
    return [
        [filler] * (width - len(row)) + list(row)
        if left
        else list(row) + [filler] * (width - len(row))
        for row in rows
    ]
