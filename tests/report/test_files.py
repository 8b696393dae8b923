from __future__ import annotations

from pathlib import Path

from sublim_causal.report.files import RECORD, write

EARLIER = {
    "index.html": "page",
    "figures/old.svg": "",
    "figures/kept.svg": "",
    "tables/old.csv": "",
}
LATER = {"index.html": "page", "figures/kept.svg": "new"}


def names(folder: Path) -> set[str]:
    """Return the files below `folder`."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_only_what_an_earlier_report_wrote_is_removed(tmp_path: Path) -> None:
    own = ("figures/my_own.png", "tables/sub/mine.csv", "notes.txt")
    for name in own:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    write(tmp_path, EARLIER)
    assert names(tmp_path) == {*own, *EARLIER, RECORD}
    write(tmp_path, LATER)
    assert names(tmp_path) == {*own, *LATER, RECORD}
    assert (tmp_path / "figures" / "kept.svg").read_text() == "new"


def test_without_a_record_nothing_is_removed(tmp_path: Path) -> None:
    write(tmp_path, EARLIER)
    (tmp_path / RECORD).unlink()
    write(tmp_path, LATER)
    assert names(tmp_path) == {*EARLIER, RECORD}


def test_a_record_names_nothing_outside_its_folders(tmp_path: Path) -> None:
    out = tmp_path / "report"
    write(out, LATER)
    (tmp_path / "figures").mkdir()
    others = [tmp_path / "mine.txt", tmp_path / "figures" / "mine.svg", out / "results.json"]
    for path in others:
        path.touch()
    (out / "figures" / "sub").mkdir()
    (out / RECORD).write_text(
        f"../mine.txt\nfigures/../../figures/mine.svg\n{others[0]}\nresults.json\nfigures/sub\n"
    )
    write(out, LATER)
    assert all(path.exists() for path in others)
    assert (out / "figures" / "sub").is_dir()


def test_what_the_user_has_deleted_is_no_matter(tmp_path: Path) -> None:
    write(tmp_path, EARLIER)
    (tmp_path / "figures" / "old.svg").unlink()
    write(tmp_path, LATER)
    assert names(tmp_path) == {*LATER, RECORD}
