"""Tables read block by block: the rows, their places in the file, the size, what cannot be read so."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from netwright.errors import DataError
from netwright.sources import blocks
from netwright.sources.blocks import Blocks, blocks_of
from netwright.sources.opening import Reading, read_source
from netwright.sources.places import place_of
from netwright.sources.tables import Table
from netwright.sources.texts import TextOptions

TABLE = pa.table({"a": list(range(5000)), "b": [f"word {place % 7}" for place in range(5000)]})


def written(folder: Path, ending: str) -> Path:
    path = folder / f"t{ending}"
    if ending == ".csv":
        pa.csv.write_csv(TABLE, path)
    else:
        pa.parquet.write_table(TABLE, path, row_group_size=1700)
    return path


def opened(*paths: Path) -> Blocks:
    found = blocks_of([place_of(str(path)) for path in paths], TextOptions())
    assert found is not None
    return found


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_blocks_hold_the_rows_of_the_file_in_order(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 20_000)
    path = written(tmp_path, ending)
    found = list(opened(path).read())
    assert len(found) > 2
    assert [start for start, _ in found] == [sum(table.rows for _, table in found[:place]) for place in range(len(found))]
    whole = pa.concat_tables([table.columns for _, table in found])
    assert whole.equals(read_source(str(path), Reading()).columns)
    start, table = found[-1]
    assert table.place(3) == (f"t.csv:{start + 3 + 2}" if ending == ".csv" else f"t.parquet: row {start + 4}")


def test_files_follow_one_another_and_some_columns_of_all_rows_are_read(tmp_path: Path) -> None:
    first, second = written(tmp_path, ".csv"), tmp_path / "second.csv"
    second.write_text("b,a,c\nlast,9,1\n")
    both = opened(first, second)
    table, counts = both.some(["b"])
    assert (table.rows, counts, table.names) == (5001, [5000, 1], ["b"])
    assert table.place(5000) == "second.csv:2"
    assert both.names == ("a", "b")


def test_an_index_that_pandas_did_not_name_is_no_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0]}, index=[7, 5, 7])
    frame.to_parquet(tmp_path / "t.parquet")
    assert "__index_level_0__" in pa.parquet.read_schema(tmp_path / "t.parquet").names
    found = opened(tmp_path / "t.parquet")
    assert found.names == ("a",)
    assert found.head().names == read_source(str(tmp_path / "t.parquet"), Reading()).names == ["a"]


def test_a_file_that_lacks_a_column_of_the_first_is_refused(tmp_path: Path) -> None:
    second = tmp_path / "second.csv"
    second.write_text("b,c\nlast,1\n")
    with pytest.raises(
        DataError, match=r"^second\.csv: column 'a' is missing; t\.csv has it; the files need the same columns$"
    ):
        opened(written(tmp_path, ".csv"), second)


def test_a_ragged_line_far_down_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 20_000)
    path = written(tmp_path, ".csv")
    lines = path.read_text().splitlines()
    lines[4001] += ",more"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"^t\.csv:4002: 3 fields came; expected 2 as in the first line; mend the line$"):
        list(opened(path).read(["a"]))


def test_arrow_reads_blocks_without_anything_of_python_which_its_threads_may_outlive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    handed: list[tuple[object, object]] = []

    def spied(source: object, **options: object) -> object:
        handed.append((source, options["parse_options"].invalid_row_handler))  # type: ignore[attr-defined]
        return opens(source, **options)

    opens = pa.csv.open_csv
    monkeypatch.setattr(pa.csv, "open_csv", spied)
    opened(tmp_path / "t.csv").head()  # a reader that is left while its threads read on ends with the process
    assert handed == [(str(tmp_path / "t.csv"), None)]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, ".parquet")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"t\.parquet: cannot be read \(.*\); expected a parquet file; check the file$"):
        opened(path)


def test_a_file_without_rows_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"t\.csv: no rows; expected a header and at least one row; check the file$"):
        opened(tmp_path / "t.csv").some(["a"])


def test_white_space_text_and_json_lines_are_not_read_in_blocks(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a b\n1 2\n")
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n')
    assert blocks_of([place_of(str(tmp_path / "t.txt"))], TextOptions()) is None
    assert blocks_of([place_of(str(tmp_path / "t.jsonl"))], TextOptions()) is None


def test_the_size_in_memory_is_told_without_reading(tmp_path: Path) -> None:
    path = written(tmp_path, ".csv")
    assert opened(path).size() == 3 * path.stat().st_size
    assert opened(written(tmp_path, ".parquet")).size() > 5000 * 2 * 12


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_file_of_which_one_block_is_read_is_closed(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 20_000)
    begun, read = [], Blocks.read

    def kept(self: Blocks, columns: Sequence[str] | None = None) -> Generator[tuple[int, Table]]:
        begun.append(read(self, columns))
        return begun[-1]

    monkeypatch.setattr(Blocks, "read", kept)
    assert opened(written(tmp_path, ending)).head().rows < 5000
    assert [one.gi_frame for one in begun] == [None]
