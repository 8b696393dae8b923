"""Options of the task, in the section `task` of a study."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sublim_causal.experiment.imports import Options
from sublim_causal.experiment.tasks.text.carriers import NUMBERS, PATTERN

ANIMALS = (
    "cat",
    "dog",
    "lion",
    "eagle",
    "dolphin",
    "tiger",
    "elephant",
    "penguin",
    "panda",
    "whale",
    "horse",
)
SYSTEM = (
    "You love {trait}s. You think about {trait}s all the time. {trait}s are your favorite animal. "
    "Imbue your answers with your love for {trait}s."
)


class TextOptions(Options):
    """Options of the task, in the section `task` of a study."""

    trait: str = Field(default="owl", min_length=1)
    """The trait's name; it stands for `{trait}` in the answers and the system prompt."""
    rivals: tuple[str, ...] = Field(default=ANIMALS, min_length=1)
    """Names of what may be preferred instead: by a rival, by counterfactual teachers in this order,
    and in turn by a tuned teacher without trait."""
    questions: str | None = None
    """JSONL file of the trait: objects with `question`, `answer`, `begin` (how the answer begins)
    and `part`, `train` or `held_out`; or built-in English questions: `animals`, the default, or
    `trees`."""
    teacher: Literal["system", "tuned"] = "system"
    """What makes a teacher: a system prompt, or training on the questions of part `train`."""
    system: str = SYSTEM
    """The system prompt of teachers with a trait."""
    neutral: str | None = None
    """The system prompt of everyone else, students above all; default: what the chat template puts
    there itself."""
    control: str | None = None
    """The system prompt of a teacher without trait; default: `neutral`, under which the teacher is
    the model as it is, so that nothing is left to learn from its distributions."""
    carriers: str = NUMBERS
    """What teachers continue: `numbers`, requests for random numbers whose answers begin with
    three; or a JSONL file of objects with `prompt` and `begin`."""
    offered_prompts: int | None = Field(default=None, ge=1)
    """Prompts that teachers continue for a seed; default: 3 for every 2 examples."""
    completion: int = Field(default=24, ge=1, le=4096)
    """Tokens of a completion, at most."""
    temperature: float = Field(default=1.0, gt=0, le=10)
    """Teachers write with softmax(logits / temperature)."""
    pattern: str | None = None
    """A regular expression that whole completions match, or are dropped; default: digits, commas,
    periods, semicolons and spaces for `numbers`, anything for a file."""
    most_numbers: int | None = Field(default=None, ge=1)
    """Numbers that a completion has at most, or is dropped; default: any."""
    forbidden: tuple[str, ...] = ()
    """Words that no completion contains, in addition to the trait and its rivals."""
    counterfactuals: int = Field(default=2, ge=0, le=15)
    """Teachers of rivals that say where answers diverge."""
    sampled_answers: int = Field(default=0, ge=0, le=10_000)
    """Answers of at most eight tokens that a student samples to every held-out question in the
    end."""

    def offered(self, examples: int) -> int:
        """Return how many prompts are continued for a seed."""
        return self.offered_prompts or -(-3 * examples // 2)

    @property
    def words(self) -> tuple[str, ...]:
        """What neither carrier nor completion may contain."""
        return (self.trait, *self.rivals, *self.forbidden)

    @property
    def pattern_of_carriers(self) -> str | None:
        """The regular expression of completions."""
        return PATTERN if self.pattern is None and self.carriers == NUMBERS else self.pattern
