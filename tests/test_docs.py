"""The examples of the README and of the guide run, and what they name exists."""

from __future__ import annotations

import importlib
import json
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
import typer

from sublim_causal.experiment.interventions import INTERVENTIONS
from sublim_causal.experiment.tasks import build_task, validate_task
from sublim_causal.experiment.tasks.text.files import read_questions
from sublim_causal.experiment.teaching.channels import CHANNELS
from sublim_causal.renames import RENAMED, RENAMED_METHODS, RENAMED_PARTS
from sublim_causal.store.tables import read_table
from sublim_causal.study.cli import app
from sublim_causal.study.spec.study import Study
from tests.experiment.language_model import tiny_model
from tests.study.commands import TINY, sublim

CHECKOUT = Path(__file__).parents[1]
GUIDE = sorted((CHECKOUT / "docs").glob("*.md"))
TOP = [CHECKOUT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG")]
COMMAND = re.compile(r"^(?:python -m sublim_causal\.study|sublim-causal) +(\S.*)$", re.MULTILINE)
PATH = re.compile(r"`((?:sublim_causal|tests|docs|studies|analysis)/[^`\s]*)`")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    pattern = rf"^```{language}\n(.*?)^```"
    return re.findall(pattern, page.read_text(), flags=re.DOTALL | re.MULTILINE)


def guide(name: str, language: str) -> list[str]:
    """The fenced blocks of a page of the guide."""
    return blocks(CHECKOUT / "docs" / f"{name}.md", language)


@pytest.fixture(scope="module")
def half_dose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the study of the guide, with its own intervention and channel; returns `runs`."""
    folder = tmp_path_factory.mktemp("guide")
    (study, _, _) = guide("studies", "toml")
    (intervention,), (channel,) = guide("interventions", "toml"), guide("channels", "toml")
    (folder / "half-dose.toml").write_text(f"{study}\n{intervention}\n{channel}")
    for page in ("interventions", "channels"):
        (code,) = guide(page, "python")
        (folder / code.split()[1]).write_text(code)
    done = sublim(
        "run", "half-dose.toml", *TINY, "--seeds", "4",
        "--tracking-uri", "none", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("cap:Cap", "topk:TopK"):
        assert name in done.stderr
    return folder


@pytest.mark.end_to_end
def test_the_intervention_and_the_channel_of_the_guide_do_what_they_say(half_dose: Path) -> None:
    steps = read_table(half_dose / "runs" / "half-dose", "steps")
    assert set(steps["arm"]) == {"baseline", "before", "after", "capped", "top2"}
    capped = steps.loc[steps["arm"] == "capped", "cos_applied"]
    assert capped.max() < 0.002 + 1e-6
    assert steps.loc[steps["arm"] == "baseline", "cos_applied"].max() > 0.002
    first = steps[steps["step"] == 0].pivot(index="seed", columns="arm", values="distill_loss")
    assert (first["top2"] > first["baseline"]).all()


def test_the_plan_of_the_guide_is_estimated(half_dose: Path) -> None:
    plan = guide("plans", "toml")[0]
    (half_dose / "mine.toml").write_text(plan)
    analysed = sublim("analyse", "runs/half-dose", "--plan", "mine.toml", cwd=half_dose)
    assert analysed.returncode == 0, analysed.stderr
    for name in ("half_dose", "slope", "half_stops_it"):
        assert name in analysed.stdout
    assert "not estimable" not in analysed.stdout


def test_the_model_of_the_guide_is_trained(tmp_path: Path) -> None:
    study, stopping, model = (tomllib.loads(one) for one in guide("studies", "toml"))
    assert Study.model_validate({**study, **stopping}).stopping
    (tmp_path / "half-dose.toml").write_text(tomli_w.dumps({**study, **model}))
    (code,) = guide("studies", "python")
    (tmp_path / code.split()[1]).write_text(code)
    done = sublim(
        "run", "half-dose.toml", *TINY, "--seeds", "1", "--arms", "baseline",
        "--tracking-uri", "none", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(read_table(tmp_path / "runs" / "half-dose", "replicates")) == 1


@pytest.mark.end_to_end
def test_the_python_of_the_guide_runs(half_dose: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(half_dose)
    names: dict[str, Any] = {}
    for code in guide("python", "python"):
        exec(code, names)
    assert names["effect"].n_seeds == 4
    assert names["results"].n_seeds == 4
    assert "cos_update" in names["fit"].summary()
    assert names["figure"].get_figwidth() == 5


def test_the_tables_of_the_guide_are_read(half_dose: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(half_dose)
    (half_dose / "runs" / "quickstart").symlink_to("half-dose")
    names: dict[str, Any] = {}
    (code,) = guide("results", "python")
    exec(code, names)
    (half_dose / "runs" / "quickstart").unlink()
    assert set(names["steps"]["arm"]) == {"baseline", "before", "after", "capped", "top2"}


def test_the_monitor_of_the_guide_records_one_row_per_step() -> None:
    code, guarded, screened = guide("monitor", "python")
    model = torch.nn.Linear(4, 3)
    generator = torch.Generator().manual_seed(0)
    names: dict[str, Any] = {
        "model": model,
        "optimizer": torch.optim.Adam(model.parameters()),
        "cross_entropy": torch.nn.functional.cross_entropy,
        "distillation_loss": lambda model, x: model(x).square().mean(),
        "batches": torch.randn(5, 8, 4, generator=generator),
        "probe_x": torch.randn(6, 4, generator=generator),
        "probe_y": torch.arange(6) % 3,
    }
    exec(code, names)
    table = names["table"]
    assert len(table) == 5
    assert {"cos_gradient", "cos_update", "drive", "gain", "remainder"} <= set(table)
    exec(guarded, names)
    exec(code, names)
    assert (names["table"]["drive"] < 1e-6).all()
    teacher = torch.nn.Linear(4, 3)
    exec(screened, names | {
        "student": model, "teacher": teacher, "base": torch.nn.Linear(4, 3),
        "trait_loss": lambda student: student(names["probe_x"]).sum(),
    })  # fmt: skip


def test_the_study_of_the_guide_to_sequences_is_one() -> None:
    (sections,) = guide("sequences", "toml")
    arms = {"arms": {"baseline": {"intervention": "baseline"}}}
    study = Study.model_validate({"name": "mine", **tomllib.loads(sections), **arms})
    validate_task(study)
    assert build_task(study).build_network().layout.size == 100_272


def test_the_study_of_the_guide_to_language_models_is_one() -> None:
    sections, questions = guide("language_models", "toml"), guide("language_models", "json")
    table, trees = map(tomllib.loads, sections)
    table["model"] |= {"path": str(tiny_model())}
    table["model"]["adapter"]["layers"] = [1]
    arms = {"arms": {"baseline": {"intervention": "baseline"}}, "probe": {"size": 8}}
    study = Study.model_validate({"name": "mine", **table, **arms})
    validate_task(study)
    validate_task(Study.model_validate({"name": "mine", **table, **arms, **trees}))
    layers = build_task(study).build_network().layout.layers
    assert list(layers) == [f"model.layers.1.self_attn.{one}_proj" for one in "qv"]
    assert json.loads(questions[0]) == vars(read_questions(None)[0])


def test_the_task_of_the_guide_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CHECKOUT / "examples" / "task"
    monkeypatch.syspath_prepend(folder)
    (sections,) = guide("tasks", "toml")
    example = tomllib.loads((folder / "permutations.toml").read_text())
    study = Study.model_validate({**example, **tomllib.loads(sections)})
    validate_task(study)
    assert type(build_task(study)).__name__ == "Permutations"


@pytest.mark.parametrize("language", ["python", "toml"])
def test_every_example_is_run_by_a_test(language: str) -> None:
    # The other two of `plans` and that of `weights`: tests/analysis/plan/test_file.py, tests/store.
    run = {
        "python": {"channels": 1, "interventions": 1, "monitor": 3, "python": 7, "results": 1,
                   "studies": 1, "weights": 1},
        "toml": {"channels": 1, "interventions": 1, "language_models": 2, "plans": 3,
                 "sequences": 1, "studies": 3, "tasks": 1},
    }  # fmt: skip
    found = {page.stem: len(blocks(page, language)) for page in (*TOP, *GUIDE)}
    assert {page: count for page, count in found.items() if count} == run[language]


def commands() -> Iterator[Any]:
    """Every command line of the documentation."""
    for page in (*TOP, *GUIDE):
        for block in blocks(page, "bash"):
            for line in COMMAND.findall(block.replace(" && ", "\n")):
                yield pytest.param(line, id=f"{page.stem}: {line[:40]}")


@pytest.mark.parametrize("line", list(commands()))
def test_every_command_line_is_understood(line: str) -> None:
    name, *arguments = shlex.split(line.replace("s3://", ""), comments=True)
    group: Any = typer.main.get_command(app)
    assert group.commands[name].make_context(name, arguments)


def test_the_readme_shows_the_tables_of_its_data() -> None:
    data = CHECKOUT / "docs" / "data"
    printed = runpy.run_path(str(data / "tables.py"))["main"](data / "paper")
    readme = (CHECKOUT / "README.md").read_text()
    arms, alignment = printed.split("\n\n")
    for table in (arms, alignment):
        assert f"\n\n{table}\n\n" in readme


def test_the_readme_is_short() -> None:
    assert len(TOP[0].read_text().splitlines()) < 200


@pytest.mark.parametrize("page", TOP, ids=lambda page: page.stem)
def test_every_link_and_path_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not (CHECKOUT / link).exists()]
    assert not missing
    assert not [path for path in PATH.findall(text) if not list(CHECKOUT.glob(path))]


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_every_path_of_the_guide_exists(page: Path) -> None:
    assert not [path for path in PATH.findall(page.read_text()) if not list(CHECKOUT.glob(path))]


def test_the_guide_lists_every_intervention_with_its_options() -> None:
    assert listed("interventions") == {
        name: set(one.model_fields) for name, one in INTERVENTIONS.items()
    }


def test_the_guide_lists_every_channel() -> None:
    assert set(listed("channels")) == set(CHANNELS)


def listed(page: str) -> dict[str, set[str]]:
    """The names in the first column of a page's table, with those in its last column."""
    lines = (CHECKOUT / "docs" / f"{page}.md").read_text().splitlines()
    rows = [line.split("|") for line in lines if line.startswith("| `")]
    return {row[1].strip(" `"): set(re.findall(r"`(\w+)`", row[-2])) for row in rows}


def test_the_guide_lists_every_command() -> None:
    text = (CHECKOUT / "docs" / "commands.md").read_text()
    group: Any = typer.main.get_command(app)
    named = set(re.findall(r"`(\w+)[ `]", text.split("| exit code |")[0]))
    assert set(group.commands) <= named


@pytest.mark.parametrize("package", ["sublim_causal", "sublim_causal.analysis"])
def test_the_reference_documents_every_public_name(package: str) -> None:
    text = "\n".join(page.read_text() for page in (CHECKOUT / "docs" / "api").glob("*.rst"))
    documented = set(re.findall(r"^\.\. auto\w+:: (?:\w+\.)*(\w+)$", text, re.MULTILINE))
    documented |= set(re.findall(r"^\.\. fields:: \S+:(\w+)$", text, re.MULTILINE))
    for members in re.findall(r"^   :members: (.+)$", text, re.MULTILINE):
        documented |= set(members.split(", "))
    public = {name for name in importlib.import_module(package).__all__ if name[0] != "_"}
    assert not public - documented


def test_the_changelog_lists_every_new_name() -> None:
    rows = re.findall(r"^\|[^|]+\| `(\w+)` \| `(\w+)` \|$", TOP[-1].read_text(), re.MULTILINE)
    parts = {pair for method in RENAMED_PARTS.values() for pair in method.items()}
    assert {*RENAMED.items(), *RENAMED_METHODS.items(), *parts} <= set(rows)
