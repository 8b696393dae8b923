"""Find and read what is declared in files: studies (what is run) and analysis plans."""

from __future__ import annotations

import sysconfig
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from sublim_causal.allowed import choices, in_words, models_at, place_at, takes_numbers_only
from sublim_causal.errors import RequestError, nearest
from sublim_causal.location import locate
from sublim_causal.renames import renamed

LARGEST = 2**31 - 1
"""The largest whole number of a file; steps and seeds have 32 bits in the tables."""
MOST_BYTES = 1_000_000
"""The largest file: a study of a thousand arms has a tenth of it."""
Kind = Literal["studies", "analysis"]
Model = TypeVar("Model", bound=BaseModel)

_NOUN = {"studies": "study", "analysis": "plan"}


def _folders(kind: Kind) -> Iterator[Path]:
    checkout = Path(__file__).parent.parent
    # A wheel unpacks beside unrelated packages: a folder of this name there is not ours.
    if (checkout / "pyproject.toml").is_file():
        yield checkout / kind
    for scheme in (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user")):
        yield Path(sysconfig.get_path("data", scheme)) / "share" / "sublim_causal" / kind


def list_declared(kind: Kind) -> dict[str, Path]:
    """Return the built-in files of `kind` by name, sorted; a checkout's hide the installed ones."""
    found: dict[str, Path] = {}
    for folder in _folders(kind):
        for path in folder.glob("*.toml"):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def find_declared(kind: Kind, name: str | Path) -> Path:
    """Return the file that `name` means: the name of a built-in file, else a path.

    A built-in name means the built-in file wherever the command is given; a file of that name in
    the working directory is ``"./primary"``.

    Parameters
    ----------
    kind : {"studies", "analysis"}
        Which built-in files are searched.
    name : str or Path
        ``"primary"``, ``"my/plan.toml"``, ``"s3://bucket/run/study.toml"``. A `Path` is a path.

    Raises
    ------
    RequestError
        If there is neither such a file nor such a name; the nearest name is proposed.
    """
    known = list_declared(kind)
    if isinstance(name, str) and name in known:
        return known[name]
    path = locate(name)
    if path.is_file():
        return path
    raise RequestError(
        _NOUN[kind],
        str(name),
        f"the path of a TOML file, or one of {', '.join(known) or '(none is installed)'}",
        nearest(path.stem, known),
    )


def read_toml(path: Path, kind: Kind) -> dict[str, Any]:
    """Parse `path`.

    Raises
    ------
    RequestError
        If it is not TOML, larger than `MOST_BYTES`, nested too deeply, or holds a number of more
        than 4,300 digits.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise RequestError(
            _NOUN[kind],
            str(path),
            f"a TOML file of at most {MOST_BYTES / 1e6:g} MB; it has {size / 1e6:,.1f} MB",
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise RequestError(_NOUN[kind], str(path), f"a TOML file ({error})") from error


def validate_declared(model: type[Model], data: object, where: str) -> Model:
    """Return `data` as a `model`; `where` is the dotted path of `data` in its file.

    Raises
    ------
    RequestError
        For the first thing that is wrong: the field's path, its value, what is allowed,
        and the nearest known field name where the field is unknown.
    """
    validate_integers(data, where)
    validate_numbers(model, data, where)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # A misspelt field is reported as missing too; the misspelling is what helps.
        first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
        raise _request_error(model, first, where) from error


def validate_integers(data: object, where: str) -> None:
    """Check that no whole number in the nested `data` is beyond `LARGEST`.

    Raises
    ------
    RequestError
        If one is.
    """
    if isinstance(data, Mapping):
        for key, value in data.items():
            validate_integers(value, f"{where}.{key}" if where else str(key))
    elif isinstance(data, list):
        for value in data:
            validate_integers(value, where)
    elif isinstance(data, int) and abs(data) > LARGEST:
        shown = f"a whole number of {data.bit_length()} bits" if abs(data) > LARGEST**2 else data
        raise RequestError(where, shown, f"whole numbers up to {LARGEST}")


def validate_numbers(
    model: type[BaseModel], data: object, where: str, path: tuple[object, ...] = ()
) -> None:
    """Check that no text, true or false stands in the nested `data` where only numbers may.

    Raises
    ------
    RequestError
        If one does: ``epochs = true`` would be one epoch.
    """
    if isinstance(data, Mapping):
        for key, value in data.items():
            validate_numbers(model, value, where, (*path, key))
    elif isinstance(data, list):
        for number, value in enumerate(data):
            validate_numbers(model, value, where, (*path, number))
    elif isinstance(data, bool | str):
        place = place_at(model, path)
        if place is not None and takes_numbers_only(place):
            field = ".".join([*([where] if where else []), *map(str, path)])
            raise RequestError(field, data, in_words(place), "write a number, without quotes")


@contextmanager
def naming_file(name: object) -> Iterator[None]:
    """Name the file `name` in the request errors that are raised within, unless they name one."""
    try:
        yield
    except RequestError as error:
        raise error.in_file(str(name)) from error.__cause__


def _request_error(model: type[BaseModel], found: Any, where: str) -> RequestError:
    path = list(_keys(model, found["loc"]))
    field = ".".join([*([where] if where else []), *map(str, path)])
    if found["type"] == "extra_forbidden":
        known = [
            field.alias or name
            for inner in models_at(place_at(model, path[:-1]))
            for name, field in inner.model_fields.items()
        ]
        key = str(path[-1])
        remedy = renamed(key) or nearest(key, known)
        allowed = f"no such field; known: {', '.join(known) or '(none)'}"
        return RequestError(field, found["input"], allowed, remedy)
    place = place_at(model, path)
    words = in_words(place) if place else ""
    if found["type"] == "missing":
        return RequestError(field, None, f"{words or 'a value'}: the field is required")
    if found["type"] == "finite_number":
        return RequestError(field, found["input"], "a finite number")
    if found["type"] in ("value_error", "assertion_error") or not words:
        words = found["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    remedy = nearest(str(found["input"]), choices(place)) if place else ""
    return RequestError(field, found["input"], words, remedy)


def _keys(model: type[BaseModel], location: Iterable[object]) -> Iterator[object]:
    """Yield the keys of `location`, without what pydantic puts beside them: members of unions."""
    path: list[object] = []
    for key in location:
        if key == "[key]":
            continue
        place = place_at(model, path)
        known = place_at(model, [*path, key]) is not None
        if known or place is None or any(models_at(place)):
            path.append(key)
            yield key


def flatten(table: Mapping[str, Any], prefix: str = "", *, lists: bool = False) -> dict[str, Any]:
    """Turn nested tables into one, by dotted names: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``.

    With `lists`, tables in a list are named by their number in it; an empty table stays a value.
    """
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if lists and isinstance(value, list) and value and all(map(_is_table, value)):
            value = {str(number): item for number, item in enumerate(value)}
        if _is_table(value) and value:
            flat.update(flatten(value, f"{prefix}{key}.", lists=lists))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)
