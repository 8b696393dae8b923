"""Study files: what is accepted, and what the errors say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sublim_causal.analysis.plan.file import load_plan
from sublim_causal.declared import list_declared
from sublim_causal.errors import RequestError
from sublim_causal.experiment.config import Experiment, StudySection
from sublim_causal.study.spec.identity import NEWER, definition, digest
from sublim_causal.study.spec.reading import built_in_studies, load_study
from sublim_causal.study.spec.study import Study
from sublim_causal.study.worker.trainer import make_network
from tests.studies import every_study


@pytest.mark.parametrize("name", every_study())
def test_a_built_in_study_loads(name: str) -> None:
    assert load_study(name).name == name
    assert built_in_studies()[name]


@pytest.mark.parametrize(
    "name", [one for one in every_study() if one.values[0] in list_declared("analysis")]
)
def test_a_plan_that_is_named_as_a_study_names_its_arms(name: str) -> None:
    arms = load_study(name).arms
    for one in load_plan(name).estimands:
        declared = one.model_dump()
        named = [*str(declared.get("contrast", "")).split(" - "), declared.get("arm")]
        if declared["method"] != "mixed_model":
            assert {arm for arm in named if arm} <= {*arms, "each", "reference"}, one.name


def test_the_paper_study_is_the_papers() -> None:
    study = load_study("paper")
    assert list(study.arms) == ["baseline", "projection", "liminal", "shuffled"]
    assert (study.seeds, study.model.options["hidden"], study.model.auxiliary) == (
        30,
        [256, 256],
        3,
    )
    for phase in (study.teacher, study.distillation):
        assert (phase.epochs, phase.batch_size, phase.learning_rate) == (5, 1024, 3e-4)
    assert study.distillation.examples == 50_000


@pytest.mark.parametrize(
    ("setting", "field", "hint"),
    [
        ("distillation.epoch=2", "distillation.epoch", "epochs"),
        ("distillation.epochs=0", "distillation.epochs", "a whole number that is at least 1"),
        ("distillation.epochs=many", "distillation.epochs", "a whole number"),
        ("teacher.learning_rate=nan", "teacher.learning_rate", "finite"),
        ("data.name=minst", "data.name", "mnist"),
        ("attack.epsilon=0", "attack.epsilon", "above 0 and at most 2"),
        ("attack.step=3", "attack.step", "steps"),
        ("data.train=100000", "data.train", "at most"),
        ("probe.size=5000", "probe.size", "held-out"),
        ("probe.size=63", "probe.size", "multiple of 2"),
        ("arms.projection.strenght=2", "arms.projection.strenght", "strength"),
        ("arms.projection.strength=-1", "arms.projection.strength", "a number from 0 to 10"),
        ("arms.projection.space=weights", "arms.projection.space", "update"),
        ("arms.projection.intervention=projektion", "arms.projection.intervention", "projection"),
        ("arms.x.intervention=no.module:Thing", "arms.x.intervention", "import"),
        ("colour=red", "colour", "known: name, task"),
        ("name=a/b", "name", "a slash"),
        ("name=..", "name", "no dot at the beginning"),
        ("seeds=0", "seeds", "a whole number from 1 to 1,000,000"),
        ("distillation", "--set", "field=value"),
        ("distillation.inputs=noise", "distillation.inputs", "'uniform', 'gaussian', 'pink'"),
        ("arms.baseline.inputs=unifrom", "arms.baseline.inputs", "did you mean 'uniform'"),
        ("arms.projection.layers=0", "arms.projection.layers", "a list of strings"),
        ("arms.projection.layers=[0]", "arms.projection.layers.0", "a string"),
        ("arms.baseline=3", "arms.baseline", "a table"),
        ("model.options=3", "model.options", "a table"),
        ("measure.layers=maybe", "measure.layers", "true or false"),
        ("model.clas=mlp", "model.clas", "did you mean 'class'"),
        ('arms."a/b".intervention=baseline', "arms.a/b", "a slash"),
        ('arms."a\\qb".strength=1', "--set", "a key as in a TOML file"),
        ("reference=basline", "reference", "did you mean 'baseline'"),
        ("reference=[1]", "reference", "an arm of the study: baseline, projection"),
        ("seeds.x=1", "--set", "no fields"),
        ("arms.baseline.intervention=pathlib:Path", "arms.baseline.intervention", "a class with"),
        ("seeds=" + "[" * 5000 + "]" * 5000, "seeds", "a whole number"),
    ],
)
def test_a_wrong_field_is_named(setting: str, field: str, hint: str) -> None:
    with pytest.raises(RequestError) as refused:
        load_study("quickstart", settings=[setting])
    assert refused.value.field == field
    assert hint in str(refused.value)


def test_a_name_that_no_file_system_takes_is_refused() -> None:
    arm = 'arms={ %s = { intervention = "baseline" } }'
    fitting = ["a" * 100, "ä" * 41, "猫" * 27]
    for name in fitting:
        assert list(load_study("quickstart", settings=[arm % f'"{name}"']).arms) == [name]
    with pytest.raises(RequestError, match=r"arms\.猫[\s\S]*at most 255 bytes.* takes 274"):
        load_study("quickstart", settings=[arm % f'"{"猫" * 30}"'])
    assert load_study("quickstart", settings=[f"name={'猫' * 85}"]).name == "猫" * 85
    with pytest.raises(RequestError, match=r"name: [\s\S]*at most 255 bytes.* takes 258"):
        load_study("quickstart", settings=[f"name={'猫' * 86}"])


def test_settings_are_toml_and_strings_need_no_quotes() -> None:
    study = load_study(
        "quickstart",
        settings=["distillation.epochs=2", "model.options.hidden=[8, 4]", "title=A title"],
    )
    assert study.distillation.epochs == 2
    assert study.model.options == {"hidden": [8, 4]}
    assert study.title == "A title"


@pytest.mark.parametrize("key", ['"0.5 a=b"', "'0.5 a=b'", ' "0.5 a\\u003db" '])
def test_a_key_of_a_setting_may_be_quoted(key: str) -> None:
    study = load_study("quickstart", settings=[f"arms.{key}.intervention=projection"])
    assert study.arms["0.5 a=b"].intervention == "projection"


def test_an_arm_that_is_there_needs_no_quotes_which_shells_take_away() -> None:
    settings = ["arms.update 0.5.strength=0.4", 'arms."update 1.5".when=positive']
    study = load_study("dose", settings=settings)
    assert study.arms["update 0.5"].procedure["strength"] == 0.4
    assert study.arms["update 1.5"].procedure["when"] == "positive"
    assert set(study.arms) == set(load_study("dose").arms)


def test_an_error_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nseeds = 0\n[arms.baseline]\nintervention = "baseline"\n')
    with pytest.raises(RequestError) as refused:
        load_study(str(file))
    assert str(refused.value) == (
        f"{file}: seeds: 0 is not allowed\n"
        "allowed: a whole number from 1 to 1,000,000\n"
        "remedy: correct it there"
    )
    assert refused.value.field == "seeds"


def test_arms_and_seeds_can_be_chosen() -> None:
    study = load_study("quickstart", seeds=3, arms=["shuffled", "baseline"])
    assert (study.seeds, list(study.arms)) == (3, ["shuffled", "baseline"])
    with pytest.raises(RequestError, match="did you mean 'baseline'"):
        load_study("quickstart", arms=["basline"])


@pytest.mark.parametrize("value", ["5", "abc"])
def test_arms_cannot_be_chosen_where_there_is_no_table_of_them(value: str) -> None:
    with pytest.raises(RequestError, match=r"arms: .* is not allowed\nallowed: a table of arms"):
        load_study("quickstart", settings=[f"arms={value}"], arms=["baseline"])


@pytest.mark.parametrize("name", ["quickstrat", "missing.toml"])
def test_an_unknown_study_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="quickstart"):
        load_study(name)


@pytest.mark.parametrize("text", ["name = [", f"name = {'[' * 5000}{']' * 5000}"])
def test_a_file_that_is_not_toml_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(RequestError, match=r"study\.toml"):
        load_study(str(path))


def test_the_digest_covers_the_experiment_and_nothing_else() -> None:
    study = load_study("quickstart")
    same = load_study("quickstart", seeds=99, settings=["title=Another"])
    other = load_study("quickstart", settings=["distillation.epochs=3"])
    assert digest(study, "fp32") == digest(same, "fp32")
    assert digest(study, "fp32") != digest(other, "fp32")
    assert digest(study, "fp32") != digest(study, "bf16")


def sections(model: type[StudySection]) -> set[type[StudySection]]:
    found = {model}
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, StudySection):
            found |= sections(field.annotation)
    return found


@pytest.mark.parametrize("model", sorted(sections(Experiment) | {Study}, key=lambda m: m.__name__))
def test_every_field_is_documented(model: type[StudySection]) -> None:
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__name__}.{name}"


def test_an_attack_is_part_of_what_defines_a_study_and_none_is_not() -> None:
    plain, attacked = (
        load_study("quickstart"),
        load_study("quickstart", settings=["attack.steps=3"]),
    )
    assert not any(key.startswith("attack") for key in definition(plain, "fp32"))
    assert definition(attacked, "fp32")["attack.steps"] == 3
    assert digest(plain, "fp32") != digest(attacked, "fp32")


@pytest.mark.parametrize("field", NEWER)
def test_fields_that_are_newer_than_runs_define_a_study_where_they_are_set(field: str) -> None:
    assert field not in definition(load_study("quickstart"), "fp32")
    section, name = field.split(".")
    value = "coupled" if name == "decay" else 0.1
    settings = [f"{field}={value}", f"{section}.weight_decay=0.1"]
    assert definition(load_study("quickstart", settings=settings), "fp32")[field] == value


@pytest.mark.parametrize(
    "setting",
    [
        f"distillation.epochs=1{'0' * 400}",
        f"seeds=1{'0' * 5000}",
        f"seeds=0x{'f' * 5000}",
        "probe.size=3000000000",
        f"model.options.hidden=[1{'0' * 30}]",
    ],
)
def test_numbers_beyond_all_bounds_are_refused(setting: str) -> None:
    with pytest.raises(RequestError) as refused:
        load_study("quickstart", settings=[setting])
    assert refused.value.field == setting.partition("=")[0]
    assert len(str(refused.value)) < 1000


def test_a_study_file_with_a_number_of_too_many_digits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(f"seeds = 1{'0' * 5000}")
    with pytest.raises(RequestError, match="a TOML file"):
        load_study(str(tmp_path / "study.toml"))


@pytest.mark.parametrize(
    "settings",
    [
        ("model.class=cnn", "model.options.channels=100000000"),
        ("model.class=tests.experiment.faulty_networks:Plain", "model.options.width=100000000"),
    ],
)
def test_a_network_of_too_many_parameters_is_refused_before_memory_is_taken(
    settings: Sequence[str],
) -> None:
    study = load_study("quickstart", settings=settings)
    with pytest.raises(RequestError, match="parameters' is not allowed"):
        make_network(study)


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ("seeds=true", "a whole number from 1 to 1,000,000"),
        ("teacher.epochs='2'", "a whole number"),
        ("teacher.learning_rate=true", "a number"),
        ("data.train='9'", "a whole number"),
        ("arms.projection.strength='1'", "a number"),
        ("model.options.hidden=['9']", "a list of widths"),
    ],
)
def test_texts_and_truth_values_are_no_numbers(setting: str, allowed: str) -> None:
    with pytest.raises(RequestError, match=f"allowed: {allowed}"):
        make_network(load_study("quickstart", settings=[setting]))


def test_a_study_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = 'name = "mine"\r\n[arms.baseline]\r\nintervention = "baseline"\r\n'
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_study(str(path)).name == "mine"


def test_a_path_with_nul_is_refused() -> None:
    with pytest.raises(RequestError, match="without NUL"):
        load_study("\0")


def test_the_reference_arm_is_no_part_of_what_defines_a_study() -> None:
    study = load_study("quickstart", settings=["reference=liminal"])
    assert study.reference == "liminal"
    assert digest(study, "fp32") == digest(load_study("quickstart"), "fp32")
    some = load_study("quickstart", settings=["reference=liminal"], arms=["baseline"])
    assert some.reference is None


@pytest.mark.parametrize("name", ["each", "all", "a - b", " a", "a "])
def test_an_arm_has_no_name_that_a_plan_reads_otherwise(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    arms = (
        f'[arms.baseline]\nintervention = "baseline"\n[arms."{name}"]\nintervention = "liminal"\n'
    )
    path.write_text(f'name = "mine"\n{arms}')
    with pytest.raises(RequestError, match="ARM - REFERENCE"):
        load_study(path)
