"""Random requests, kills and damages: ``python tests/benchmarks/fuzz.py --requests 8000``.

Counts what must never happen: a traceback, a lost or repeated replicate, a number made from damaged
tables. ``--kills 30 --damages 20`` in addition; the exit code is 1 if anything was counted.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import tomli_w
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

from tests.study import test_kills
from tests.study.commands import same_tables, sublim
from tests.study.test_damage import OPTIONS
from tests.study.test_fuzz import FIELDS, KEYS, TABLES, VALUES, WORDS, without_training

Request = tuple[list[str], dict[str, object]]
"""Words of a command line, and the content of a study file."""

PLAN = ("run", "--dry-run")
REQUESTS: st.SearchStrategy[Request] = st.one_of(
    st.lists(WORDS, min_size=1, max_size=6).map(lambda words: (without_training(words), {})),
    st.dictionaries(KEYS, TABLES, max_size=8).map(
        lambda t: (["run", "study.toml", "--dry-run"], t)
    ),
    st.tuples(FIELDS, VALUES).map(lambda s: (["run", "--dry-run", "--set", f"{s[0]}={s[1]}"], {})),
)
"""What the tests of `tests.study.test_fuzz` ask for."""


def request(count: int) -> Counter[str]:
    """Make `count` random requests; count exit codes and tracebacks."""
    found: Counter[str] = Counter()

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(REQUESTS)
    def ask(asked: Request) -> None:
        words, table = asked
        with tempfile.TemporaryDirectory() as folder:
            if table:
                try:
                    Path(folder, "study.toml").write_text(tomli_w.dumps(table))
                except (TypeError, UnicodeEncodeError):  # TOML has no null and no lone surrogates
                    reject()
            found[outcome(words, Path(folder))] += 1

    ask()
    return found


def outcome(words: list[str], cwd: Path) -> str:
    """Return what a command ended with: ``"exit 2"`` or ``"traceback"``."""
    try:
        return f"exit {sublim(*words, cwd=cwd).returncode}"
    except Exception as error:  # what a user would see as a traceback
        print(f"traceback: {words}: {error!r}")
        return "traceback"


def delete(path: Path, moment: random.Random) -> None:
    """Delete the file."""
    path.unlink()


def truncate(path: Path, moment: random.Random) -> None:
    """Keep a part of the file."""
    path.write_bytes(path.read_bytes()[: moment.randrange(path.stat().st_size)])


def flip(path: Path, moment: random.Random) -> None:
    """Change one bit."""
    content = bytearray(path.read_bytes())
    content[moment.randrange(len(content))] ^= 1 << moment.randrange(8)
    path.write_bytes(content)


def scramble(path: Path, moment: random.Random) -> None:
    """Write random bytes over the file."""
    path.write_bytes(moment.randbytes(path.stat().st_size))


DAMAGES: tuple[Callable[[Path, random.Random], None], ...] = (delete, truncate, flip, scramble)


def damage(count: int) -> Counter[str]:
    """Damage a run `count` times, analyse it and run it again; count what goes wrong."""
    found: Counter[str] = Counter()
    moment = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        assert sublim("run", *OPTIONS, cwd=Path(folder)).returncode == 0
        sound = Path(folder, "runs", "quickstart")
        files = sorted(p for p in sound.rglob("*") if p.suffix in (".parquet", ".json", ".toml"))
        for number in range(count):
            cwd = Path(folder, str(number))
            run = cwd / "runs" / "quickstart"
            shutil.copytree(sound, run)
            victim, harm = moment.choice(files).relative_to(sound), moment.choice(DAMAGES)
            harm(run / victim, moment)
            what = f"{harm.__name__} {victim}"
            told = [outcome([verb, str(run)], cwd) for verb in ("status", "analyse")]
            if told[1] == "exit 0":
                found["numbers from a damaged run"] += not same(run, sound, what)
            told.append(outcome(["run", *OPTIONS], cwd))
            if told[-1] == "exit 0":
                found["not repaired"] += not same(run, sound, what)
            found["traceback"] += told.count("traceback")
            found[f"{harm.__name__}: status, analyse, run: {', '.join(told)}"] += 1
            shutil.rmtree(cwd)
    return found


def same(run: Path, sound: Path, what: str) -> bool:
    """Return whether two runs have the same tables."""
    try:
        same_tables(run, sound)
    except AssertionError as error:
        print(f"{what}: {error}")
        return False
    return True


def kill(count: int) -> Counter[str]:
    """Kill a study `count` times; count whether it ended with other tables."""
    test_kills.KILLS = count
    with tempfile.TemporaryDirectory() as folder:
        try:
            test_kills.test_kills_at_random_moments_lose_and_repeat_nothing(Path(folder))
        except AssertionError as error:
            print(f"kills: {error}")
            return Counter({"lost or repeated": 1})
    return Counter({"same tables": 1})


WRONG = ("traceback", "numbers from a damaged run", "not repaired", "lost or repeated")


def main() -> None:
    """Print what happened how often."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for kind, default in (("requests", 2000), ("damages", 0), ("kills", 0)):
        parser.add_argument(f"--{kind}", type=int, default=default)
    asked = parser.parse_args()
    wrong = 0
    for kind, work in (("requests", request), ("damages", damage), ("kills", kill)):
        if count := getattr(asked, kind):
            start = time.monotonic()
            found = work(count)
            print(f"{count} {kind} in {time.monotonic() - start:.0f} s:", flush=True)
            for what, times in sorted(found.items()):
                print(f"  {times:6d} {what}", flush=True)
            wrong += sum(found[what] for what in WRONG)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
