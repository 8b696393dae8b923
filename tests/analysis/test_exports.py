"""The package exports its names lazily, and stays free of torch."""

import subprocess
import sys

import pytest

from sublim_causal import analysis

LIGHT = """
import sys
import sublim_causal.analysis as a
[getattr(a, name) for name in ("analyse", "load_plan", "paired_contrast", "power_table")]
heavy = {"torch", "mlflow", "statsmodels", "linearmodels", "matplotlib"} & set(sys.modules)
sys.exit(f"loaded: {heavy}" if heavy else 0)
"""


@pytest.mark.parametrize("name", analysis.__all__)
def test_every_exported_name_is_there(name):
    assert callable(getattr(analysis, name))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="analyze"):
        _ = analysis.analyze


def test_importing_and_naming_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
