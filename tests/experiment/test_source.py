"""Classes read from source, without running a line of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sublim_causal.errors import RequestError
from sublim_causal.experiment.imports import Contract, import_class
from sublim_causal.experiment.interventions import CONTRACT
from sublim_causal.experiment.source import find_class, source_file

RUNS = "raise SystemExit('it ran')\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the end of the path, as that of a study file."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return tmp_path


def test_a_class_is_found_with_what_it_inherits(folder: Path) -> None:
    (folder / "sc_base.py").write_text(
        RUNS + "class Base:\n    space: str = 'update'\n    def init(self, context): ...\n"
    )
    (folder / "sc_mine.py").write_text(
        RUNS + "from sc_base import Base as Other\n"
        "class Mine(Other):\n    uses_trait = False\n    def apply(self): ...\n"
    )
    found = find_class("sc_mine", "Mine")
    assert found is not None
    assert found.members == {"space", "init", "uses_trait", "apply"}
    assert found.complete
    assert found.file == folder / "sc_mine.py"
    imported = find_class("sc_mine", "Other")
    assert imported is not None
    assert imported.file == folder / "sc_base.py"
    assert find_class("sc_mine", "Missing") is None


def test_packages_are_searched_without_importing_them(folder: Path) -> None:
    package = folder / "sc_package"
    package.mkdir()
    (package / "__init__.py").write_text(RUNS + "from .inner import Mine\n")
    (package / "inner.py").write_text(RUNS + "try:\n    class Mine: ...\nexcept OSError: ...\n")
    for module in ("sc_package", "sc_package.inner"):
        found = find_class(module, "Mine")
        assert found is not None
        assert found.file == package / "inner.py"
    assert "sc_package" not in sys.modules
    assert source_file("sc_package.none") is None
    assert source_file("sc_package.inner.none") is None


def test_classes_that_import_each_other_end(folder: Path) -> None:
    (folder / "sc_a.py").write_text("from sc_b import Mine\n")
    (folder / "sc_b.py").write_text("from sc_a import Mine\n")
    assert find_class("sc_a", "Mine") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (RUNS + "def Mine(**options): ...\n", "defines or imports the class by name"),
        (RUNS + "Mine = print\n", "defines or imports the class by name"),
        (RUNS + "import os as Mine\n", "defines or imports the class by name"),
        (RUNS + "class Mine:\n    def apply(self): ...\n", "init(context) and apply("),
        (RUNS + "class Mine(:\n", "SyntaxError"),
        (RUNS + "x = " + "(" * 5000 + ")" * 5000, "reading 'sc_wrong' failed with"),
        (RUNS + "x = '\0'\n", "reading 'sc_wrong' failed with"),
        ("class Mine(dict): ...\n", "init(context) and apply("),
        ("raise OSError('no')\nclass Mine(dict): ...\n", "failed with OSError: no"),
    ],
)
def test_what_is_no_class_of_the_contract_is_refused(folder: Path, text: str, said: str) -> None:
    (folder / "sc_wrong.py").write_text(text)
    sys.modules.pop("sc_wrong", None)
    with pytest.raises(RequestError) as refused:
        import_class("arms.a.intervention", "sc_wrong:Mine", CONTRACT)
    assert said in str(refused.value)


@pytest.mark.parametrize("name", ["subprocess:run", "os:system", "builtins:exec", "antigravity:a"])
def test_functions_of_libraries_are_never_called(name: str) -> None:
    with pytest.raises(RequestError):
        import_class("model.class", name, Contract("a class", (frozenset({"forward"}),)))
    assert "antigravity" not in sys.modules
