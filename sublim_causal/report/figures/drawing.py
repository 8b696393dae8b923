"""SVG and PDF of figures."""

from __future__ import annotations

import io
import multiprocessing
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from matplotlib.backends import _backend_pdf_ps
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font

from sublim_causal.errors import escaped
from sublim_causal.report.elements import Picture
from sublim_causal.report.figures.style import MONOSPACE, settings

FALLBACKS = {"DejaVu Sans": "Verdana, Arial, sans-serif", MONOSPACE: "Menlo, Consolas, monospace"}
"""Fonts that replace those of a figure where a page lacks them, of similar width."""
LAYOUT_TABLES = ("GSUB", "GPOS", "GDEF", "MATH", "kern")
"""Tables of a font that place letters, which a PDF has placed already."""


@dataclass(frozen=True)
class Drawing:
    """A picture as it is written."""

    svg: str
    pdf: bytes


def drawings(pictures: Sequence[Picture]) -> dict[str, Drawing]:
    """Return the drawings of `pictures` by name; their figures are emptied.

    Where the system forks processes, a second one draws every other picture.
    """
    halves = pictures[::2], pictures[1::2]
    if sys.platform != "linux" or not halves[1]:
        return {**_draw(halves[0]), **_draw(halves[1])}
    receiver, sender = multiprocessing.Pipe(duplex=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads, which draw nothing
        child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            sender.send(_draw(halves[1]))
        finally:
            os._exit(0)
    sender.close()
    try:
        drawn = _draw(halves[0])
        try:
            return {**drawn, **receiver.recv()}
        except EOFError:  # it failed, which is seen here, or was killed
            return {**drawn, **_draw(halves[1])}
    finally:
        receiver.close()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _draw(pictures: Sequence[Picture]) -> dict[str, Drawing]:
    drawn = {}
    with shared_fonts():
        for one in pictures:
            drawn[one.name] = Drawing(svg(one.figure, one.name), pdf(one.figure))
            for axes in one.figure.axes:  # what they hold is large, and not needed any more
                axes.remove()
    return drawn


def svg(figure: Figure, name: str) -> str:
    """Return `figure` as an SVG element: no XML prologue, ids unique to `name`, no date."""
    buffer = io.StringIO()
    with settings(**{"svg.hashsalt": name}):
        figure.set_dpi(120)
        # Not `savefig`, which draws every figure twice, the first time into nothing.
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    figure.set_layout_engine("none")  # what is placed stays placed, and costs no second time
    text = escaped(buffer.getvalue())
    for font, others in FALLBACKS.items():
        text = text.replace(f"'{font}'", f"'{font}', {others}")
    # Several pictures share a page: their ids must differ, and what refers to them must follow.
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text[text.index("<svg") :])


def pdf(figure: Figure) -> bytes:
    """Return `figure` as PDF without dates."""
    buffer = io.BytesIO()
    with settings():
        figure.set_dpi(200)
        FigureCanvasPdf(figure).print_pdf(buffer, metadata={"CreationDate": None})
    return buffer.getvalue()


@contextmanager
def shared_fonts() -> Iterator[None]:
    """Let the PDFs that are written meanwhile embed the same few glyphs of each font.

    matplotlib reads the whole font for each figure, which takes most of the time of a PDF. Here it
    is read again only for a figure with new glyphs, and without `LAYOUT_TABLES`.
    """
    backend: Any = _backend_pdf_ps
    choose, load = backend.get_glyphs_subset, backend.subset.load_font
    chosen: dict[str, tuple[frozenset[int], Any]] = {}

    def load_glyphs(file: Any, options: Any, **more: Any) -> Any:
        font = load(file, options, **more)
        for table in LAYOUT_TABLES:
            if table in font:
                del font[table]
        return font

    def choose_once(file: Any, glyphs: Iterable[int]) -> AbstractContextManager[Any]:
        known, made = chosen.get(str(file)) or (ascii_glyphs(file), None)
        if made is None or not known.issuperset(glyphs):
            known = known.union(glyphs)
            made = open_fonts.enter_context(choose(file, set(known)))
            chosen[str(file)] = (known, made)
        return nullcontext(made)

    with ExitStack() as open_fonts:
        backend.get_glyphs_subset, backend.subset.load_font = choose_once, load_glyphs
        try:
            yield
        finally:
            backend.get_glyphs_subset, backend.subset.load_font = choose, load


def ascii_glyphs(file: Any) -> frozenset[int]:
    """Return the numbers of the glyphs of printable ASCII characters in a font."""
    font = get_font(file)
    return frozenset(font.get_char_index(code) for code in range(32, 127))
