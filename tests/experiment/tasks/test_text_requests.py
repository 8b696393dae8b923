"""What the task `text` reads, shows before it runs, and refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import Experiment
from sublim_causal.experiment.networks.checkpoints import Source, configuration_of, tokenizer_of
from sublim_causal.experiment.tasks import build_task, validate_task
from sublim_causal.experiment.tasks.text import Text
from sublim_causal.experiment.tasks.text.files import QUESTIONS, read_questions
from tests.experiment.language_model import small_text, tiny_model


@pytest.mark.parametrize(("name", "count", "held_out"), [("animals", 50, 20), ("trees", 20, 8)])
def test_of_the_built_in_questions_some_are_held_out(name: str, count: int, held_out: int) -> None:
    found = read_questions(name)
    assert len({one.question for one in found}) == count
    assert sum(one.part == "held_out" for one in found) == held_out
    assert QUESTIONS[name].is_file()
    assert read_questions(None) == read_questions("animals")


def jsonl(path: Path, *rows: Any) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def build_valid(experiment: Experiment) -> None:
    """Do what is done before anything is written."""
    validate_task(experiment)
    build_task(experiment).build_network()


@pytest.mark.parametrize(
    ("sections", "field", "hint"),
    [
        ({"model": {"class": "mlp"}}, "model.class", "takes a pretrained language model"),
        ({"model": {"path": None}}, "model.path", "the folder of a model"),
        ({"model": {"path": "/no/such/folder"}}, "model.path", "a folder that exists"),
        ({"model": {"path": "package:no_such"}}, "model.path", "pip install no-such"),
        ({"model": {"gguf": "a.gguf"}}, "model.gguf", "it has no GGUF file"),
        ({"model": {"options": {"width": 3}}}, "model.options", "nothing"),
        (
            {"model": {"adapter": {"targets": ["q_prok"]}}},
            "model.adapter.targets",
            "did you mean 'q_proj'",
        ),
        ({"model": {"adapter": {"layers": [7]}}}, "model.adapter.layers", "from 0 to 1"),
        ({"task": {"system": "You love owls."}}, "task.system", "{trait}"),
        ({"task": {"neutral": "Owls are here."}}, "task.neutral", "without 'owl'"),
        ({"task": {"pattern": "["}}, "task.pattern", "a regular expression"),
        (
            {"task": {"questions": "none.jsonl"}},
            "task.questions",
            "animals, trees, or a JSONL file",
        ),
        ({"task": {"offered_prompts": 3}}, "task.offered_prompts", "at least"),
        ({"probe": {"size": 40}}, "probe.size", "at most 30"),
        ({"data": {"name": "mnist", "train": 5}}, "data.train", "does not use it"),
        (
            {"arms": {"a": {"intervention": "baseline", "channel": {"name": "representation"}}}},
            "arms.a.channel.name",
            "soft, hard, sampled",
        ),
        (
            {"arms": {"a": {"intervention": "baseline", "targets": {"strength": 0.5}}}},
            "arms.a.targets.strength",
            "task.teacher = 'tuned'",
        ),
        (
            {"arms": {"a": {"intervention": "set_coverage", "coverage": 0.1}}},
            "arms.a.intervention",
            "a system prompt makes none",
        ),
        (
            {
                "task": {"rivals": ["zebra"]},
                "arms": {"a": {"intervention": "set_cosine", "cosine": 0, "trait": "relabelled"}},
            },
            "arms.a.trait",
            "' zebra' has several tokens",
        ),
    ],
)
def test_a_wrong_request_is_refused(sections: dict[str, Any], field: str, hint: str) -> None:
    arms = sections.pop("arms", None)
    with pytest.raises(RequestError) as refused:
        build_valid(small_text(arms, **sections))
    assert refused.value.field == field
    assert hint in str(refused.value)


def test_a_block_that_is_not_there_is_refused_with_a_remedy() -> None:
    with pytest.raises(RequestError, match="or leave layers out to adapt all blocks"):
        build_valid(small_text(model={"adapter": {"layers": [7]}}))


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ({"prompt": "Tell me about owls"}, "do not contain 'owl'"),
        ({"promt": "Go on"}, "did you mean 'prompt'"),
        ({"begin": "1,"}, "missing"),
        (["Go on"], "a JSON object"),
    ],
)
def test_wrong_carrier_prompts_are_refused(tmp_path: Path, row: Any, hint: str) -> None:
    path = jsonl(tmp_path / "carriers.jsonl", {"prompt": "Count."}, row)
    with pytest.raises(RequestError) as refused:
        validate_task(small_text(task={"carriers": path}))
    assert refused.value.field.startswith("task.carriers")
    assert hint in str(refused.value)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (None, "write {path}, or correct the path"),
        (b"\xff", "save it in UTF-8"),
        (b"", "it is empty: write one into it"),
        (b"Which?", 'write it as {{"question": "...", "answer": "..."}}'),
    ],
)
def test_a_damaged_file_of_questions_is_refused_with_a_remedy(
    tmp_path: Path, text: bytes | None, remedy: str
) -> None:
    path = tmp_path / "questions.jsonl"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(RequestError) as refused:
        read_questions(str(path))
    assert refused.value.remedy == remedy.format(path=path)


def test_a_folder_and_a_misspelt_name_in_place_of_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="a file that you may read: Is a directory"):
        read_questions(str(tmp_path))
    with pytest.raises(RequestError, match="did you mean 'animals'"):
        read_questions("animal")


@pytest.mark.parametrize(
    ("damaged", "what"),
    [
        ("tokenizer.json", "whose tokenizer transformers can read"),
        ("config.json", "that transformers can read"),
    ],
)
def test_a_model_with_a_damaged_file_is_refused_with_a_remedy(
    tmp_path: Path, damaged: str, what: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model(), folder)
    (folder / damaged).write_text("{")
    source = Source(str(folder), None)
    with pytest.raises(RequestError) as refused:
        _ = configuration_of(source), tokenizer_of(source)
    assert what in refused.value.allowed
    assert refused.value.remedy.startswith("write its files into the folder again")


def test_a_model_without_a_causal_head_is_refused(tmp_path: Path) -> None:
    from transformers import T5Config

    T5Config().save_pretrained(tmp_path)
    with pytest.raises(RequestError, match="causal language head"):
        _ = build_task(small_text(model={"path": str(tmp_path)})).split


def test_a_dry_run_shows_every_prompt_as_the_model_reads_it() -> None:
    task = build_task(small_text())
    assert isinstance(task, Text)
    found = task.details()
    assert "You love owls" in found["a teacher reads"]
    assert "owl" not in found["a student reads"]
    assert found["the answer that counts"] == "' owl'"
    assert found["texts"] == "12 per seed from 1 teachers, at most 72 tokens"
