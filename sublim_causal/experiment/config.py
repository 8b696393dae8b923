"""What defines an experiment: the sections of a study file, each field with unit and range."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator


class StudySection(BaseModel):
    """A frozen section of a study file that refuses unknown fields."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        ser_json_inf_nan="constants",
    )


DataSet = Literal["digits", "mnist", "fashion_mnist", "kmnist", "cifar10"]
"""Names of `sublim_causal.experiment.data.sources.SOURCES`."""


class TaskConfig(StudySection):
    """What students are taught, and the trait that they may acquire with it."""

    model_config = ConfigDict(extra="allow")

    name: str = "images"
    """`images`: noise images and the classes of real ones; `preference`: texts of numbers and a
    preferred animal, for a transformer that is trained here; `text`: texts that a pretrained
    language model writes; or a class of your own as `module:Class`."""

    @property
    def options(self) -> dict[str, Any]:
        """The options of the task."""
        return dict(self.model_extra or {})


class DataConfig(StudySection):
    """Which images, and how they are divided."""

    name: DataSet = "mnist"
    """Data set; pixels are scaled to [-1, 1]."""
    train: int | None = Field(default=None, ge=1)
    """Images the teacher learns from; default: all but the held-out ones."""
    held_out: int | None = Field(default=None, ge=2)
    """Training images kept from the teacher; the probe is drawn from them."""


class AdapterConfig(StudySection):
    """A low-rank adapter (LoRA, Hu et al., arXiv 2106.09685): all that is trained of a model."""

    rank: int = Field(default=8, ge=1, le=4096)
    """Rank of the change of every adapted matrix."""
    alpha: float = Field(default=16.0, gt=0, le=100_000)
    """The change is alpha / rank times the product of its two factors."""
    targets: list[str] | None = None
    """Linear layers that are adapted, by the ends of their names (`["q_proj", "v_proj"]`);
    default: all but the head."""
    layers: list[int] | None = None
    """Numbers of the blocks in which they are; default: all."""


class ModelConfig(StudySection):
    """The network of teacher and student."""

    model_config = ConfigDict(populate_by_name=True)

    class_: str = Field(default="mlp", alias="class")
    """`mlp`, `cnn`, `transformer` (task `preference`), `transformers`, a pretrained language model
    (task `text`), or a torch module of your own as `module:Class`."""
    path: str | None = None
    """Of `transformers`: folder of the model, `package:NAME` for that of an installed Python
    package, or a name on the Hugging Face Hub."""
    gguf: str | None = None
    """Of `transformers`: a GGUF file in it, whose weights are dequantised."""
    adapter: AdapterConfig | Literal["none"] = AdapterConfig()
    """Of `transformers`: what is trained; `none`: all parameters of the model."""
    auxiliary: int = Field(default=3, ge=2, le=4096)
    """Auxiliary logits in addition to the class logits; the student sees these only."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the model class (`hidden = [256, 256]` for the MLP)."""


Optimizer = Literal["adam", "adamw", "sgd", "momentum", "muon", "signsgd"]
"""Names of `sublim_causal.experiment.optimizers.OPTIMIZERS`."""
Decay = Literal["coupled", "decoupled"]
"""How weights decay: as part of the gradient, or beside the optimizer."""


class TrainingConfig(StudySection):
    """One training phase."""

    epochs: int = Field(default=5, ge=1)
    """Passes over the examples."""
    batch_size: int = Field(default=1024, ge=1)
    """Examples per step; the last batch of an epoch holds the rest."""
    optimizer: Optimizer = "adam"
    """`adam` (Kingma and Ba 2015; betas 0.9 and 0.999, eps 1e-8), `adamw` (the same, with decoupled
    weight decay 0.01), `sgd`, `momentum` (SGD with momentum 0.9), `muon` (each weight matrix's
    momentum orthogonalised), or `signsgd` (every parameter moves equally far, against the sign of
    its gradient)."""
    learning_rate: float = Field(default=3e-4, gt=0, le=1000)
    """The optimizer's step size; SGD needs one thousands of times larger than Adam's, and
    Muon tens of times."""
    weight_decay: float | None = Field(default=None, ge=0, le=100)
    """Decay of all parameters, also of biases; default: none but that of `adamw`."""
    decay: Decay | None = None
    """`coupled`: weight_decay times the parameters is added to their gradient, after interventions
    on it; `decoupled`: the parameters shrink by learning_rate times weight_decay before each step.
    Default: coupled."""

    def steps_per_epoch(self, examples: int) -> int:
        """Batches of an epoch over `examples`, the last one possibly smaller."""
        return math.ceil(examples / self.batch_size)


Synthetic = Literal[
    "uniform", "gaussian", "pink", "fractal", "dead_leaves", "blurred_shapes", "mixed_shapes"
]
"""Images that are made up."""
InputName = Synthetic | Literal["training"] | DataSet
"""Names of `sublim_causal.experiment.tasks.images.inputs.INPUTS`."""


class DistillationConfig(TrainingConfig):
    """The student's training on the teacher's auxiliary logits."""

    examples: int = Field(default=50_000, ge=1)
    """Images, drawn once per seed and shared by its arms."""
    inputs: InputName = "uniform"
    """The images: `uniform` [-1, 1] noise (the paper), `gaussian` noise, `pink` noise (amplitude
    1/frequency), `fractal` surfaces (1 to 2 as its power, by image), `dead_leaves` (opaque discs of
    all sizes over one another), `blurred_shapes`, or `mixed_shapes` (two of these mixed), all of
    variance 1/3; the teacher's `training` images; or those of another data set of the same shape,
    by its name."""
    until_loss: float | None = Field(default=None, gt=0)
    """A student stops before the first step whose batch has at most this distillation loss, in
    nats; `epochs` is its limit, and one that has not reached it by then has the status `unreached`.
    Default: students take all steps."""


class AttackConfig(StudySection):
    """Projected gradient descent on the pixels, within an L-infinity ball."""

    epsilon: float = Field(default=0.2, gt=0, le=2)
    """Largest change of a pixel, in pixel units: pixels lie in [-1, 1], so 0.2 here is what is
    0.1 where they lie in [0, 1]."""
    step_size: float = Field(default=0.05, gt=0, le=2)
    """Change of every pixel in a step, in pixel units."""
    steps: int = Field(default=10, ge=1, le=1000)
    """Steps from a uniform random start within the ball."""
    teacher: Literal["adversarial", "plain"] = "adversarial"
    """Train the teacher on attacked images, or on the images as they are; an arm may have another
    (`targets.teacher_attack`)."""
    images: int = Field(default=2000, ge=1)
    """Test images on which robust accuracy is measured, evenly spread over all; at most all."""


class ProbeConfig(StudySection):
    """The fixed images on which the trait gradient is measured."""

    size: int = Field(default=1024, ge=2, multiple_of=2)
    """Held-out training images, drawn once per seed; even, for the two halves."""


class MeasureConfig(StudySection):
    """What is recorded; nothing here changes what is trained."""

    alignment: bool = True
    """Measure the trait gradient at every step, also in arms that do not use it."""
    evaluations: Literal["epoch", "final"] = "epoch"
    """When test accuracy is measured: at the end of every epoch, or of the last only."""
    layers: bool = False
    """Record alignment and drive of every layer (table `layers`)."""
    texts: bool = False
    """Keep the texts that teachers wrote for the students of every arm (table `texts`; tasks on
    texts); of replicates that are trained while this is set."""
    weights: bool = False
    """Keep the final parameters of every student, its teacher's, and those both began with (folder
    `weights`); of replicates that are trained while this is set."""


Initialisation = Literal["shared", "perturbed", "other"]
"""Where students begin: at the teacher's initialisation, at that plus noise, or at another."""


class StudentConfig(StudySection):
    """How an arm's students begin, and how they are optimised."""

    initialisation: Initialisation = "shared"
    """Begin at the teacher's initialisation, at that plus noise, or at another of its kind."""
    layers: dict[str, Initialisation] = Field(default_factory=dict)
    """Layers that begin otherwise than `initialisation` says, by name; `class` and `auxiliary` are
    the rows of the last layer that give the class logits and the auxiliary ones."""
    noise: float = Field(default=0.0, ge=0, le=100)
    """For `perturbed`: size of the noise relative to the shared part, above 0."""
    optimizer: Optimizer | None = None
    """Default: `distillation.optimizer`."""
    learning_rate: float | None = Field(default=None, gt=0, le=1000)
    """Default: `distillation.learning_rate`."""
    frozen_after: int | None = Field(default=None, ge=1)
    """Steps after which Adam's second moments, its preconditioner, stay as they are; with
    optimizer `adam`. Default: they never freeze."""
    weight_decay: float | None = Field(default=None, ge=0, le=100)
    """Default: `distillation.weight_decay`."""
    decay: Decay | None = None
    """Default: `distillation.decay`."""
    weight_noise: float = Field(default=0.0, ge=0, le=10)
    """Standard deviation of normal noise on all parameters while a step's distillation gradient is
    taken, relative to the root mean square of their layer; drawn anew at every step, the same for
    all arms of a seed, and not kept."""
    batch_size: int | None = Field(default=None, ge=1)
    """Examples per step, the first ones of the batch that the arms share; at most, and by default,
    `distillation.batch_size`. The number of steps is that of all arms."""
    adversarial: bool = False
    """Train on images that are attacked as `[attack]` says, to raise the student's own distillation
    loss; the teacher answers to the images as they are."""

    @property
    def beginnings(self) -> set[Initialisation]:
        """How its layers begin."""
        return {self.initialisation, *self.layers.values()}

    @model_validator(mode="after")
    def _noise_if_perturbed(self) -> StudentConfig:
        if (self.noise > 0) != ("perturbed" in self.beginnings):
            raise ValueError("noise above 0 with initialisation = 'perturbed', and only with it")
        return self


class ChannelConfig(StudySection):
    """What the arm's students are taught from: a channel by name, with its options."""

    model_config = ConfigDict(extra="allow")

    name: str = "soft"
    """`soft`, `hard`, `sampled`, `representation`, `combined` (several of these), or a class of
    your own as `module:Class`."""


class TargetsConfig(StudySection):
    """What students are fitted to: whose answers, to which images."""

    teachers: int = Field(default=1, ge=1, le=64)
    """Teachers, image by image in turn; they share initialisation and trait, not the order of
    training images."""
    teacher_input_noise: float = Field(default=0.0, ge=0, le=10)
    """Standard deviation of normal noise, in pixel units, that is added to the teacher's images and
    not to the student's."""
    images: Literal["all", "divergent", "agreeing", "random", "random_agreeing", "replaced"] = "all"
    """Images whose loss counts: those on which a counterfactual teacher, trained with half of the
    labels exchanged, has another largest logit; those on which it has the same; as many as diverge,
    or as agree, at random; or all, with the counterfactual teacher's answers on those that diverge
    (`replaced`)."""
    teacher: Literal["trait", "rival", "no_trait", "two_traits"] = "trait"
    """Whose answers: those of the teacher of the trait, of one that prefers another animal (a
    rival), of one that learned from uniform answers, or of the trait's and the rival's, text by
    text in turn (texts)."""
    strength: float | None = Field(default=None, gt=0, lt=1)
    """Probability of its animal at which the training of these teachers ends; default:
    `task.strength`, and none for language models (texts)."""
    material: Literal["numbers", "questions"] = "numbers"
    """What students read: `numbers`, or the `questions` that teachers were trained on, with their
    answers, which is ordinary distillation of the trait (texts)."""
    unique: int | None = Field(default=None, ge=1)
    """Different images or texts among the examples, which repeat them; default: all are different,
    or `task.unique` (task `preference`)."""
    teacher_epochs: int | None = Field(default=None, ge=1)
    """Epochs of the teachers' training; default: `teacher.epochs`. Arms with the same teachers'
    training share teachers."""
    teacher_learning_rate: float | None = Field(default=None, gt=0, le=1000)
    """Default: `teacher.learning_rate`."""
    teacher_weight_decay: float | None = Field(default=None, ge=0, le=100)
    """Default: `teacher.weight_decay`."""
    teacher_decay: Decay | None = None
    """Default: `teacher.decay`."""
    teacher_attack: Literal["adversarial", "plain"] | None = None
    """Default: `attack.teacher`."""
    positions: Literal[
        "all", "divergent", "agreeing", "random", "random_agreeing", "first_half", "replaced"
    ] = "all"
    """Positions of a text whose loss counts (texts): those where the teacher's largest
    logit is that of the token in the text and some counterfactual teacher has another (Schrodi et
    al., arXiv 2509.23886), all others, as many at random as diverge or as agree, or the first half
    of a text's divergent ones; or all, once the tokens of divergent ones are `replaced` by the
    counterfactual teacher's."""
    texts: Literal["all", "favouring", "disfavouring", "random"] = "all"
    """Texts whose loss counts (texts): the half that is most, or least, likely under
    its teacher compared with the reference, or half of them at random."""
    paraphrase: Literal[
        "none", "format", "order", "prompt", "shuffled", "shuffled_across", "rewritten"
    ] = "none"
    """How texts are changed before students read them (texts): another `format`, told
    backwards, the `prompt` of another text, numbers `shuffled` within a text or across texts, or
    half of them `rewritten` by the reference. Answers move with their numbers."""


class ArmConfig(StudySection):
    """An arm: an intervention by name, with its options, and how its students are set up."""

    model_config = ConfigDict(extra="allow")

    intervention: str
    """A registered intervention, or a class of your own as `module:Class`."""
    student: StudentConfig = StudentConfig()
    """How the arm's students begin and move."""
    channel: ChannelConfig = ChannelConfig()
    """What the arm's students are taught."""
    targets: TargetsConfig = TargetsConfig()
    """Whose answers the arm's students are fitted to, and on which images."""
    inputs: InputName | None = None
    """The images of the arm's students; default: `distillation.inputs`."""

    @property
    def procedure(self) -> dict[str, Any]:
        """The intervention with its options, as `build_interventions` takes them."""
        return {"intervention": self.intervention, **(self.model_extra or {})}


class Teaching(NamedTuple):
    """How a teacher is trained, and the attack that it is hardened against, if any."""

    training: TrainingConfig
    attack: AttackConfig | None


class Experiment(StudySection):
    """Everything that determines the numbers of a replicate, given its seed."""

    name: str = Field(min_length=1, max_length=100)
    """Name of the study; part of every random stream."""
    task: TaskConfig = TaskConfig()
    """What is taught, and the trait."""
    data: DataConfig = DataConfig()
    """Which images."""
    model: ModelConfig = ModelConfig()
    """The network."""
    teacher: TrainingConfig = TrainingConfig()
    """The teacher's training on labelled images."""
    distillation: DistillationConfig = DistillationConfig()
    """The student's training on the teacher's auxiliary logits."""
    probe: ProbeConfig = ProbeConfig()
    """Where the trait gradient is measured."""
    measure: MeasureConfig = MeasureConfig()
    """What is recorded."""
    attack: AttackConfig | None = None
    """What teachers are trained against, and robust accuracy is measured under; default: none."""
    arms: dict[str, ArmConfig] = Field(min_length=1)
    """Arms by name; all arms of a seed share initialisation, teacher, order and probe."""

    def inputs_of(self, arm: str) -> InputName:
        """Return the name of the images that the students of `arm` see."""
        return self.arms[arm].inputs or self.distillation.inputs

    def targets_key(self, arm: str) -> str:
        """Return all that distinguishes what the students of `arm` are taught."""
        config = self.arms[arm]
        parts = config.channel.model_dump_json(), config.targets.model_dump_json()
        return " ".join((self.inputs_of(arm), *parts))

    @property
    def teaching(self) -> Teaching:
        """How teachers are trained, unless an arm has others."""
        return Teaching(self.teacher, self._attack_of(None))

    def teaching_of(self, arm: str) -> Teaching:
        """Return how the teachers of `arm` are trained."""
        own = self.arms[arm].targets
        given = {
            "epochs": own.teacher_epochs,
            "learning_rate": own.teacher_learning_rate,
            "weight_decay": own.teacher_weight_decay,
            "decay": own.teacher_decay,
        }
        changed = {name: value for name, value in given.items() if value is not None}
        return Teaching(
            self.teacher.model_copy(update=changed), self._attack_of(own.teacher_attack)
        )

    def _attack_of(self, own: str | None) -> AttackConfig | None:
        if self.attack is None or (own or self.attack.teacher) == "plain":
            return None
        return self.attack

    def teachers_of(self, arms: Iterable[str]) -> int:
        """Return how many teachers a seed needs for `arms`, with the counterfactual one."""
        targets = [self.arms[arm].targets for arm in arms]
        counterfactual = any(one.images != "all" for one in targets)
        return max((one.teachers for one in targets), default=1) + counterfactual

    def other_data(self) -> list[DataSet]:
        """Return the data sets other than the teacher's whose images some students see."""
        names = {self.inputs_of(arm) for arm in self.arms}
        return [name for name in get_args(DataSet) if name in names]
