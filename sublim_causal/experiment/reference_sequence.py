"""The experiment on texts for one seed and one arm, in plain torch: `reference`, its second part.

`run_arm` trains a reference on the language, a teacher that prefers an animal, lets the teacher
write numbers, and trains a student on them: an ``nn.Module``, Adam, autograd, no cache, one seed at
a time, float64. A test holds the batched experiment equal to it. It shares with the rest of the
package the options of interventions, the random streams and the language.

It covers the transformer, the first teacher, all positions, the channels `soft` and `sampled`,
students that begin at the reference, Adam, and the interventions in `changed`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sublim_causal.declared import validate_declared
from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.data.streams import stream
from sublim_causal.experiment.interventions import build_interventions
from sublim_causal.experiment.interventions.base import Intervention
from sublim_causal.experiment.interventions.baseline import Baseline
from sublim_causal.experiment.interventions.liminal import Liminal
from sublim_causal.experiment.interventions.projection import Projection
from sublim_causal.experiment.interventions.set_cosine import SetCosine
from sublim_causal.experiment.interventions.shuffled import Shuffled
from sublim_causal.experiment.networks.transformer import Sizes
from sublim_causal.experiment.reference import (
    Rows,
    adam_of,
    batches,
    coefficient,
    flat,
    gradient,
    row_of,
    set_gradient,
    set_parameters,
    with_cosine,
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


class Decoder(nn.Module):
    """A pre-norm transformer over tokens: weights N(0, 1/fan_in), embeddings N(0, 0.09)."""

    def __init__(self, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__()
        width, heads, blocks = sizes.width, sizes.heads, sizes.blocks
        self.token = nn.Parameter(0.3 * torch.randn(TOKENS, width, generator=generator))
        self.position = nn.Parameter(0.3 * torch.randn(CONTEXT, width, generator=generator))
        self.blocks = nn.Sequential(
            *(Block(width, heads, blocks, generator) for _ in range(blocks))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, TOKENS, bias=False)
        draw_weight(self.head, 1.0, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(B, L, tokens)`` of what follows each of the tokens ``(B, L)``."""
        h = self.token[x] + self.position[: x.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(h)))
        return logits


class Block(nn.Module):
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


@dataclass(frozen=True)
class OneSeed:
    """What all arms of a seed share.

    Attributes
    ----------
    initial, teacher : Decoder
        The reference, and what it became when it learned to prefer the animal.
    texts : int64 Tensor of shape (N, 16)
        What the teacher wrote.
    probe, test : int64 Tensor of shape (N, 6)
        Questions of the trait loss, and those on which the student is judged.
    animal : int
        The token that the teacher prefers.
    direction_seed : int
        Seed of the directions that `Shuffled` draws.
    """

    experiment: Experiment
    seed: int
    initial: Decoder
    teacher: Decoder
    texts: Tensor
    probe: Tensor
    test: Tensor
    animal: int
    direction_seed: int


@dataclass(frozen=True)
class Moment:
    """What an intervention may look at in one step of the student.

    Attributes
    ----------
    x : int64 Tensor of shape (B, 15)
        The step's texts, without the last token.
    """

    shared: OneSeed
    student: Decoder
    x: Tensor
    step: int


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
    validate_covered(experiment, arm)
    return distil(begin(experiment, seed), arm)


def validate_covered(experiment: Experiment, arm: str) -> None:
    """Refuse what this module does not cover; the rest of the package does."""
    config = experiment.arms[arm]
    plain = Experiment.model_validate(
        {"name": "plain", "arms": {"a": {"intervention": "baseline"}}}
    )
    soft = plain.arms["a"].channel
    sampled = soft.model_copy(update={"name": "sampled"})
    for field, value, covered in (
        ("task.name", experiment.task.name, ["preference"]),
        ("model.class", experiment.model.class_, ["transformer"]),
        ("teacher.optimizer", experiment.teacher.optimizer, ["adam"]),
        ("distillation.optimizer", experiment.distillation.optimizer, ["adam"]),
        (f"arms.{arm}.student", config.student, [plain.arms["a"].student]),
        (
            f"arms.{arm}.channel",
            config.channel,
            [soft, sampled],
        ),
        (f"arms.{arm}.targets", config.targets, [plain.arms["a"].targets]),
    ):
        if value not in covered:
            allowed = f"{' or '.join(map(repr, covered))} in this loop; run_block covers all"
            raise RequestError(field, value, allowed)


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
        trait_loss(teacher, told[index], animal).backward()
        adam.step()
        if probability(teacher, probe, animal).mean() >= options.strength:
            break
    direction_seed = torch.randint(2**62, (1,), generator=stream(name, seed, "intervention"))
    texts = write(teacher, experiment, stream(name, seed, "texts"))
    return OneSeed(
        experiment, seed, initial, teacher, texts, probe, test, animal, int(direction_seed)
    )


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


def distil(shared: OneSeed, arm: str) -> Rows:
    """Train a student on what the teacher wrote, and record how that moves the trait."""
    experiment = shared.experiment
    interventions = build_interventions(f"arms.{arm}", experiment.arms[arm].procedure)
    student = deepcopy(shared.initial)
    adam = adam_of(student, experiment.distillation.learning_rate)
    order = stream(experiment.name, shared.seed, "student order")
    first, second = shared.probe.split(experiment.probe.size // 2)
    rows = Rows()
    for step, index in enumerate(batches(order, len(shared.texts), experiment.distillation)):
        texts = shared.texts[index]
        x = texts[:, :-1]
        log_s = F.log_softmax(student(x)[:, TAUGHT_POSITIONS, NUMBERS], dim=2)
        if experiment.arms[arm].channel.name == "sampled":
            numbers = texts[:, PROMPT:] - NUMBERS.start
            loss = F.nll_loss(log_s.flatten(0, 1), numbers.flatten())
        else:
            with torch.no_grad():
                q = F.softmax(shared.teacher(x)[:, TAUGHT_POSITIONS, NUMBERS], dim=2)
            loss = F.kl_div(log_s, q, reduction="none").sum(dim=2).mean()
        g = gradient(loss, student)
        before_loss, g_trait = trait(student, shared.probe, shared.animal)
        halves = [trait(student, half, shared.animal)[1] for half in (first, second)]

        now = Moment(shared, student, x, step)
        applied = intervene(interventions, "gradient", g, g_trait, now)
        before = flat(student.parameters())
        set_gradient(student, applied)
        adam.step()
        if any(one.space == "update" for one in interventions):
            descent = before - flat(student.parameters())
            descent = intervene(interventions, "update", descent, g_trait, now)
            set_parameters(student, before - descent)
        update = flat(student.parameters()) - before
        after_loss, g_after = trait(student, shared.probe, shared.animal)
        row = {
            "distill_loss": loss.detach(),
            "trait_loss": before_loss,
            **row_of(g, g_trait, halves, applied, update, g_after),
            "gain": before_loss - after_loss,
            "remainder": before_loss - after_loss + g_trait @ update,
        }
        for name, value in row.items():
            rows.setdefault(name, []).append(float(value))
    p = probability(student, shared.test, shared.animal)
    base = probability(shared.initial, shared.test, shared.animal)
    rows["trait_probability"] = [float(p.mean())]
    rows["trait_log_odds"] = [float((p.logit() - base.logit()).mean())]
    return rows


def intervene(
    interventions: Iterable[Intervention], space: str, v: Tensor, g: Tensor, now: Moment
) -> Tensor:
    """Change `v` ``(P,)`` by the interventions that act in `space`; `g` is the trait gradient."""
    for one in interventions:
        if one.space == space:
            v = changed(one, v, g, now)
    return v


def changed(one: Intervention, v: Tensor, g: Tensor, now: Moment) -> Tensor:
    """Return what one intervention makes of `v`."""
    match one:
        case Baseline():
            return v
        case Projection(layers=()):
            return v - one.strength * coefficient(v, g, one.when) * g
        case SetCosine(trait="taught"):
            return with_cosine(v, g, one.cosine)
        case Shuffled(shuffle="coordinates", draw="step"):
            return v - one.strength * coefficient(v, g, one.when) * permuted(g, now)
        case Liminal(schedule="critical", logits="all"):
            return v + liminal(one, now)
    raise RequestError("intervention", type(one).__name__, "what this loop covers")


def permuted(g: Tensor, now: Moment) -> Tensor:
    """Return `g` with the entries of each parameter permuted, at every step anew."""
    generator = torch.Generator().manual_seed(now.shared.direction_seed + now.step)
    parts = g.split([p.numel() for p in now.student.parameters()])
    return torch.cat([part[torch.randperm(len(part), generator=generator)] for part in parts])


def liminal(one: Liminal, now: Moment) -> Tensor:
    """Return the gradient of lambda KL(reference || student) on the step's texts, in epoch 1."""
    config = now.shared.experiment.distillation
    weight = one.weight if now.step < config.steps_per_epoch(config.examples) else 0.0
    with torch.no_grad():
        anchor = F.softmax(now.shared.initial(now.x)[:, TAUGHT_POSITIONS], dim=2)
    log_s = F.log_softmax(now.student(now.x)[:, TAUGHT_POSITIONS], dim=2)
    divergence = F.kl_div(log_s, anchor, reduction="none").sum(dim=2).mean()
    return weight * gradient(divergence, now.student)


def trait(model: Decoder, asked: Tensor, animal: int) -> tuple[Tensor, Tensor]:
    """Return the trait loss, and its gradient ``(P,)``."""
    loss = trait_loss(model, asked, animal)
    return loss.detach(), gradient(loss, model)


def trait_loss(model: Decoder, asked: Tensor, animal: int) -> Tensor:
    """Return the cross-entropy of the animal as the answer to questions ``(N, 6)``."""
    return -F.log_softmax(model(asked)[:, -1], dim=1)[:, animal].mean()


@torch.no_grad()
def probability(model: Decoder, asked: Tensor, animal: int) -> Tensor:
    """Return the probability ``(N,)`` of the animal as the answer."""
    return F.softmax(model(asked)[:, -1], dim=1)[:, animal]
