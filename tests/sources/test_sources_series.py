"""The .ts format: headers, labels, dimensions, missing values, and lines that are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from netwright.errors import DataError
from netwright.sources.arrays import Arrays
from netwright.sources.places import place_of
from netwright.sources.sequences import Sequences
from netwright.sources.series import read_ts
from netwright.sources.tables import Table

HEAD = "# a comment\n@problemName toy\n@timeStamps false\n@classLabel true 1 2\n@data\n"


def read(folder: Path, text: str) -> Sequences:
    path = folder / "toy.ts"
    path.write_text(text)
    return read_ts(place_of(path), "kind")


def test_series_of_different_length_keep_their_values_and_labels(tmp_path: Path) -> None:
    rows = read(tmp_path, HEAD + "1,2,3:4,5,6:a\n\n7,?:8,9:b\n")
    assert rows.lengths.tolist() == [3, 2]
    assert isinstance(rows.steps, Arrays)
    np.testing.assert_array_equal(
        rows.steps.inputs["series"], [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0], [7.0, 8.0], [np.nan, 9.0]]
    )
    assert isinstance(rows.about, Table)
    assert rows.about.columns["kind"].to_pylist() == ["a", "b"]
    assert rows.place(1) == "toy.ts: series 2"


def test_series_without_labels_have_none(tmp_path: Path) -> None:
    rows = read(tmp_path, HEAD.replace("true 1 2", "false") + "1,2,3\n4,5,6\n")
    assert rows.about is None
    assert rows.lengths.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no series; expected lines after @data"),
        (HEAD, "no series"),
        ("1,2,3:a\n" + HEAD, r"toy.ts:1: '1,2,3:a' came before @data"),
        (HEAD.replace("Stamps false", "Stamps true") + "1:a\n", r"toy.ts:3: time stamps came"),
        (HEAD + "1,2,3\n", "toy.ts:6: a label alone came"),
        (HEAD + "1,x,3:a\n", "toy.ts:6: value 2 of dimension 1 is 'x'"),
        (HEAD + "1,2:1,2,3:a\n", "toy.ts:6: dimensions of 2, 3 steps came"),
        (HEAD + "1,2:a\n1:2:b\n", r"series of \[1, 2\] dimensions came"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        read(tmp_path, text)
