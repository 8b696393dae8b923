"""The built wheel works from any directory, without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from sublim_causal.store.tables import read_table
from tests.study.commands import TINY

pytestmark = pytest.mark.end_to_end

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, and our dependencies by path."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    source = folder / "source"
    subprocess.run(
        ["git", "-C", str(CHECKOUT), "checkout-index", "-a", "--prefix", f"{source}/"], check=True
    )
    subprocess.run([*build, str(source)], check=True, capture_output=True)
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    site = next((folder / "env" / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    (wheel,) = folder.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "-q"]
    subprocess.run([*pip, str(wheel)], check=True)
    return python


def test_the_wheel_runs_a_study_anywhere(installed: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(installed.with_name("sublim-causal")), *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )

    where = [str(installed), "-c", "import sublim_causal; print(sublim_causal.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.stdout.startswith(str(installed.parents[1])), found.stdout
    one = ("--seeds", "1", "--workers", "1", "--arms", "baseline")
    done = run("run", *TINY, *one, "--tracking-uri", "none")
    assert done.returncode == 0, done.stderr
    assert len(read_table(tmp_path / "runs" / "quickstart", "replicates")) == 1
