"""Multiply-adds, parameters and memory against numbers computed by hand; the module that is measured stays as it was."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import Tensor, nn

from netwright.config.calls import parse_call
from netwright.errors import ConfigError
from netwright.model.build import Sizes, construct, resolve
from netwright.model.layers import Form
from netwright.model.summary import Summary, call_model, output_shape, summarize


def of_texts(texts: list[str], form: Form) -> tuple[nn.Sequential, Summary]:
    resolved = resolve([parse_call(text, "model.layers") for text in texts], form, Sizes(10))
    model = construct(resolved.calls)
    return model, summarize(
        model, {"x": torch.zeros(2, *form.shape)}, {layer.path: str(layer.call) for layer in resolved.layers}
    )


@pytest.mark.parametrize(
    ("text", "form", "adds", "parameters", "output"),
    [
        ("Linear(128)", Form((784,), "NC"), 784 * 128, 784 * 128 + 128, [128]),
        ("Linear(128, bias=False)", Form((784,), "NC"), 784 * 128, 784 * 128, [128]),
        ("Linear(8)", Form((5, 4), "NTC"), 5 * 4 * 8, 4 * 8 + 8, [5, 8]),
        ("Conv1d(8, 3)", Form((4, 10), "NCT"), 8 * 8 * 4 * 3, 8 * 4 * 3 + 8, [8, 8]),
        ("Conv2d(32, 3, padding=1)", Form((1, 28, 28), "NCHW"), 28 * 28 * 32 * 9, 32 * 9 + 32, [32, 28, 28]),
        ("Conv2d(32, 3, stride=2)", Form((3, 9, 9), "NCHW"), 4 * 4 * 32 * 3 * 9, 32 * 27 + 32, [32, 4, 4]),
        ("Conv2d(8, 3, groups=4, padding=1)", Form((4, 5, 5), "NCHW"), 25 * 8 * 9, 8 * 9 + 8, [8, 5, 5]),
        ("Conv2d(6, (1, 3), dilation=(1, 2))", Form((2, 4, 8), "NCHW"), 4 * 4 * 6 * 2 * 3, 6 * 2 * 3 + 6, [6, 4, 4]),
        ("Conv3d(5, 2)", Form((2, 4, 4, 4), "NCDHW"), 27 * 5 * 2 * 8, 5 * 2 * 8 + 5, [5, 3, 3, 3]),
        ("ConvTranspose2d(3, 2, stride=2)", Form((4, 5, 5), "NCHW"), 25 * 4 * 3 * 4, 4 * 3 * 4 + 3, [3, 10, 10]),
        ("RNN(20)", Form((7, 10), "NTC"), 7 * (20 * 10 + 20 * 20), 20 * 10 + 20 * 20 + 40, [7, 20]),
        ("LSTM(20)", Form((7, 10), "NTC"), 7 * 4 * (20 * 10 + 20 * 20), 4 * (20 * 10 + 20 * 20 + 40), [7, 20]),
        ("LSTM(20, num_layers=2)", Form((7, 10), "NTC"), 7 * 4 * (20 * 10 + 3 * 20 * 20),
         4 * (20 * 10 + 3 * 20 * 20 + 80), [7, 20]),
        ("GRU(8, bidirectional=True)", Form((7, 10), "NTC"), 7 * 2 * 3 * (80 + 64), 2 * 3 * (80 + 64 + 16), [7, 16]),
        ("MultiheadAttention(2)", Form((7, 8), "NTC"), 4 * 7 * 64 + 2 * 49 * 8, 4 * 64 + 4 * 8, [7, 8]),
        ("TransformerEncoderLayer(2, dim_feedforward=16)", Form((7, 8), "NTC"), 4 * 7 * 64 + 2 * 49 * 8 + 2 * 7 * 8 * 16,
         4 * 64 + 4 * 8 + 2 * 8 * 16 + 16 + 8 + 2 * 16, [7, 8]),
        ("BatchNorm2d()", Form((4, 5, 5), "NCHW"), 0, 8, [4, 5, 5]),
        ("ReLU()", Form((6,), "NC"), 0, 0, [6]),
        ("MaxPool2d(2)", Form((4, 6, 6), "NCHW"), 0, 0, [4, 3, 3]),
        ("Flatten()", Form((4, 6, 6), "NCHW"), 0, 0, [144]),
    ],
)  # fmt: skip
def test_a_layer_is_counted_as_by_hand(text: str, form: Form, adds: int, parameters: int, output: list[int]) -> None:
    model, summary = of_texts([text], form)
    layer = summary.layers[0]
    assert (layer.path, layer.multiply_adds, layer.parameters, layer.output) == ("0", adds, parameters, output)
    numbers = 1
    for size in output:
        numbers *= size
    assert layer.memory_bytes == 4 * numbers
    assert summary.multiply_adds == adds
    assert summary.parameters == parameters == sum(parameter.numel() for parameter in model.parameters())
    assert summary.memory_bytes == 4 * (parameters + numbers)


def test_totals_are_the_sums_and_nested_layers_are_listed_by_their_path() -> None:
    texts = ["Residual([Linear(6), ReLU()])", "Parallel([Linear(3), Linear(4)])", "Linear()"]
    model, summary = of_texts(texts, Form((6,), "NC"))
    assert [(layer.path, layer.multiply_adds) for layer in summary.layers] == [
        ("0", 0), ("0.0", 36), ("0.1", 0), ("1", 0), ("1.0", 18), ("1.1", 24), ("2", 70),
    ]  # fmt: skip
    assert summary.multiply_adds == 148
    assert summary.parameters == summary.trainable == sum(value.numel() for value in model.parameters())
    assert [layer["text"] for layer in summary.to_json()["layers"]][:2] == [
        "Residual()",
        "Linear(in_features=6, out_features=6)",
    ]


class Own(nn.Module):
    """Two inputs, a layer used twice, a frozen layer, dropout, and batch statistics that a careless look would move."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)
        self.frozen = nn.Linear(4, 2).requires_grad_(False)
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        mixed = self.norm(self.drop(self.shared(left) + self.shared(right)))
        return self.frozen(mixed + torch.rand(1))


def test_an_own_module_is_measured_on_a_copy_and_stays_untouched() -> None:
    model = Own().train()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(5)
    state = torch.get_rng_state()
    inputs = {"left": torch.ones(9, 4), "right": torch.ones(9, 4)}

    summary = summarize(model, inputs)
    shape = output_shape(model, inputs)

    assert shape == (2, 2)
    assert {layer.path: layer.multiply_adds for layer in summary.layers} == {"shared": 32, "frozen": 8, "norm": 0, "drop": 0}
    assert (summary.parameters, summary.trainable) == (20 + 10 + 8, 20 + 8)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(module.training for module in model.modules())
    assert [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])] == []
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


class TimeFirst(nn.Module):
    """An own module that keeps torch's default, time before rows."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 8)
        self.attention = nn.MultiheadAttention(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        steps = self.lstm(x.transpose(0, 1))[0]
        return self.attention(steps, steps, steps, need_weights=False)[0][-1]


def test_layers_that_read_time_first_are_counted_per_row_all_the_same() -> None:
    summary = summarize(TimeFirst(), {"x": torch.zeros(2, 7, 4)})
    counted = {layer.path: layer.multiply_adds for layer in summary.layers}
    assert counted == {"lstm": 7 * 4 * (8 * 4 + 8 * 8), "attention": 4 * 7 * 64 + 2 * 49 * 8}


class Failing(nn.Module):
    """A module whose forward does not fit the data."""

    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no such thing")


class Pair(nn.Module):
    """A module that gives two tensors."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def test_a_forward_that_fails_is_one_line_with_the_shapes_it_was_given() -> None:
    message = "model: the network fails on the data (x (2, 4)): KeyError: 'no such thing'; mend its forward"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        summarize(Failing(), {"x": torch.zeros(6, 4)})
    with pytest.raises(ConfigError, match="the network gives tuple; expected one tensor"):
        output_shape(Pair(), {"x": torch.zeros(6, 4)})


def test_weights_in_float64_are_told_where_rows_are_float32() -> None:
    with pytest.raises(ConfigError, match=r"rows are float32 and weights float64, hand over model\.float\(\)"):
        output_shape(nn.Linear(4, 2).double(), {"x": torch.zeros(3, 4)})


def test_one_input_goes_in_by_position_and_several_by_name() -> None:
    assert torch.equal(call_model(nn.Identity(), {"anything": torch.ones(2, 4)}), torch.ones(2, 4))
    model = Own().eval()
    torch.manual_seed(0)
    swapped = call_model(model, {"right": torch.ones(2, 4), "left": torch.zeros(2, 4)})
    torch.manual_seed(0)
    assert torch.equal(swapped, model(torch.zeros(2, 4), torch.ones(2, 4)))
