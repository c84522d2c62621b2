"""Sequences of different length through the front door: trained, loaded, predicted, and refused with what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pytest
from torch import nn

import netwright as nw
from netwright.errors import ConfigError, DataError
from netwright.model.masked import Masked

FEATURES = 3
CONVOLUTION = ["Conv1d(8, 5)", "ReLU()", "AdaptiveAvgPool1d(1)", "Flatten()", "Linear()"]


def rows(lengths: list[int]) -> list[npt.NDArray[np.float64]]:
    generator = np.random.default_rng(0)
    return [generator.normal(size=(length, FEATURES)) + place % 2 for place, length in enumerate(lengths)]


def trained(folder: Path, lengths: list[int], **settings: object) -> nw.Run:
    target = np.arange(len(lengths)) % 2
    return nw.train(data=(rows(lengths), target), epochs=1, run_dir=folder / "run", **settings)


def test_the_same_rows_give_the_same_predictions_with_any_company(tmp_path: Path) -> None:
    run = trained(tmp_path, [9, 10, 12, 20] * 10, layers=CONVOLUTION)
    assert isinstance(run.model, Masked)
    new = rows([5, 31, 9, 14])
    together = run.predict_proba(new)
    alone = np.concatenate([run.predict_proba([row]) for row in new])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_array_equal(nw.load(run.folder).predict_proba(new), together)


def test_a_few_short_rows_among_many_of_one_length_are_padded_to_it(tmp_path: Path) -> None:
    run = trained(tmp_path, [30] * 100 + list(range(10, 20)), layers=CONVOLUTION)
    assert run.config.data.rungs == [30]
    assert isinstance(run.model, Masked)
    new = rows([30, 11])
    np.testing.assert_allclose(nw.load(run.folder).predict_proba(new), run.predict_proba(new), atol=1e-6)


def test_an_own_module_without_lengths_is_told_of_a_few_short_rows_too(tmp_path: Path) -> None:
    own = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(ConfigError, match="Sequential.forward has no argument lengths"):
        trained(tmp_path, [30] * 100 + list(range(10, 20)), model=own)


def test_without_a_description_channels_first_are_read_by_convolutions_normalised_per_step(tmp_path: Path) -> None:
    run = trained(tmp_path, [9, 10, 12, 20] * 10, layout="NCT")
    kinds = {type(layer).__name__ for layer in run.model.modules()}
    assert {"Conv1d", "LayerNorm"} <= kinds
    assert "BatchNorm1d" not in kinds


def test_a_layer_that_would_read_padding_is_named_with_the_lengths(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        trained(tmp_path, [9, 10, 12, 20] * 10, layers=["Conv1d(8, 5)", "BatchNorm1d()", *CONVOLUTION[1:]])
    assert str(caught.value) == (
        "model.layers.1: layer 1 BatchNorm1d(num_features=8): sequences of different length came (9 to 20 steps); it "
        "would count padding in its statistics; write Transpose(), LayerNorm(), Transpose() in its place"
    )
    assert not (tmp_path / "run").exists()


def test_a_sequence_too_short_to_predict_is_named(tmp_path: Path) -> None:
    run = trained(tmp_path, [9, 10, 12, 20] * 10, layers=CONVOLUTION)
    with pytest.raises(DataError) as caught:
        run.predict(rows([12, 3]))
    assert str(caught.value) == (
        "data: sequence 2: a sequence of 3 steps came; layer 0 of the network: nothing is left of the shortest sequence (3 "
        "steps before this layer); expected one step at least; use a smaller kernel, add padding, or leave short sequences out"
    )


def test_a_network_of_one_length_that_cannot_read_another_says_so(tmp_path: Path) -> None:
    def write(name: str, lengths: list[int]) -> Path:
        numbers = np.repeat(np.arange(len(lengths)), lengths)
        values = np.random.default_rng(0).normal(size=len(numbers))
        kind = np.asarray(["high", "low"])[numbers % 2]
        pa.csv.write_csv(pa.table({"id": numbers, "value": values, "kind": kind}), tmp_path / name)
        return tmp_path / name

    known, new = write("known.csv", [10] * 40), write("new.csv", [10, 4])
    run = nw.train(
        str(known), target="kind", sequences="id", layers=["Flatten()", "Linear()"], epochs=1, run_dir=tmp_path / "run"
    )
    assert type(run.model) is nn.Sequential
    with pytest.raises(
        DataError, match=r"data: row 1: a sequence of shape \(4, 1\) came; .*; give sequences of the length it"
    ):
        run.predict(new)


def test_the_summary_counts_attention_and_both_directions(tmp_path: Path) -> None:
    layers = ["Linear(4)", "MultiheadAttention(2)", "GRU(5, bidirectional=True)", "MeanOverTime()", "Linear()"]
    different = trained(tmp_path / "different", [20, 9, 10, 12] * 10, layers=layers)
    equal = nw.train(
        data=(np.zeros((40, 20, FEATURES)) + rows([20])[0], np.arange(40) % 2), layout="NTC", layers=layers, epochs=1,
        run_dir=tmp_path / "equal",
    )  # fmt: skip
    assert different.record["model"] == equal.record["model"]
