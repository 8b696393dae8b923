"""How the documentation site is built: ``python -m sphinx -W docs build/docs``, offline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

sys.path.append(str(Path(__file__).parent))

project = "sublim_causal"
author = "The sublim_causal authors"
copyright = author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "fields",
]
default_role = "py:obj"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "sublim_causal"
html_math_renderer = "mathml"


def write_math(translator: Any, node: Any) -> None:
    """Write a formula as MathML, which a browser shows without a script or a network."""
    text = node.astext()
    block = node.tagname == "math_block"
    if block and "\\\\" in text:
        text = f"\\begin{{aligned}}{text}\\end{{aligned}}"
    formula = tex2mathml(text, as_block=block)
    translator.body.append(f'<div class="math">{formula}</div>' if block else formula)
    raise SkipNode


def setup(app: Sphinx) -> None:
    """Register the MathML renderer."""
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
