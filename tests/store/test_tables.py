from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sublim_causal.errors import RunError, StorageError
from sublim_causal.store import blocks, removal, tables
from sublim_causal.store.curves import CURVES, block_curves
from sublim_causal.store.schema import SCHEMA_VERSION, TABLES, arrow_schema

ODD_ARMS = ["plain", "a/b", "a=b", "50 % of ü", "..", "-x?&#"]


def of_type(type: pa.DataType, rows: int, seed: int) -> list[object]:
    """Return `rows` different values of `type`; lists are of 0, 1, ... entries."""
    if pa.types.is_list(type):
        return [np.array(of_type(type.value_type, row, seed)) for row in range(rows)]
    if pa.types.is_string(type):
        return [f"{seed} {row}" for row in range(rows)]
    if pa.types.is_boolean(type):
        return [row % 2 == 0 for row in range(rows)]
    return list(np.arange(rows) + float(seed))


def filled(table: str, rows: int, seed: int = 0) -> pd.DataFrame:
    """Return `rows` rows of `table` with every column, floats counting up from `seed`."""
    columns: dict[str, object] = {
        field.name: of_type(field.type, rows, seed) for field in arrow_schema(table)
    }
    columns["seed"] = seed
    if table == "replicates":
        columns |= {"status": "complete", "reason": ""}
    return pd.DataFrame(columns)


def block_of(seed: int) -> dict[str, pd.DataFrame]:
    rows = {"steps": 5, "evaluations": 2, "replicates": 1, "layers": 4, "traits": 3, "texts": 6}
    return {table: filled(table, n, seed) for table, n in rows.items()}


def files(run: Path) -> list[str]:
    return sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file())


@pytest.mark.parametrize("table", TABLES)
def test_what_is_written_is_read_back_with_its_arm(tmp_path: Path, table: str) -> None:
    for seed in (0, 1):
        tables.write_block(tmp_path, f"{seed:07d}-{seed:07d}", "baseline", block_of(seed))
    expected = pd.concat([block_of(0)[table], block_of(1)[table]], ignore_index=True)
    read = tables.read_table(tmp_path, table)
    assert (read["arm"] == "baseline").all()
    pd.testing.assert_frame_equal(
        read[list(expected.columns)], expected, check_dtype=False, check_exact=True
    )


@pytest.mark.parametrize("arm", ODD_ARMS)
def test_any_arm_name_survives_the_file_system(tmp_path: Path, arm: str) -> None:
    tables.write_block(tmp_path, "0000000-0000000", "plain", block_of(0))
    tables.write_block(tmp_path, "0000000-0000000", arm, block_of(0))
    assert set(blocks.committed(tmp_path)) == {
        ("plain", "0000000-0000000"),
        (arm, "0000000-0000000"),
    }
    assert set(tables.read_table(tmp_path, "steps", arms=[arm])["arm"]) == {arm}
    removal.remove_block(tmp_path, arm, "0000000-0000000")
    assert (arm, "0000000-0000000") not in set(blocks.committed(tmp_path))


def test_arms_of_odd_names_stay_inside_the_run_directory(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for arm in ODD_ARMS:
        tables.write_block(run, "0000000-0000000", arm, block_of(0))
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    assert {path.name for path in run.iterdir()} == set(TABLES)


def test_uncommitted_and_temporary_files_are_invisible_then_removed(tmp_path: Path) -> None:
    tables.write_block(tmp_path, "0000000-0000000", "baseline", block_of(0))
    before = files(tmp_path)
    steps = tmp_path / "steps" / "arm=baseline"
    (steps / "0000001-0000001.parquet").write_bytes(
        (steps / "0000000-0000000.parquet").read_bytes()
    )
    (steps / ".0000002-0000002.parquet.1.ab.tmp").write_bytes(b"half of a file")
    (tmp_path / "replicates" / "arm=baseline" / ".0000001-0000001.parquet.1.ab.tmp").write_bytes(
        b"half"
    )
    (tmp_path / ".manifest.json.1.ab.tmp").write_bytes(b"{")

    assert list(blocks.committed(tmp_path)) == [("baseline", "0000000-0000000")]
    assert set(tables.read_table(tmp_path, "steps")["seed"]) == {0}
    assert removal.remove_uncommitted(tmp_path) == 4
    assert files(tmp_path) == before
    assert removal.remove_uncommitted(tmp_path) == 0


def test_a_missing_column_leaves_everything_as_it_was(tmp_path: Path) -> None:
    tables.write_block(tmp_path, "0000000-0000000", "baseline", block_of(0))
    before = files(tmp_path)
    broken = block_of(0) | {"replicates": filled("replicates", 1).drop(columns="final_accuracy")}
    with pytest.raises(KeyError, match="final_accuracy"):
        tables.write_block(tmp_path, "0000000-0000000", "baseline", broken)
    with pytest.raises(KeyError, match="replicates"):
        tables.write_block(tmp_path, "0000001-0000001", "baseline", {"steps": filled("steps", 3)})
    assert files(tmp_path) == before


@pytest.mark.parametrize("failing", range(4))
def test_a_full_disk_at_any_file_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    write, calls = tables.write_atomically, iter(range(4))

    def write_until_full(path: Path, data: bytes) -> None:
        if next(calls) == failing:
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(tables, "write_atomically", write_until_full)
    with pytest.raises(OSError, match="No space"):
        tables.write_block(tmp_path, "0000000-0000000", "baseline", block_of(0))
    assert files(tmp_path) == []


def test_a_name_that_is_too_long_for_the_disk_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written: File name too long"):
        tables.write_block(tmp_path, "0000000-0000000", "猫" * 30, block_of(0))
    assert files(tmp_path) == []


def test_a_failed_atomic_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "manifest.json"
    tables.write_atomically(path, b"old")

    def fail(self: Path, target: Path) -> Path:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StorageError, match=r"manifest\.json: cannot be written: Input/output"):
        tables.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert files(tmp_path) == ["manifest.json"]


def test_a_rewritten_block_replaces_all_its_tables(tmp_path: Path) -> None:
    tables.write_block(tmp_path, "0000000-0000000", "baseline", block_of(0))
    only_steps = {"steps": filled("steps", 7), "replicates": filled("replicates", 1)}
    tables.write_block(tmp_path, "0000000-0000000", "baseline", only_steps)
    assert len(tables.read_table(tmp_path, "steps")) == 7
    with pytest.raises(RunError, match="'layers'"):
        tables.read_table(tmp_path, "layers")


def test_columns_arms_and_blocks_restrict_what_is_read(tmp_path: Path) -> None:
    for arm in ("baseline", "projection"):
        for seed in (0, 1):
            tables.write_block(tmp_path, f"{seed:07d}-{seed:07d}", arm, block_of(seed))
    assert list(tables.read_table(tmp_path, "steps", columns=["seed", "drive"])) == [
        "seed",
        "drive",
    ]
    unwanted = tmp_path / "steps" / "arm=projection" / "0000001-0000001.parquet"
    unwanted.write_bytes(b"PAR1 damaged PAR1")
    by_arm = tables.read_table(tmp_path, "steps", arms=["baseline"])
    by_block = tables.read_table(tmp_path, "steps", blocks=["0000000-0000000"])
    assert set(zip(by_arm["arm"], by_arm["seed"], strict=True)) == {
        ("baseline", 0),
        ("baseline", 1),
    }
    assert set(zip(by_block["arm"], by_block["seed"], strict=True)) == {
        ("baseline", 0),
        ("projection", 0),
    }


def test_a_flipped_bit_in_any_column_is_damage_and_no_other_number(tmp_path: Path) -> None:
    tables.write_block(tmp_path, "0000000-0000000", "baseline", block_of(0))
    file = tmp_path / "steps" / "arm=baseline" / "0000000-0000000.parquet"
    sound, group = file.read_bytes(), pq.read_metadata(file).row_group(0)
    for chunk in map(group.column, range(group.num_columns)):
        content = bytearray(sound)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        content[start + chunk.total_compressed_size - 1] ^= 4  # the end of the column's last page
        file.write_bytes(content)
        with pytest.raises(RunError, match=r"'steps' is damaged[\s\S]*running the study again"):
            tables.read_table(tmp_path, "steps")
        if chunk.path_in_schema in CURVES["steps"]:
            with pytest.raises(RunError, match="'steps' is damaged"):
                block_curves(tmp_path, "baseline", "0000000-0000000")


def test_every_file_states_units_meanings_and_version(tmp_path: Path) -> None:
    tables.write_block(tmp_path, "0000000-0000000", "baseline", block_of(0))
    for table, columns in TABLES.items():
        schema = pq.read_schema(tmp_path / table / "arm=baseline" / "0000000-0000000.parquet")
        assert schema.metadata[b"sublim_causal.table"] == table.encode()
        assert schema.metadata[b"sublim_causal.schema_version"] == str(SCHEMA_VERSION).encode()
        for column in columns:
            if column.name != "arm":
                metadata = schema.field(column.name).metadata
                assert metadata[b"unit"] == column.unit.encode()
                assert metadata[b"meaning"] == column.meaning.encode()


def test_a_run_without_blocks_says_what_to_do(tmp_path: Path) -> None:
    assert list(blocks.committed(tmp_path)) == []
    assert removal.remove_uncommitted(tmp_path) == 0
    with pytest.raises(RunError, match="run the study first"):
        tables.read_table(tmp_path, "steps")
