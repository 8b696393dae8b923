"""Finding what is declared in files, and saying what is wrong with it."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from sublim_causal import declared
from sublim_causal.errors import RequestError


class Arm(BaseModel):
    model_config = ConfigDict(extra="forbid")
    strength: float = Field(ge=0)


class Study(BaseModel):
    model_config = ConfigDict(extra="forbid")
    seeds: int
    arms: dict[str, Arm] = {}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    checkout, installed = tmp_path / "checkout", tmp_path / "installed"
    for folder, names in ((checkout, ["primary"]), (installed, ["primary", "dose"])):
        folder.mkdir()
        for name in names:
            (folder / f"{name}.toml").write_text(f"name = '{name}'")
    monkeypatch.setattr(declared, "_folders", lambda kind: iter([checkout, installed]))
    return checkout, installed


def test_a_checkout_hides_what_is_installed(folders):
    checkout, installed = folders
    assert declared.list_declared("analysis") == {
        "dose": installed / "dose.toml",
        "primary": checkout / "primary.toml",
    }


@pytest.mark.parametrize("kind", ["studies", "analysis"])
def test_a_file_does_not_hide_a_built_in_name(folders, tmp_path, monkeypatch, kind):
    built_in = declared.find_declared(kind, "dose")
    mine = tmp_path / "dose"
    mine.write_text("")
    monkeypatch.chdir(tmp_path)
    assert declared.find_declared(kind, "dose") == built_in
    for path in ("./dose", str(mine), Path("dose"), mine):
        assert declared.find_declared(kind, path).samefile(mine)


def test_an_unknown_name_proposes_the_nearest(folders):
    with pytest.raises(RequestError, match="did you mean 'primary'") as error:
        declared.find_declared("analysis", "primry")
    assert error.value.field == "plan"
    assert "dose, primary" in error.value.allowed


def test_a_file_that_is_not_toml_is_named(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("a = = 1")
    with pytest.raises(RequestError, match="line 1"):
        declared.read_toml(path, "studies")


def test_an_unknown_field_proposes_the_nearest_of_its_own_level():
    with pytest.raises(RequestError, match="did you mean 'strength'") as error:
        declared.validate_declared(Study, {"seeds": 3, "arms": {"projection": {"strenght": 1}}}, "")
    assert error.value.field == "arms.projection.strenght"
    assert error.value.value == 1


def test_a_missing_field_and_a_wrong_value_are_reported():
    with pytest.raises(RequestError, match="required") as missing:
        declared.validate_declared(Study, {}, "study")
    assert missing.value.field == "study.seeds"
    with pytest.raises(RequestError, match="a number that is at least 0") as wrong:
        declared.validate_declared(Study, {"seeds": 3, "arms": {"a": {"strength": -1}}}, "")
    assert (wrong.value.field, wrong.value.value) == ("arms.a.strength", -1)


def test_a_file_of_many_megabytes_is_not_read(tmp_path):
    path = tmp_path / "study.toml"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(RequestError, match=r"at most 1 MB; it has 200\.0 MB"):
        declared.read_toml(path, "studies")
