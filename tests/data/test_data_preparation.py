"""Raw rows to tensors: scikit-learn's numbers, learned from the train rows alone, each row by itself, saved whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

from netwright.data.columns import learn_columns
from netwright.data.preparation import Preparation, fit_arrays, fit_table
from netwright.errors import DataError
from netwright.sources.arrays import Arrays
from netwright.sources.marks import Markers
from netwright.sources.tables import Origin, Table, from_frame

ROWS = 400
TRAIN = np.arange(0, ROWS, 2)  # every second row trains
TEST = np.arange(1, ROWS, 2)


def frame(seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "normal": generator.normal(5, 3, ROWS),
            "skewed": generator.exponential(1e4, ROWS),
            "tiny": generator.normal(1, 1e-6, ROWS),
            "steps": generator.integers(0, 5, ROWS),
            "constant": np.full(ROWS, 7.25),
            "gaps": np.where(generator.random(ROWS) < 0.2, np.nan, generator.normal(-2, 1, ROWS)),
            "flag": generator.random(ROWS) < 0.3,
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(generator.integers(0, 3000, ROWS), "D"),
            "colour": generator.choice(["red", "green", "blue"], ROWS),
            "size": generator.choice(["S", "M", "L", "XL"], ROWS),
        }
    )


def prepared_table(
    data: pd.DataFrame, rows: np.ndarray = TRAIN, numbers: str = "standardize", codes: bool = False, **kinds: str
) -> tuple[Preparation, Table]:
    table = from_frame(data)
    encoder, _ = learn_columns(table, rows, table.names, kinds, Markers())
    return fit_table(table, rows, encoder, numbers, codes), table


def features(preparation: Preparation, table: Table) -> np.ndarray:
    return preparation.prepare(table)["table"].numpy()


NUMBERS = ["normal", "skewed", "tiny", "steps", "constant"]


def test_standardised_numbers_are_those_of_scikit_learn() -> None:
    data = frame()[NUMBERS]
    preparation, table = prepared_table(data)
    expected = StandardScaler().fit(data.iloc[TRAIN].to_numpy(float)).transform(data.to_numpy(float))
    found = features(preparation, table)
    assert found.dtype == np.float32
    assert found.shape == (ROWS, 5)
    # computed in float64 and rounded once: half a unit of float32, and 1e-9 for the order of the sums
    np.testing.assert_allclose(found, expected, rtol=1.2e-7, atol=1e-9)


def test_quantiles_are_those_of_scikit_learn_inside_a_thousandth() -> None:
    data = frame()[["normal", "skewed"]]
    preparation, table = prepared_table(data, numbers="quantile")
    reference = QuantileTransformer(n_quantiles=len(TRAIN), output_distribution="normal").fit(data.iloc[TRAIN].to_numpy())
    expected = reference.transform(data.to_numpy())
    ranks, expected_ranks = (
        torch.special.ndtr(torch.from_numpy(values)) for values in (features(preparation, table), expected)
    )
    # a thousand points between 200 rows: equal ranks within a thousandth (we stop at 0.001 and 0.999, they go on)
    np.testing.assert_allclose(ranks, expected_ranks, atol=1.01e-3)


def test_quantiles_of_many_rows_are_those_of_scikit_learn() -> None:
    data = pd.DataFrame({"x": np.random.default_rng(0).gamma(0.5, 1e6, 20_000)})
    rows = np.arange(0, 20_000, 2)
    preparation, table = prepared_table(data, rows, "quantile")
    reference = QuantileTransformer(n_quantiles=1000, output_distribution="normal", subsample=None)
    expected = reference.fit(data.iloc[rows].to_numpy()).transform(data.to_numpy())
    np.testing.assert_allclose(features(preparation, table), np.clip(expected, -3.0902, 3.0902), atol=1e-4)


def test_quantiles_of_ties_lie_in_the_middle_of_their_ranks() -> None:
    data = pd.DataFrame({"x": np.repeat([0.0, 1.0, 5.0], [200, 100, 100])})
    preparation, table = prepared_table(data, np.arange(400), "quantile")
    found = features(preparation, table)
    middle = torch.special.ndtri(torch.tensor([0.25, 0.625, 0.875], dtype=torch.float64)).numpy()
    np.testing.assert_allclose(found[[0, 250, 350], 0], middle, atol=0.01)


def test_quantiles_are_monotonous_and_bounded_far_outside_the_train_range() -> None:
    data = pd.DataFrame({"x": np.concatenate([np.random.default_rng(0).normal(size=200), [-1e30, -10, 10, 1e30]])})
    preparation, table = prepared_table(data, np.arange(200), "quantile")
    found = features(preparation, table)[:, 0]
    order = np.argsort(data["x"].to_numpy())
    assert (np.diff(found[order]) >= 0).all()
    assert found.min() == pytest.approx(-3.0902, abs=1e-4)
    assert found.max() == pytest.approx(3.0902, abs=1e-4)


def test_numbers_may_stay_as_they_are() -> None:
    data = frame()[["normal", "skewed", "gaps"]]
    preparation, table = prepared_table(data, numbers="none")
    found = features(preparation, table)
    np.testing.assert_array_equal(found[:, :2], data[["normal", "skewed"]].to_numpy(np.float32))
    mean = data["gaps"].iloc[TRAIN].mean()
    np.testing.assert_allclose(found[:, 2], data["gaps"].fillna(mean), rtol=1e-6)


def test_missing_numbers_get_the_train_mean_and_a_flag() -> None:
    data = frame()[["gaps", "normal"]]
    preparation, table = prepared_table(data)
    found = features(preparation, table)
    mean = data["gaps"].iloc[TRAIN].mean()
    filled = data["gaps"].fillna(mean)
    expected = (filled - filled.iloc[TRAIN].mean()) / filled.iloc[TRAIN].std(ddof=0)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)
    assert found.shape[1] == 3
    np.testing.assert_array_equal(found[:, 2], data["gaps"].isna())


def test_a_column_without_missing_train_cells_has_no_flag_and_is_filled_with_the_train_mean() -> None:
    values = np.arange(20.0) ** 2
    values[19] = np.nan
    preparation, table = prepared_table(pd.DataFrame({"x": values}), np.arange(10))
    found = features(preparation, table)
    assert found.shape == (20, 1)
    assert found[19, 0] == pytest.approx(0.0, abs=1e-7)  # the mean of train, standardised


def test_a_constant_column_becomes_zero_and_not_infinite() -> None:
    data = pd.DataFrame({"x": [1e20] * 10 + [1e20 + 1e10], "y": [0.1] * 10 + [5.0]})
    preparation, table = prepared_table(data, np.arange(10))
    found = features(preparation, table)
    assert np.isfinite(found).all()
    assert found[:10].tolist() == [[0.0, 0.0]] * 10


def test_large_numbers_close_together_keep_their_differences() -> None:
    values = 1.7e9 + np.arange(100.0)  # seconds since 1970: float32 alone holds steps of 128
    preparation, table = prepared_table(pd.DataFrame({"x": values}), np.arange(100), x="number")
    expected = StandardScaler().fit_transform(values[:, None])
    np.testing.assert_allclose(features(preparation, table), expected, rtol=1e-6, atol=1e-7)


def test_one_hot_features_are_those_of_scikit_learn() -> None:
    data = frame()[["colour", "size"]]
    data.loc[1, "colour"] = "violet"  # row 1 is a test row
    data.loc[3, "size"] = "XXL"
    preparation, table = prepared_table(data)
    reference = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(data.iloc[TRAIN])
    np.testing.assert_array_equal(features(preparation, table), reference.transform(data))
    assert features(preparation, table)[1, :3].tolist() == [0, 0, 0]


def test_codes_are_whole_numbers_after_the_others_with_zero_for_unknown() -> None:
    data = frame()[["colour", "normal", "size"]]
    data.loc[1, "colour"] = "violet"
    preparation, table = prepared_table(data, codes=True)
    found = features(preparation, table)
    assert preparation.code_levels() == [4, 5]
    assert found.shape == (ROWS, 3)
    places = {"blue": 1, "green": 2, "red": 3, "violet": 0}
    assert found[:, 1].tolist() == [places[colour] for colour in data["colour"]]
    assert set(found[:, 2]) == {1, 2, 3, 4}
    assert found[TRAIN, 0].mean() == pytest.approx(0, abs=1e-6)


def test_one_hot_categories_have_no_code_levels() -> None:
    assert prepared_table(frame()[["colour", "normal"]])[0].code_levels() == []


def test_booleans_are_standardised_numbers() -> None:
    data = frame()[["flag"]]
    preparation, table = prepared_table(data)
    expected = StandardScaler().fit(data.iloc[TRAIN].to_numpy(float)).transform(data.to_numpy(float))
    np.testing.assert_allclose(features(preparation, table), expected, rtol=1e-6)


def test_dates_give_standardised_days_and_the_phases_of_year_week_and_day() -> None:
    stamps = ["1970-01-01T00:00:00", "1970-01-08T06:00:00", "1971-01-01T12:00:00", "1970-01-02T18:00:00"]
    preparation, table = prepared_table(pd.DataFrame({"when": stamps}), np.arange(4))
    found = features(preparation, table)
    days = np.array([0, 7.25, 365.5, 1.75])
    assert found.shape == (4, 7)
    np.testing.assert_allclose(found[:, 0], (days - days.mean()) / days.std(), atol=1e-6)
    for place, turn in ((1, 365.2425), (3, 7.0), (5, 1.0)):
        np.testing.assert_allclose(found[:, place], np.sin(2 * np.pi * days / turn), atol=1e-6)
        np.testing.assert_allclose(found[:, place + 1], np.cos(2 * np.pi * days / turn), atol=1e-6)


def test_features_stand_in_the_order_numbers_dates_flags_categories() -> None:
    data = frame()[["colour", "day", "gaps", "flag"]]
    preparation, table = prepared_table(data)
    found = features(preparation, table)
    assert found.shape[1] == 2 + 7 + 1 + 3 == preparation.modules["table"].features()
    np.testing.assert_array_equal(found[:, 9], data["gaps"].isna())
    np.testing.assert_array_equal(found[:, 10:].argmax(1), data["colour"].map({"blue": 0, "green": 1, "red": 2}))


# dtype and layout of the raw arrays, the shape of a row, the channel axis and the shape after preparation
LAYOUTS: dict[str, tuple[str | None, tuple[int, ...], int | None, tuple[int, ...]]] = {
    "NC": ("NC", (5,), 1, (5,)),
    "NC, not written": (None, (5,), 1, (5,)),
    "NT": ("NT", (9,), None, (1, 9)),
    "NTC": ("NTC", (9, 3), 2, (9, 3)),
    "NCT": ("NCT", (3, 9), 1, (3, 9)),
    "three axes, not written": (None, (3, 9), None, (3, 9)),
    "NHW": ("NHW", (4, 6), None, (1, 4, 6)),
    "NCHW": ("NCHW", (3, 4, 6), 1, (3, 4, 6)),
    "NCHW, not written": (None, (3, 4, 6), 1, (3, 4, 6)),
    "NHWC": ("NHWC", (4, 6, 3), 3, (3, 4, 6)),
    "NDHW": ("NDHW", (2, 4, 6), None, (1, 2, 4, 6)),
    "NCDHW": ("NCDHW", (3, 2, 4, 6), 1, (3, 2, 4, 6)),
    "NDHWC": ("NDHWC", (2, 4, 6, 3), 4, (3, 2, 4, 6)),
}


def images(shape: tuple[int, ...], dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 200, (60, *shape))
    return values.astype(dtype)


def arrays_of(values: np.ndarray, layout: str | None = None) -> Arrays:
    return Arrays({"X": values}, None, (Origin("a", len(values)),), layout)


def expected_array(values: np.ndarray, layout: str | None, axis: int | None, rows: np.ndarray) -> np.ndarray:
    """Standardise per channel with NumPy alone, then put the channel where it belongs."""
    numbers = values.astype(np.float64)
    over = tuple(place for place in range(numbers.ndim) if place != axis)
    mean, deviation = (figure(numbers[rows], axis=over, keepdims=True) for figure in (np.mean, np.std))
    scaled = (numbers - mean) / np.where(deviation > 0, deviation, 1)
    if layout in ("NT", "NHW", "NDHW"):
        return scaled[:, None]
    return np.moveaxis(scaled, -1, 1) if layout in ("NHWC", "NDHWC") else scaled


@pytest.mark.parametrize("name", LAYOUTS)
def test_arrays_are_standardised_per_channel(name: str) -> None:
    layout, shape, axis, after = LAYOUTS[name]
    values = images(shape) * (1 + np.arange(shape[-1])) + 50
    rows = np.arange(0, 60, 2)
    raw = arrays_of(values, layout)
    preparation = fit_arrays(raw, rows, "standardize")
    found = preparation.prepare(raw)["X"]
    assert found.dtype == torch.float32
    assert tuple(found.shape) == (60, *after)
    assert found.is_contiguous() or layout in ("NHWC", "NDHWC")
    np.testing.assert_allclose(found.numpy(), expected_array(values, layout, axis, rows), atol=2e-6)


DTYPES = [
    "longdouble",
    "float64",
    "float32",
    "float16",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "bool",
]
BIG = [">f8", ">f4", ">f2", ">u2", ">i2", ">i4", ">i8", ">u4", ">u8"]


@pytest.mark.parametrize("dtype", [*DTYPES, *BIG])
@pytest.mark.parametrize("mode", ["standardize", "none"])
def test_arrays_of_every_dtype_give_the_numbers_they_hold(dtype: str, mode: str) -> None:
    plain = images((3, 4), np.int64) % (2 if dtype == "bool" else 100)
    rows = np.arange(0, 60, 2)
    raw = arrays_of(plain.astype(dtype), "NCT")
    found = fit_arrays(raw, rows, mode).prepare(raw)["X"]
    expected = plain if mode == "none" else expected_array(plain, "NCT", 1, rows)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64", ">i8"])
def test_large_whole_numbers_close_together_keep_their_differences(dtype: str) -> None:
    values = (1_700_000_000 + np.arange(60)).astype(dtype)[:, None]
    raw = arrays_of(values, "NC")
    found = fit_arrays(raw, np.arange(60), "standardize").prepare(raw)["X"]
    np.testing.assert_allclose(found.numpy(), StandardScaler().fit_transform(values.astype(float)), atol=1e-5)


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Fortran order": np.asfortranarray,
    "every second": lambda values: np.repeat(values, 2, axis=0)[::2],
    "backwards": lambda values: values[::-1][::-1],
    "transposed": lambda values: values.transpose(0, 2, 1).copy().transpose(0, 2, 1),
    "read only": lambda values: np.frombuffer(values.tobytes(), values.dtype).reshape(values.shape),
}


@pytest.mark.parametrize("name", VIEWS)
def test_arrays_of_every_memory_order_give_the_same_bits(name: str) -> None:
    values = images((3, 4))
    plain, view = arrays_of(values, "NCT"), arrays_of(VIEWS[name](values), "NCT")
    expected = fit_arrays(plain, np.arange(30), "standardize").prepare(plain)["X"]
    assert torch.equal(fit_arrays(view, np.arange(30), "standardize").prepare(view)["X"], expected)


def test_missing_numbers_of_arrays_become_the_mean_of_their_channel() -> None:
    values = images((3, 4)).astype(np.float32)
    values[5, 1, 2] = np.nan
    raw = arrays_of(values, "NCT")
    found = fit_arrays(raw, np.arange(30), "standardize").prepare(raw)["X"].numpy()
    assert found[5, 1, 2] == 0.0
    over = np.moveaxis(values[:30], 1, 0).reshape(3, -1).astype(float)
    expected = (values[7, 1] - np.nanmean(over[1])) / np.nanstd(over[1])
    np.testing.assert_allclose(found[7, 1], expected, atol=1e-6)
    assert np.isfinite(found).all()


def test_codes_of_arrays_stay_whole() -> None:
    for dtype in ("int64", "uint8", "uint16", "int32", ">i4"):
        raw = arrays_of(images((7,), dtype), None)
        found = fit_arrays(raw, np.arange(30), "codes").prepare(raw)["X"]
        assert found.dtype == torch.int64
        assert found.tolist() == raw.inputs["X"].tolist()


# the codes of new rows, words of the message or None
CODES: dict[str, tuple[np.ndarray, str | None]] = {
    "all known": (np.array([[0, 1], [2, 9]]), None),
    "unsigned": (np.array([[0, 1], [2, 9]], np.uint8), None),
    "big-endian": (np.array([[0, 1], [2, 10]], ">i4"), "a: row 2: array 'X' holds the code 10 at [1]"),
    "below zero": (np.array([[0, 1], [-2, 9]]), "a: row 2: array 'X' holds the code -2 at [0]"),
    "too large": (np.array([[300, 1], [2, 9]]), "numbers from 0 to 9"),
    "no whole number": (np.array([[0, 1.5], [2, 9]]), "holds the code 1.5"),
    "missing": (np.array([[0, np.nan], [2, 9]]), "holds the code nan"),
}


@pytest.mark.parametrize("name", CODES)
def test_codes_beyond_the_limit_are_named_by_row(name: str) -> None:
    codes, words = CODES[name]
    preparation = again(fit_arrays(arrays_of(images((2,), np.int64) % 10), np.arange(30), "codes", 10))
    if words is None:
        assert preparation.prepare(arrays_of(codes))["X"].tolist() == codes.tolist()
        return
    with pytest.raises(DataError) as problem:
        preparation.prepare(arrays_of(codes))
    assert words in str(problem.value)


def test_a_saved_preparation_without_a_limit_still_loads() -> None:
    preparation = fit_arrays(arrays_of(images((2,), np.int64)), np.arange(30), "codes")
    described = preparation.to_json()
    del described["modules"]["X"]["limit"]
    old = Preparation.from_json(described, preparation.modules.state_dict())
    assert old.prepare(arrays_of(np.array([[-5, 7]])))["X"].tolist() == [[-5, 7]]


def test_what_is_learned_does_not_depend_on_the_threads() -> None:
    values = np.random.default_rng(0).normal(size=(5000, 3, 40))
    data = pd.DataFrame(np.random.default_rng(1).normal(size=(100_000, 3)), columns=["a", "b", "c"])
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            of_arrays = learned(fit_arrays(arrays_of(values, "NCT"), np.arange(5000), "standardize"))
            found.append((of_arrays, learned(prepared_table(data, np.arange(100_000), "quantile")[0])))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1] == found[2]


def test_a_constant_channel_becomes_zero() -> None:
    values = images((3, 4))
    values[:, 1] = 0.1
    raw = arrays_of(values, "NCT")
    found = fit_arrays(raw, np.arange(30), "standardize").prepare(raw)["X"].numpy()
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, 1], 0, atol=1e-6)


# the array, its layout, words of the message
BAD_ARRAYS: dict[str, tuple[np.ndarray, str | None, str]] = {
    "too few axes": (images((5,)), "NCHW", "data.layout: NCHW came; array 'X' has 2 axes (60, 5)"),
    "too many axes": (images((3, 4, 6)), "NC", "data.layout: NC came; array 'X' has 4 axes (60, 3, 4, 6)"),
    "infinite": (np.where(np.arange(60) == 7, np.inf, 1.0)[:, None], "NC", "a: row 8: array 'X' is infinite at [0]"),
    "infinite, half precision": (np.full((60, 1), -np.inf, np.float16), None, "a: row 1: array 'X' is infinite"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_arrays_that_cannot_be_prepared_are_told_in_one_line(name: str) -> None:
    values, layout, words = BAD_ARRAYS[name]
    with pytest.raises(DataError) as problem:
        fit_arrays(arrays_of(values, layout), np.arange(30), "standardize")
    assert words in str(problem.value)


def test_numbers_beyond_float32_are_refused_and_not_cut_off() -> None:
    raw = arrays_of(np.array([[1.0], [1e39]]), "NC")
    with pytest.raises(DataError, match="a: row 2: array 'X'"):
        fit_arrays(raw, np.arange(1), "none").prepare(raw)


def test_rows_of_another_shape_or_name_are_refused() -> None:
    preparation = fit_arrays(Arrays({"a": images((5,)), "b": images((2,))}, None, (Origin("t", 60),)), np.arange(30), "none")
    with pytest.raises(DataError, match=r"array 'a' has rows of shape \(4,\); the network was trained on \(5,\)"):
        preparation.prepare(Arrays({"a": images((4,)), "b": images((2,))}, None, (Origin("t", 60),)))
    with pytest.raises(DataError, match="array 'b' is missing; the arrays are a, c"):
        preparation.prepare(Arrays({"a": images((5,)), "c": images((2,))}, None, (Origin("t", 60),)))


def test_tables_and_arrays_are_not_taken_for_each_other() -> None:
    of_table, table = prepared_table(frame()[["normal"]])
    of_arrays = fit_arrays(arrays_of(images((1,))), np.arange(30), "none")
    with pytest.raises(DataError, match="a: arrays came; the network was trained on a table"):
        of_table.prepare(arrays_of(images((1,))))
    with pytest.raises(DataError, match="data frame: a table came; the network was trained on arrays"):
        of_arrays.prepare(table)


TABLE_WAYS = [(numbers, codes) for numbers in ("standardize", "quantile", "none") for codes in (False, True)]
ARRAY_WAYS = [(layout, dtype) for layout in ("NCT", "NTC") for dtype in ("float64", "float32", "uint8", ">f4")]


@pytest.mark.parametrize(("numbers", "codes"), TABLE_WAYS)
def test_table_rows_prepared_one_by_one_equal_rows_prepared_together_bit_for_bit(numbers: str, codes: bool) -> None:
    preparation, table = prepared_table(frame(), numbers=numbers, codes=codes)
    together = features(preparation, table)
    for row in range(0, 40):
        alone = features(preparation, Table(table.columns.slice(row, 1), table.origins))
        assert alone.tobytes() == together[[row]].tobytes()


@pytest.mark.parametrize(("layout", "dtype"), ARRAY_WAYS)
def test_array_rows_prepared_one_by_one_equal_rows_prepared_together_bit_for_bit(layout: str, dtype: str) -> None:
    raw = arrays_of(images((3, 5), dtype), layout)
    preparation = fit_arrays(raw, np.arange(30), "standardize")
    together = preparation.prepare(raw)["X"]
    for row in range(60):
        alone = preparation.prepare(arrays_of(raw.inputs["X"][row : row + 1], layout))["X"]
        assert torch.equal(alone, together[[row]])


def test_more_rows_than_a_chunk_are_prepared_like_few() -> None:
    values = np.random.default_rng(0).normal(size=(9000, 2))
    raw = arrays_of(values, "NC")
    preparation = fit_arrays(raw, np.arange(9000), "standardize")
    found = preparation.prepare(raw)["X"]
    np.testing.assert_allclose(found.numpy(), StandardScaler().fit_transform(values), atol=1e-6)
    part = preparation.prepare(arrays_of(values[4000:4200], "NC"))["X"]
    assert torch.equal(part, found[4000:4200])


RAW = {"NHW": (5, 4), "NHWC": (5, 4, 3), None: (7,)}


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float64", "bool"])
@pytest.mark.parametrize("layout", RAW)
def test_rows_prepared_after_the_gather_have_the_bits_of_rows_prepared_first(
    layout: str | None, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).integers(0, 250, (60, *RAW[layout])).astype(dtype)
    raw, rows = arrays_of(values, layout), torch.tensor([5, 59, 0, 5])
    preparation = fit_arrays(raw, np.arange(0, 60, 2), "standardize")
    first, some = preparation.examples(raw), preparation.examples(raw, np.arange(30, 60))
    assert list(first.inputs) == ["X"]
    changed = preparation.examples(raw, changed=True)
    monkeypatch.setattr("netwright.data.preparation.LATE", 0)
    late, late_some = preparation.examples(raw), preparation.examples(raw, np.arange(30, 60))
    smaller = dtype in ("uint8", "int16", "uint16", "bool")
    assert (list(late.raw), list(late_some.raw)) == ((["X"], ["X"]) if smaller else ([], []))
    assert (late.rows, late_some.rows, late.shapes) == (60, 30, first.shapes)
    for other in (late, changed):
        assert torch.equal(other.batch(rows).inputs["X"], first.batch(rows).inputs["X"])
    assert torch.equal(late_some.batch(rows % 30).inputs["X"], some.batch(rows % 30).inputs["X"])
    assert torch.equal(late.to(torch.device("cpu")).batch(rows).inputs["X"], first.batch(rows).inputs["X"])


def test_arrays_mapped_from_a_file_stay_there(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    np.save(tmp_path / "X.npy", values)
    mapped = arrays_of(np.asarray(np.load(tmp_path / "X.npy", mmap_mode="r")))
    preparation = fit_arrays(mapped, np.arange(30), "standardize")
    rows = torch.tensor([3, 39, 0])
    examples = preparation.examples(mapped)
    assert list(examples.raw) == ["X"]
    assert torch.equal(examples.batch(rows).inputs["X"], preparation.examples(arrays_of(values)).batch(rows).inputs["X"])


def again(preparation: Preparation) -> Preparation:
    described = json.loads(json.dumps(preparation.to_json()))
    return Preparation.from_json(described, preparation.modules.state_dict())


@pytest.mark.parametrize(("numbers", "codes"), TABLE_WAYS)
def test_a_saved_table_preparation_gives_the_same_bits(numbers: str, codes: bool) -> None:
    preparation, table = prepared_table(frame(), numbers=numbers, codes=codes)
    copy = again(preparation)
    assert features(copy, table).tobytes() == features(preparation, table).tobytes()
    assert copy.code_levels() == preparation.code_levels()
    assert copy.to_json() == preparation.to_json()


@pytest.mark.parametrize(("layout", "dtype"), ARRAY_WAYS)
def test_a_saved_array_preparation_gives_the_same_bits(layout: str, dtype: str) -> None:
    raw = arrays_of(images((3, 5), dtype), layout)
    preparation = fit_arrays(raw, np.arange(30), "standardize")
    assert torch.equal(again(preparation).prepare(raw)["X"], preparation.prepare(raw)["X"])
    assert again(preparation).layout("X") == layout


def learned(preparation: Preparation) -> tuple[str, dict[str, list[Any]]]:
    """Everything that was fitted; the counts of missing cells are remarks over all rows, not fitted."""
    described = preparation.to_json()
    for column in (described["encoder"] or {"columns": []})["columns"]:
        column.pop("missing")
    return json.dumps(described), {name: value.tolist() for name, value in preparation.modules.state_dict().items()}


def copy_the_first_row(data: pd.DataFrame) -> None:
    for name in data.columns:
        data[name] = data[name].where(data.index % 2 == 0, data[name].iloc[0])


# what is done to the test rows of the frame
CHANGES: dict[str, Callable[[pd.DataFrame], None]] = {
    "other numbers": lambda data: data.__setitem__("normal", data["normal"].where(data.index % 2 == 0, 1e6)),
    "missing where train has none": lambda data: data.__setitem__("skewed", data["skewed"].where(data.index % 2 == 0)),
    "nothing missing": lambda data: data.__setitem__("gaps", data["gaps"].where(data.index % 2 == 0, 0.5)),
    "other days": lambda data: data.__setitem__("day", data["day"].where(data.index % 2 == 0, pd.Timestamp("1900-01-01"))),
    "new categories": lambda data: data.__setitem__("colour", data["colour"].where(data.index % 2 == 0, "violet")),
    "all of them": copy_the_first_row,
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize(("numbers", "codes"), TABLE_WAYS)
def test_nothing_is_learned_from_test_rows_of_a_table(numbers: str, codes: bool, name: str) -> None:
    data = frame()
    expected = learned(prepared_table(data, numbers=numbers, codes=codes)[0])
    CHANGES[name](data)
    assert not data.iloc[TEST].equals(frame().iloc[TEST])
    assert data.iloc[TRAIN].equals(frame().iloc[TRAIN])
    assert learned(prepared_table(data, numbers=numbers, codes=codes)[0]) == expected


@pytest.mark.parametrize("name", LAYOUTS)
def test_nothing_is_learned_from_test_rows_of_arrays(name: str) -> None:
    layout, shape, _, _ = LAYOUTS[name]
    values, rows = images(shape), np.arange(0, 60, 2)
    expected = learned(fit_arrays(arrays_of(values, layout), rows, "standardize"))
    changed = values.copy()
    changed[1::2] = np.nan
    changed[1] = 1e9
    assert learned(fit_arrays(arrays_of(changed, layout), rows, "standardize")) == expected


def test_what_is_learned_does_change_with_the_train_rows() -> None:
    data = frame()
    expected = learned(prepared_table(data)[0])
    data.loc[0, "normal"] += 1
    assert learned(prepared_table(data)[0]) != expected
    values = images((3, 4))
    first = learned(fit_arrays(arrays_of(values, "NCT"), np.arange(30), "standardize"))
    values[0] += 1
    assert learned(fit_arrays(arrays_of(values, "NCT"), np.arange(30), "standardize")) != first
