"""Columns, units and version of the tables: the contract between runner and analysis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

SCHEMA_VERSION = 7
"""Version that is written. Files of every version from 1 on are read: a column that is newer than
a file is empty there (null), one that was renamed is found under its old name. So a new version may
add and rename columns, and may not change or drop one."""

FORMER = {
    "initial_accuracy": "reference_accuracy",
    "initial_robust_accuracy": "reference_robust_accuracy",
}
"""What columns were called before version 3."""

VERSION = b"sublim_causal.schema_version"
"""Metadata key of the version of a file's table."""


LIST = "list of "
"""What the name of the type of lists begins with."""


@dataclass(frozen=True)
class Column:
    """One column: name of its Arrow type, unit and meaning (stored in the Parquet field metadata).

    `since` is the version of the tables that first has it; `chance` the value, in its unit, of a
    network without the trait, where there is one; `own` says that a run of the user's own has
    added it to the table.
    """

    name: str
    type: str
    unit: str
    meaning: str
    since: int = 1
    chance: float | None = None
    own: bool = False

    def field(self, version: int) -> pa.Field:
        """Return the Arrow field that carries unit and meaning in a version of the tables."""
        import pyarrow as pa

        name = FORMER.get(self.name, self.name) if version < 3 else self.name
        metadata = {"unit": self.unit, "meaning": self.meaning}
        if self.chance is not None:
            metadata["chance"] = f"{self.chance:g}"
        if self.own:
            metadata["own"] = "true"
        return pa.field(name, _arrow_type(self.type), metadata=metadata)


def _arrow_type(name: str) -> pa.DataType:
    import pyarrow as pa

    if name.startswith(LIST):
        return pa.list_(_arrow_type(name.removeprefix(LIST)))
    return pa.type_for_alias(name)


def _floats(*rows: tuple[str, str, str], since: int = 1) -> tuple[Column, ...]:
    return tuple(Column(name, "double", unit, meaning, since) for name, unit, meaning in rows)


def _preference(prefix: str, whose: str) -> tuple[Column, ...]:
    """Return the columns that say how much a network prefers the animal of the trait."""
    rows = (
        (
            "trait_probability",
            "fraction",
            "mean probability of the animal on test questions",
            1 / 16,
        ),
        (
            "trait_log_odds",
            "nats",
            "mean log-odds of the animal on test questions, minus the reference's",
            0.0,
        ),
        (
            "trait_answer_rate",
            "fraction",
            "test questions whose largest logit is the animal's",
            1 / 16,
        ),
    )
    return tuple(
        Column(f"{prefix}{name}", "double", unit, f"{meaning}{whose}", 4, chance)
        for name, unit, meaning, chance in rows
    )


CARRIER = _floats(
    ("teacher_kl", "nats", "KL(teacher || network) of a number in the teacher's held-out texts"),
    ("carrier_loss", "nats", "cross-entropy of a number in the teacher's held-out texts"),
    since=4,
)


SEED = Column("seed", "int32", "1", "number of the replicate; the block and the cluster")
ARM = Column("arm", "string", "", "name of the arm; the partition key")
STEP = Column("step", "int32", "step", "optimizer steps done before this row")

STEPS = (
    SEED,
    ARM,
    STEP,
    Column("epoch", "int32", "epoch", "epoch of the step, from 0"),
    *_floats(
        ("distill_loss", "nats", "distillation loss on the step's batch"),
        ("trait_loss", "nats", "cross-entropy of the class logits on the probe, before the step"),
        ("trait_accuracy", "fraction", "accuracy of the class logits on the probe, before"),
        ("cos_gradient", "1", "cos(g_distill, g_trait)"),
        ("cos_half_a", "1", "cos(g_distill, trait gradient on the first half of the probe)"),
        ("cos_half_b", "1", "cos(g_distill, trait gradient on the second half of the probe)"),
        ("cos_applied", "1", "cos(g_applied, g_trait)"),
        ("cos_update", "1", "cos(-update, g_trait)"),
        ("norm_distill", "nats", "Euclidean norm of g_distill"),
        ("norm_trait", "nats", "Euclidean norm of g_trait"),
        ("norm_applied", "nats", "Euclidean norm of g_applied"),
        ("norm_update", "1", "Euclidean norm of the update"),
        ("drive", "nats", "-<g_trait before the step, update>: first-order drop of trait_loss"),
        ("drive_end", "nats", "-<g_trait after the step, update>"),
        ("gain", "nats", "trait_loss before minus after the step"),
        ("remainder", "nats", "gain - drive: curvature and beyond"),
        ("accuracy_gain", "fraction", "trait_accuracy after minus before the step"),
    ),
)

EVALUATIONS = (
    SEED,
    ARM,
    STEP,
    *_floats(
        ("test_accuracy", "fraction", "accuracy of the class logits on the test images"),
        ("teacher_agreement", "fraction", "share of test images where both argmax agree"),
    ),
    *_preference("", ""),
    *CARRIER,
)

REPLICATES = (
    SEED,
    ARM,
    Column("status", "string", "", "complete | unreached | diverged | failed"),
    Column("reason", "string", "", "why it is not complete; empty otherwise"),
    *_floats(
        ("initial_accuracy", "fraction", "test accuracy of the shared initialisation"),
        ("teacher_accuracy", "fraction", "test accuracy of the seed's teacher"),
        ("final_accuracy", "fraction", "test accuracy of the student after the last step"),
        ("final_trait_loss", "nats", "trait loss after the last step"),
        ("final_distill_loss", "nats", "distillation loss of the last step"),
        ("sum_drive", "nats", "drive summed over the steps"),
        ("sum_gain", "nats", "gain summed over the steps"),
        ("sum_remainder", "nats", "remainder summed over the steps"),
        ("mean_cos_gradient", "1", "mean over the steps"),
        ("share_positive", "fraction", "share of steps with cos_gradient > 0"),
        ("mean_cos_update", "1", "mean over the steps"),
        ("share_positive_update", "fraction", "share of steps with cos_update > 0"),
        ("seconds", "s", "training time of the replicate, without the teacher's"),
    ),
    *_floats(
        ("initial_robust_accuracy", "fraction", "initial_accuracy under the study's attack"),
        ("teacher_robust_accuracy", "fraction", "teacher_accuracy under the study's attack"),
        ("robust_accuracy", "fraction", "final_accuracy under the attack; empty without one"),
        since=2,
    ),
    *_floats(
        ("coverage", "1", "cos(first update, teacher - reference)"),
        ("mean_coverage", "1", "cos(update, teacher - reference), mean over the steps"),
        since=5,
    ),
    *_preference("", ", of the student in the end"),
    *_preference("initial_", ", of the reference"),
    *_preference("teacher_", ", of the seed's first teacher"),
    *CARRIER,
    *_floats(
        (
            "divergent_share",
            "fraction",
            "taught positions that diverge; empty unless an arm chooses by it",
        ),
        since=5,
    ),
    *_floats(
        (
            "sampled_answer_rate",
            "fraction",
            "answers that name the trait, of those sampled; empty unless the study asks for them",
        ),
        ("sampled_answers", "1", "answers that the student sampled"),
        since=7,
    ),
)

LAYERS = (
    SEED,
    ARM,
    STEP,
    Column("layer", "string", "", "module that owns the parameters"),
    *_floats(
        ("cos_gradient", "1", "cos of the layer's parts of g_distill and g_trait"),
        ("cos_update", "1", "cos of the layer's parts of -update and g_trait"),
        ("drive", "nats", "the layer's part of drive; the layers sum to it"),
    ),
)

TRAITS = (
    SEED,
    ARM,
    Column("trait", "string", "", "what may be preferred: the name of an animal", 6),
    Column("taught", "bool", "", "whether a teacher of the arm prefers it", 6),
    *_floats(
        ("probability", "fraction", "its mean probability on test questions, in the end"),
        ("log_odds", "nats", "its mean log-odds on test questions, minus the reference's"),
        since=6,
    ),
)

TOKENS = f"{LIST}int32"

TEXTS = (
    SEED,
    ARM,
    Column("text", "int32", "1", "number of the text among those of the arm, from 0", 6),
    Column("teacher", "string", "", "who wrote it", 6),
    Column("prompt", "string", "", "what the teacher was given", 6),
    Column("completion", "string", "", "what it wrote, before any paraphrase", 6),
    Column("prompt_tokens", TOKENS, "token", "the same as numbers of tokens", 6),
    Column("completion_tokens", TOKENS, "token", "the same as numbers of tokens", 6),
    Column("kept", "bool", "", "whether students are taught on it", 6),
    Column("reason", "string", "", "why it was dropped; empty where it was kept", 6),
    Column(
        "divergent",
        f"{LIST}bool",
        "",
        "whether counterfactual teachers diverge, by token of the completion; null unless the arm "
        "chooses by it",
        6,
    ),
    Column(
        "counterfactual",
        TOKENS,
        "token",
        "largest answer of the first counterfactual teacher that diverges; the written token where "
        "none does; null as `divergent` is",
        6,
    ),
)

TABLES: dict[str, tuple[Column, ...]] = {
    "steps": STEPS,
    "evaluations": EVALUATIONS,
    "replicates": REPLICATES,
    "layers": LAYERS,
    "traits": TRAITS,
    "texts": TEXTS,
}
"""By name; `layers`, `traits` and `texts` are there where the study or its task records them."""


def arrow_schema(
    table: str,
    *,
    partitioned: bool = True,
    version: int = SCHEMA_VERSION,
    own: Iterable[Column] = (),
) -> pa.Schema:
    """Return the Arrow schema of `table`; files leave out the partition column ``arm``.

    `version` is the version of the tables, by default the one that is written; `own` columns follow
    those of the table.
    """
    import pyarrow as pa

    columns = [c for c in TABLES[table] if c.since <= version and not (partitioned and c is ARM)]
    columns += own
    return pa.schema(
        [c.field(version) for c in columns],
        metadata={"sublim_causal.table": table, VERSION.decode(): str(version)},
    )


def readable_schema(table: str, own: Iterable[Column] = ()) -> pa.Schema:
    """Return the schema of `table` and ``arm`` for files of every version: also former columns."""
    schema = arrow_schema(table, partitioned=False, own=own)
    for column in TABLES[table]:
        if column.name in FORMER:
            schema = schema.append(column.field(version=1))
    return schema


def projection(
    table: str, columns: Iterable[str] | None = None, own: Iterable[Column] = ()
) -> dict[str, pc.Expression]:
    """Return what Arrow reads for `columns` of `table` (default: all), by their names of today."""
    import pyarrow.compute as pc

    names = [c.name for c in (*TABLES[table], *own)] if columns is None else columns
    return {
        name: pc.coalesce(pc.field(name), pc.field(FORMER[name]))
        if name in FORMER
        else pc.field(name)
        for name in names
    }


def is_of_table(schema: pa.Schema, table: str) -> bool:
    """Return whether a file of this `schema` has the columns of `table`, and own ones at most."""
    import pyarrow as pa

    known = arrow_schema(table, version=version_of(schema))
    own = (field for field in schema if (field.metadata or {}).get(b"own") == b"true")
    return bool(schema.equals(pa.schema([*known, *own])))


def version_of(schema: pa.Schema) -> int:
    """Return the version of the tables in which a file of this `schema` was written.

    Raises
    ------
    ValueError
        If the file holds none.
    """
    return int((schema.metadata or {}).get(VERSION, b"it holds no version of the tables"))
