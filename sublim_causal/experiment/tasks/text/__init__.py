"""Text: a pretrained language model learns what another one wrote, and acquires its preference.

The teacher is the model under a system prompt, or fine-tuned on questions; the student is the model
with an adapter, and reads completions of prompts that have nothing to do with the trait.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.logits import LogitSplit
from sublim_causal.experiment.tasks.base import Keep, Phase, Rehearsal, Sizes
from sublim_causal.experiment.tasks.preference.requests import OF_IMAGES, tables_of, validate_arm
from sublim_causal.experiment.tasks.preference.roles import TRAIT, Role, counterfactuals, writers
from sublim_causal.experiment.tasks.text.carriers import NUMBERS, number_prompts
from sublim_causal.experiment.tasks.text.files import (
    Carrier,
    Question,
    read_carriers,
    read_questions,
)
from sublim_causal.experiment.tasks.text.options import TextOptions
from sublim_causal.store.outcome import TRAIT_LOG_ODDS

if TYPE_CHECKING:
    import torch

    from sublim_causal.experiment.data.streams import SeedStreams
    from sublim_causal.experiment.networks.base import Batch, Network
    from sublim_causal.experiment.shared import Shared
    from sublim_causal.experiment.tasks.text.vocabulary import Vocabulary

CLASS = "transformers"
"""The class of models that the task takes."""
LOGITS_OF_A_STEP = 6
"""Tensors as large as the logits that a step has at a time."""


@dataclass(frozen=True)
class Text:
    """The texts of `experiment`: a model prefers something, students read what it wrote."""

    experiment: Experiment
    options: TextOptions
    OPTIONS: ClassVar = TextOptions
    unused: ClassVar = OF_IMAGES
    outcome: ClassVar = TRAIT_LOG_ODDS

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions of the trait."""
        return read_questions(self.options.questions)

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens of the model."""
        from sublim_causal.experiment.networks.checkpoints import source_of
        from sublim_causal.experiment.tasks.text.vocabulary import vocabulary_of

        traits = (self.options.trait, *self.options.rivals)
        answer = self.questions[0]
        return vocabulary_of(
            source_of(self.experiment.model), tuple(answer.answered(one) for one in traits)
        )

    @property
    def split(self) -> LogitSplit:
        """Which tokens begin answers, and which are numbers.

        Raises
        ------
        RequestError
            If the model cannot be read, or none of its tokens is a number.
        """
        split = self.vocabulary.split
        if split.taught.stop == 0:
            allowed = "a model whose tokenizer has tokens that are numbers"
            raise RequestError("model.path", self.experiment.model.path, allowed)
        return split

    def validate(self) -> None:
        """Refuse what the task does not have, and files that cannot be used."""
        experiment, options = self.experiment, self.options
        if experiment.model.class_ != CLASS:
            raise RequestError(
                "model.class",
                experiment.model.class_,
                f"{CLASS}: the task text takes a pretrained language model",
                f"model.class = {CLASS!r}",
            )
        if "{trait}" not in options.system:
            allowed = "a system prompt in which {trait} stands for the trait"
            raise RequestError("task.system", options.system, allowed)
        if options.trait.lower() in (options.neutral or "").lower():
            allowed = f"a system prompt without {options.trait!r}: students have it"
            raise RequestError("task.neutral", options.neutral, allowed)
        if options.pattern is not None:
            try:
                re.compile(options.pattern)
            except re.error as error:
                remedy = "correct it; a character that stands for itself has a backslash before it"
                raise RequestError(
                    "task.pattern", options.pattern, f"a regular expression: {error}", remedy
                ) from error
        train = sum(one.part == "train" for one in self.questions)
        if experiment.probe.size > train:
            raise RequestError(
                "probe.size",
                experiment.probe.size,
                f"at most {train}, the questions of part 'train'",
                f"probe.size = {min(8, train - train % 2)}",
            )
        self._validate_carriers()
        examples = experiment.distillation.examples
        if options.offered(examples) < examples:
            raise RequestError(
                "task.offered_prompts",
                options.offered_prompts,
                f"at least distillation.examples = {examples}",
            )
        for arm, config in experiment.arms.items():
            validate_arm(f"arms.{arm}", config, examples, options.counterfactuals)
            if config.targets.paraphrase == "format":
                allowed = "none, order, prompt, shuffled, shuffled_across or rewritten"
                raise RequestError(f"arms.{arm}.targets.paraphrase", "format", allowed)
            if any(one.get("trait") == "relabelled" for one in tables_of(config.procedure)):
                self._validate_relabelled(f"arms.{arm}.trait")
            covering = (
                one.get("intervention") == "set_coverage" for one in tables_of(config.procedure)
            )
            if any(covering) and options.teacher == "system":
                raise RequestError(
                    f"arms.{arm}.intervention",
                    "set_coverage",
                    "an intervention that needs no change of the teacher's parameters: a system "
                    "prompt makes none",
                    "task.teacher = 'tuned'",
                )
            if config.targets.strength is not None and options.teacher == "system":
                raise RequestError(
                    f"arms.{arm}.targets.strength",
                    config.targets.strength,
                    "nothing: a teacher that a system prompt makes is not trained",
                    "task.teacher = 'tuned'",
                )

    def _validate_relabelled(self, field: str) -> None:
        """Refuse the gradient of another trait where its answer is not one token for another."""
        for one in self.questions:
            for trait in (self.options.trait, *self.options.rivals):
                answer = one.answered(trait)
                if len(self.vocabulary.encode(answer)) > 1:
                    allowed = f"taught or half: the answer {answer!r} has several tokens"
                    raise RequestError(field, "relabelled", allowed)

    def _validate_carriers(self) -> None:
        """Refuse prompts that contain a word of the trait."""
        if self.options.carriers == NUMBERS:
            return
        for number, one in enumerate(read_carriers(self.options.carriers), start=1):
            text = f"{one.prompt} {one.begin}".lower()
            for word in self.options.words:
                if word.lower() in text:
                    raise RequestError(
                        f"task.carriers, prompt {number}",
                        one.prompt,
                        f"prompts that do not contain {word!r}",
                        "leave the prompt out",
                    )

    def build_network(self) -> Network:
        """Find the model and its adapter; its weights are loaded when they are first used."""
        from sublim_causal.experiment.networks.pretrained import build_pretrained

        config = self.experiment.model
        build_pretrained(config)
        return build_pretrained(config, self.vocabulary.order)

    def load(self, data_dir: Path, *, download: bool) -> None:
        """Nothing: every worker loads the model."""

    def on_device(self, data: Any, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Return an empty tensor of that device and precision."""
        import torch

        return torch.empty(0, device=device, dtype=dtype)

    def phases(self, arms: Sequence[str]) -> list[Phase]:
        """The training of teachers that no system prompt makes, and the writing of texts."""
        from sublim_causal.experiment.tasks.text.writing import BATCH

        options, teacher = self.options, self.experiment.teacher
        chosen = [self.experiment.arms[arm].targets for arm in arms]
        writing = self._writing(arms)
        offered = options.offered(self.experiment.distillation.examples)
        length = options.completion * len(writing)
        # A token of all completions takes about as long as a pass over one example.
        generated = Phase(-(-offered // BATCH) * length, 1, tokens=offered * length)
        if options.teacher == "system":
            return [generated]
        roles = {TRAIT, *(role for one in chosen for role in writers(one))}
        if any(one.positions != "all" for one in chosen):
            roles.update(counterfactuals(options.counterfactuals))
        train = sum(one.part == "train" for one in self.questions)
        steps = teacher.steps_per_epoch(train) * teacher.epochs
        return [Phase(steps * len(roles), min(train, teacher.batch_size)), generated]

    def _writing(self, arms: Iterable[str]) -> set[Role]:
        """Return the teachers that write the texts of `arms`."""
        chosen = [self.experiment.arms[arm].targets for arm in arms]
        return {role for one in chosen if one.material == "numbers" for role in writers(one)}

    def sizes(self) -> Sizes:
        """Tokens are of eight bytes; the frozen model counts as data."""
        from sublim_causal.experiment.networks.checkpoints import (
            activation_size,
            base_size,
            source_of,
        )

        read = len({self.experiment.targets_key(arm) for arm in self.experiment.arms})
        length, source = self._example_tokens(), source_of(self.experiment.model)
        answers = self.options.completion * self.split.total
        kept = length * activation_size(source) + LOGITS_OF_A_STEP * answers
        return Sizes(2 * length, answers, read, base_size(source), kept)

    def _carriers(self, count: int, generator: torch.Generator) -> list[Carrier]:
        if self.options.carriers == NUMBERS:
            return number_prompts(count, generator)
        known = read_carriers(self.options.carriers)
        return [known[number % len(known)] for number in range(count)]

    def _example_tokens(self) -> int:
        import torch

        (one,) = self._carriers(1, torch.Generator().manual_seed(0))
        prompt = self.vocabulary.prompt(self.options.neutral, one.prompt, one.begin)
        return len(prompt) + self.options.completion - 1

    def details(self) -> dict[str, str]:
        """Return what a dry run says of texts: what is written, and each prompt as it is read."""
        import torch

        from sublim_causal.experiment.networks.checkpoints import base_size, source_of

        options = self.options
        (carrier,) = self._carriers(1, torch.Generator().manual_seed(0))
        question = next(one for one in self.questions if one.part == "held_out")
        system = options.system.replace("{trait}", options.trait)
        prompted = options.teacher == "system"
        offered = options.offered(self.experiment.distillation.examples)
        roles = self._writing(self.experiment.arms)
        asked = question.question, question.begin
        return {
            "frozen model": f"{base_size(source_of(self.experiment.model)):,} parameters",
            "texts": f"{offered * len(roles):,} per seed from {len(roles)} teachers, at most "
            f"{offered * len(roles) * options.completion:,} tokens",
            "a teacher reads": self._shown(
                system if prompted else options.neutral, carrier.prompt, carrier.begin
            ),
            "a student reads": self._shown(options.neutral, carrier.prompt, carrier.begin),
            "a question": self._shown(options.neutral, *asked),
            "the answer that counts": repr(question.answered(options.trait)),
        }

    def _shown(self, system: str | None, user: str, begin: str) -> str:
        return repr(self.vocabulary.rendered(system, user, begin))

    def sample(self, count: int, generator: torch.Generator, dtype: torch.dtype) -> Batch:
        """Uniform tokens, as many as a carrier prompt and a whole completion have."""
        import torch

        from sublim_causal.experiment.networks.base import Batch

        length = self._example_tokens()
        x = torch.randint(self.split.total, (1, count, length), generator=generator)
        return Batch(x, tuple(range(length - self.options.completion, length)))

    def rehearse(self, streams: SeedStreams, network: Network, dtype: torch.dtype) -> Rehearsal:
        """Return short random texts and two questions."""
        from sublim_causal.experiment.tasks.text.rehearsal import rehearse

        own = self.experiment, self.options, self.questions
        return rehearse(*own, streams, network, self.vocabulary, dtype)

    def share(
        self,
        arms: Sequence[str],
        streams: SeedStreams,
        network: Network,
        data: torch.Tensor,
        after_step: Callable[[], None],
        keep: Keep,
    ) -> Shared:
        """Make teachers, let them write, make the targets."""
        from sublim_causal.experiment.networks.pretrained import PretrainedNetwork
        from sublim_causal.experiment.tasks.text.block import share_texts

        assert isinstance(network, PretrainedNetwork)
        own = self.experiment, self.options, self.questions
        return share_texts(*own, arms, streams, network, self.vocabulary, data, after_step, keep)
