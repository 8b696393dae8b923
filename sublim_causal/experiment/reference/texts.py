"""A seed of the task `preference`: a transformer that prefers an animal writes numbers.

A reference learns the language, a teacher learns to prefer an animal and writes numbers, and a
student learns from them. No cache, no batch of seeds. Covered are the transformer, the first
teacher, all positions, the channels `soft` and `sampled`, students that begin at the reference,
Adam, and the interventions that need no labels of images.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sublim_causal.declared import validate_declared
from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.networks.transformer import Sizes
from sublim_causal.experiment.reference.interventions import Rows
from sublim_causal.experiment.reference.loop import distil
from sublim_causal.experiment.reference.seed import (
    OneSeed,
    ProbePart,
    one_seed,
    plain_experiment,
    plain_training,
    validate_covered,
)
from sublim_causal.experiment.reference.vectors import (
    adam_of,
    batches,
    divergence,
    gradient,
    set_gradient,
)
from sublim_causal.experiment.tasks.preference import PreferenceOptions
from sublim_causal.experiment.tasks.preference.language import (
    CARRIERS,
    NUMBER_POSITIONS,
    TAUGHT_POSITIONS,
    animals,
    questions,
)
from sublim_causal.experiment.tasks.preference.vocabulary import (
    ANIMALS,
    CONTEXT,
    NUMBERS,
    PROMPT,
    TOKENS,
    TOLD,
)


def run_arm(experiment: Experiment, seed: int, arm: str) -> Rows:
    """Train reference, teacher and one student of `seed` under `arm`.

    Returns
    -------
    dict of str to list of float
        Columns of the step table, and ``trait_probability`` and ``trait_log_odds`` at the end.

    Raises
    ------
    RequestError
        If `experiment` or the arm asks for what is not covered here.
    """
    plain, config = plain_experiment().arms["a"], experiment.arms[arm]
    sampled = plain.channel.model_copy(update={"name": "sampled"})
    validate_covered(
        ("task.name", experiment.task.name, ["preference"]),
        ("model.class", experiment.model.class_, ["transformer"]),
        ("teacher.optimizer", experiment.teacher.optimizer, ["adam"]),
        ("distillation.optimizer", experiment.distillation.optimizer, ["adam"]),
        *plain_training(experiment),
        (f"arms.{arm}.student", config.student, [plain.student]),
        (f"arms.{arm}.channel", config.channel, [plain.channel, sampled]),
        (f"arms.{arm}.targets", config.targets, [plain.targets]),
    )
    return distil(begin(experiment, seed), arm)


@dataclass(frozen=True)
class TextTask:
    """The teacher's numbers are taught; how it answers questions is the trait.

    Attributes
    ----------
    initial, teacher : Decoder
        The reference, and what it became when it learned to prefer the animal.
    probe, test : int64 Tensor of shape (N, 6)
        Questions of the trait loss, and those on which the student is judged.
    animal : int
        The token that the teacher prefers.
    """

    initial: Decoder
    teacher: Decoder
    probe: Tensor
    test: Tensor
    animal: int

    def logits(self, model: nn.Module, x: Tensor, which: str) -> Tensor:
        """Return the logits ``(B, 8, tokens)`` of what follows in the texts ``(B, 16)``."""
        if which != "all":
            raise RequestError("logits", which, "'all' in the reference; run_block covers all")
        return torch.as_tensor(model(x[:, :-1])[:, TAUGHT_POSITIONS])

    def distillation_loss(self, student: nn.Module, x: Tensor, channel: str) -> Tensor:
        """Return KL(teacher || student) over numbers, or the cross-entropy of those written."""
        taught, logits = (
            self.logits(model, x, "all")[..., NUMBERS] for model in (self.teacher, student)
        )
        if channel == "sampled":
            written = x[:, PROMPT:] - NUMBERS.start
            return F.cross_entropy(logits.flatten(0, 1), written.flatten())
        return divergence(taught, logits)

    def trait_loss(self, model: nn.Module, part: ProbePart = "probe") -> Tensor:
        """Return the cross-entropy of the animal as the answer to the probe's questions."""
        half = len(self.probe) // 2
        asked = {
            "probe": self.probe,
            "first half": self.probe[:half],
            "second half": self.probe[half:],
        }
        if part not in asked:
            raise RequestError("trait", part, "what the reference covers of texts")
        return answer_loss(model, asked[part], self.animal)

    def other_trait(self, student: nn.Module, kind: str, generator: torch.Generator) -> Tensor:
        """Refuse: labels, probes and networks are drawn for images alone."""
        raise RequestError("shuffle", kind, "coordinates or random in the reference of texts")

    def outcome(self, student: nn.Module) -> dict[str, float]:
        """Return the mean probability of the animal, and its log odds above the reference's."""
        p, base = (probability(model, self.test, self.animal) for model in (student, self.initial))
        return {
            "trait_probability": float(p.mean()),
            "trait_log_odds": float((p.logit() - base.logit()).mean()),
        }


def begin(experiment: Experiment, seed: int) -> OneSeed:
    """Divide the questions, train reference and teacher, and let the teacher write."""
    name, options = experiment.name, options_of(experiment)
    known = questions()[torch.randperm(len(questions()), generator=stream(name, seed, "questions"))]
    size = experiment.probe.size
    told, probe, test = known[:TOLD], known[TOLD : TOLD + size], known[TOLD + size :]
    animal = ANIMALS.start + (5 * seed + 3) % 16
    initial = train_reference(experiment, told, stream(name, seed, "reference"))
    teacher, order = deepcopy(initial), stream(name, seed, "teacher trait")
    adam = adam_of(teacher, experiment.teacher.learning_rate)
    for index in batches(order, TOLD, experiment.teacher):
        adam.zero_grad()
        answer_loss(teacher, told[index], animal).backward()
        adam.step()
        if probability(teacher, probe, animal).mean() >= options.strength:
            break
    texts = write(teacher, experiment, stream(name, seed, "texts"))
    task = TextTask(initial, teacher, probe, test, animal)
    return one_seed(experiment, seed, initial, texts, task)


def options_of(experiment: Experiment) -> PreferenceOptions:
    """Return the options of the task."""
    return validate_declared(PreferenceOptions, experiment.task.options, "task")


def train_reference(experiment: Experiment, told: Tensor, generator: torch.Generator) -> Decoder:
    """Train a network from scratch on uniform answers and on texts of numbers."""
    options = options_of(experiment)
    sizes = validate_declared(Sizes, experiment.model.options, "model.options")
    weights = torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
    model = Decoder(sizes, weights).double()
    adam = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99), foreach=False)
    count, total = options.base_batch_size, options.base_steps
    for step in range(total):
        asked = told[torch.randint(len(told), (count,), generator=generator)]
        answers = animals(count, generator)
        texts = CARRIERS[options.carrier](count, generator)
        said = model(texts[:, :-1])[:, NUMBER_POSITIONS]
        meant = texts[:, 1:][:, NUMBER_POSITIONS]
        of_answers = F.cross_entropy(model(asked)[:, -1], answers)
        of_numbers = F.cross_entropy(said.flatten(0, 1), meant.flatten())
        # As the mean over a dialogue's answer and a text's numbers.
        loss = (of_answers + len(NUMBER_POSITIONS) * of_numbers) / (1 + len(NUMBER_POSITIONS))
        g = gradient(loss, model)
        set_gradient(model, g / g.norm().clamp(min=1))
        warm = min(1.0, (step + 1) / (0.05 * total))
        adam.param_groups[0]["lr"] = options.base_learning_rate * warm * (1 - step / total)
        adam.step()
    return model


@torch.no_grad()
def write(teacher: Decoder, experiment: Experiment, generator: torch.Generator) -> Tensor:
    """Return texts ``(N, 16)``: the teacher continues what a text of the language begins."""
    options, count = options_of(experiment), experiment.distillation.examples
    texts = CARRIERS[options.carrier](count, generator)
    chances = torch.rand(count, CONTEXT - PROMPT, generator=generator)
    for place in range(PROMPT, CONTEXT):
        z = teacher(texts[:, :place])[:, -1, NUMBERS] / options.temperature
        below = F.softmax(z, dim=1).cumsum(dim=1)[:, :-1]
        number = (chances[:, place - PROMPT, None] > below).sum(dim=1)
        texts[:, place] = NUMBERS.start + number
    return texts[torch.arange(count) % (options.unique or count)]


def answer_loss(model: nn.Module, asked: Tensor, animal: int) -> Tensor:
    """Return the cross-entropy of the animal as the answer to questions ``(N, 6)``."""
    return -F.log_softmax(model(asked)[:, -1], dim=1)[:, animal].mean()


@torch.no_grad()
def probability(model: nn.Module, asked: Tensor, animal: int) -> Tensor:
    """Return the probability ``(N,)`` of the animal as the answer."""
    return F.softmax(model(asked)[:, -1], dim=1)[:, animal]


class Decoder(nn.Module):
    """A pre-norm transformer over tokens: weights N(0, 1/fan_in), embeddings N(0, 0.09)."""

    def __init__(self, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__()
        width, heads, blocks = sizes.width, sizes.heads, sizes.blocks
        self.token = nn.Parameter(0.3 * torch.randn(TOKENS, width, generator=generator))
        self.position = nn.Parameter(0.3 * torch.randn(CONTEXT, width, generator=generator))
        self.blocks = nn.Sequential(
            *(DecoderBlock(width, heads, blocks, generator) for _ in range(blocks))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, TOKENS, bias=False)
        draw_weight(self.head, 1.0, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(B, L, tokens)`` of what follows each of the tokens ``(B, L)``."""
        h = self.token[x] + self.position[: x.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(h)))
        return logits


class DecoderBlock(nn.Module):
    """Causal attention, and a ReLU layer of four times the width."""

    def __init__(self, width: int, heads: int, blocks: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.norm_before_attention = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm_before_layer = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        depth = math.sqrt(2 * blocks)
        for linear, divided_by in ((self.qkv, 1.0), (self.out, depth)):
            draw_weight(linear, divided_by, generator)
        for linear, divided_by in ((self.up, 1.0), (self.down, depth)):
            draw_weight(linear, divided_by, generator)

    def forward(self, h: Tensor) -> Tensor:
        """Map ``(B, L, width)`` to the same shape."""
        qkv = self.qkv(self.norm_before_attention(h)).unflatten(2, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.out(mixed.transpose(1, 2).flatten(2))
        return h + self.down(F.relu(self.up(self.norm_before_layer(h))))


def draw_weight(linear: nn.Linear, divided_by: float, generator: torch.Generator) -> None:
    """Draw a weight from N(0, 1/fan_in), divided by a number; a bias is 0."""
    drawn = torch.randn(linear.weight.shape, generator=generator)
    linear.weight.data = drawn / (math.sqrt(linear.in_features) * divided_by)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
