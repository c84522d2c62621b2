"""Layers for the numbers of a table."""

from __future__ import annotations

import math

import pytest
import torch

from netwright.config.calls import parse_call
from netwright.errors import ConfigError
from netwright.model.build import Sizes, construct, resolve
from netwright.model.layers import Form
from netwright.model.numeric import PeriodicEmbeddings


def resolved_text(text: str, width: int, numbers: int | None) -> str:
    return str(resolve([parse_call(text, "0")], Form((width,), "NC"), Sizes(1, numbers=numbers)).calls[0])


def test_a_number_becomes_waves_of_its_own_frequencies_and_the_other_columns_pass() -> None:
    torch.manual_seed(0)
    layer = PeriodicEmbeddings(dimension=3, frequencies=4, sigma=0.5, columns=2)
    x = torch.randn(5, 3)
    found = layer(x)
    assert found.shape == (5, 2 * 3 + 1)
    assert torch.equal(found[:, 6], x[:, 2])
    for column in range(2):
        turns = 2 * math.pi * x[:, [column]] * layer.frequencies[column]
        expected = layer.linear(torch.cat([turns.cos(), turns.sin()], dim=1)).relu()
        torch.testing.assert_close(found[:, 3 * column : 3 * column + 3], expected)


def test_the_first_frequencies_have_the_deviation_that_was_asked_for_and_learn() -> None:
    torch.manual_seed(0)
    layer = PeriodicEmbeddings(frequencies=4000, sigma=0.3, columns=2)
    assert float(layer.frequencies.detach().std()) == pytest.approx(0.3, rel=0.03)
    layer(torch.randn(5, 2)).sum().backward()
    assert layer.frequencies.grad is not None
    assert float(layer.frequencies.grad.abs().min()) > 0


@pytest.mark.parametrize(
    ("text", "numbers", "columns"),
    [("PeriodicEmbeddings()", None, 5), ("PeriodicEmbeddings()", 3, 3), ("PeriodicEmbeddings(columns=2)", 3, 2)],
)
def test_the_columns_of_numbers_come_from_the_data(text: str, numbers: int | None, columns: int) -> None:
    assert resolved_text(text, 5, numbers) == f"PeriodicEmbeddings(columns={columns})"


def test_its_sizes_may_be_written_by_place() -> None:
    found = resolved_text("PeriodicEmbeddings(8, 16, 0.5)", 5, 2)
    assert found == "PeriodicEmbeddings(dimension=8, frequencies=16, sigma=0.5, columns=2)"
    layers = resolve([parse_call("PeriodicEmbeddings(8)", "0"), parse_call("Linear()", "1")], Form((5,), "NC"), Sizes(3))
    assert construct(layers.calls)(torch.zeros(2, 5)).shape == (2, 3)


@pytest.mark.parametrize(
    ("text", "numbers", "told"),
    [
        ("PeriodicEmbeddings()", 0, "the data have no columns of numbers; leave it out"),
        ("PeriodicEmbeddings(columns=9)", None, "columns=9 came; expected 1 to 5"),
        ("PeriodicEmbeddings(columns=2.5)", None, "columns=2.5 came; expected 1 to 5"),
        ("PeriodicEmbeddings(dimension=0)", None, "dimension=0 came; expected a whole number from 1"),
    ],
)
def test_what_it_cannot_read_is_told_with_the_value(text: str, numbers: int | None, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        resolved_text(text, 5, numbers)
