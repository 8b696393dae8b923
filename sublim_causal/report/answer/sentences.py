"""The sentences of the answer, in the order of their questions."""

from __future__ import annotations

from collections.abc import Iterator

from sublim_causal.report.answer.cautions import cautions
from sublim_causal.report.answer.claims import claims
from sublim_causal.report.answer.control import control
from sublim_causal.report.answer.pathways import pathways
from sublim_causal.report.answer.persistence import persistence
from sublim_causal.report.answer.transfer import transfer
from sublim_causal.report.elements import Sentence
from sublim_causal.report.material import Material

PERSISTS = "Does alignment persist through training?"
STOPS = "Does removing alignment stop the transfer?"
THROUGH = "How much of the transfer goes through alignment?"
CONTROL = "What does the control show?"
CLAIMS = "Are the claims of the plan supported?"
WRONG = "What could still be wrong?"


def answer(material: Material) -> Iterator[Sentence]:
    """Yield the sentences in the order of their questions."""
    for question, part in (
        (PERSISTS, persistence),
        (STOPS, transfer),
        (THROUGH, pathways),
        (CONTROL, control),
        (CLAIMS, claims),
        (WRONG, cautions),
    ):
        for i, one in enumerate(part(material)):
            yield Sentence(one.text, one.verdict, one.anchor, question if i == 0 else "")
