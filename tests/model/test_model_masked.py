"""What is padded never reaches a result: outputs, losses and gradients of padded and of single sequences are equal."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from netwright.config.calls import parse_call
from netwright.model.build import Sizes, construct, resolve
from netwright.model.layers import Form
from netwright.model.losses import PerStep
from netwright.model.masked import Masked, unmaskable

LENGTHS = [7, 19, 12, 30]
FEATURES = 6
POOLED = ["AdaptiveAvgPool1d(1)", "Flatten()", "Linear()"]

# the layers as written, and whether channels come first
NETWORKS: dict[str, tuple[list[str], bool]] = {
    "GRU": (["GRU(8)", "LastStep()", "Linear()"], False),
    "both directions": (["GRU(8, bidirectional=True, num_layers=2)", "LastStep()", "Linear()"], False),
    "LSTM and mean": (["LSTM(8, bidirectional=True)", "Tanh()", "MeanOverTime()", "Linear()"], False),
    "RNN per step": (["RNN(8)", "LayerNorm()", "Linear(5)", "GELU()", "MeanOverTime()", "Linear()"], False),
    "attention": (["MultiheadAttention(num_heads=2)", "LayerNorm()", "MeanOverTime()", "Linear()"], False),
    "transformer": (["TransformerEncoderLayer(nhead=3, dim_feedforward=16)", "MeanOverTime()", "Linear()"], False),
    "convolutions": (["Conv1d(8, 3, padding=1)", "ReLU()", "Conv1d(8, 5)", *POOLED], True),
    "strides": (["Conv1d(8, 3, stride=2, dilation=2)", "Sigmoid()", "AdaptiveMaxPool1d(1)", "Flatten()", "Linear()"], True),
    "same": (['Conv1d(8, 4, padding="same")', "ELU()", "Transpose()", "GRU(6)", "LastStep()", "Linear()"], True),
    "maximum": (["Conv1d(8, 3)", "MaxPool1d(3, stride=2, padding=1)", "Transpose()", "MeanOverTime()", "Linear()"], True),
    "negative maximum": (["LogSigmoid()", "MaxPool1d(2)", "AdaptiveMaxPool1d(1)", "Flatten()", "Linear()"], True),
    "mean pool": (["AvgPool1d(3, padding=1)", "Conv1d(4, 2)", *POOLED], True),
    "residual": (["Linear(8)", "Residual([Linear(8), ReLU(), Linear(8)])", "GRU(4)", "LastStep()", "Linear()"], False),
    "branches": (
        ["Parallel([Conv1d(4, 3, padding=1), Conv1d(4, 5, padding=2)])", "Hardswish()", *POOLED],
        True,
    ),
    "turned": (["Transpose()", "Conv1d(8, 3)", "Softplus()", "Transpose()", "LSTM(5)", "LastStep()", "Linear()"], False),
    "after time": (["GRU(8)", "LastStep()", "BatchNorm1d()", "ReLU()", "Linear()"], False),
    "softmax": (["Linear(8)", "Softmax()", "MeanOverTime()", "Linear()"], False),
}  # fmt: skip
PER_STEP = {
    "GRU": ["GRU(8, bidirectional=True)", "Linear()"],
    "convolution": ["Transpose()", "Conv1d(8, 5, padding=2)", "ReLU()", "Transpose()", "Linear()"],
    "attention": ["MultiheadAttention(num_heads=3)", "Linear()"],
}


def build(texts: list[str], channels_first: bool, seed: int = 0) -> tuple[Masked, nn.Sequential]:
    """Return the network for padded sequences and the plain one, with the same weights."""
    shape = (FEATURES, 30) if channels_first else (30, FEATURES)
    form = Form(shape, "NCT" if channels_first else "NTC")
    calls = resolve([parse_call(text, "layers") for text in texts], form, Sizes(2)).calls
    torch.manual_seed(seed)
    masked = Masked(*construct(calls), channels_first=channels_first)
    torch.manual_seed(seed)
    return masked, construct(calls)


def padded(rows: list[Tensor], width: int, channels_first: bool) -> tuple[Tensor, Tensor]:
    """Return rows with noise behind their ends, and their lengths."""
    x = torch.full((len(rows), width, FEATURES), 1e3, dtype=rows[0].dtype) * torch.randn(len(rows), width, FEATURES).to(
        rows[0]
    )
    for place, row in enumerate(rows):
        x[place, : len(row)] = row
    return (x.transpose(1, 2) if channels_first else x), torch.tensor([len(row) for row in rows])


def sequences(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(length, FEATURES, dtype=dtype) for length in LENGTHS]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("width", [30, 47])
def test_padding_does_not_change_a_prediction(name: str, width: int) -> None:
    texts, channels_first = NETWORKS[name]
    masked, plain = build(texts, channels_first)
    rows = sequences()
    with torch.no_grad():
        found = masked.eval()(*padded(rows, width, channels_first))
        alone = [plain.eval()((row.T if channels_first else row).unsqueeze(0)) for row in rows]
    torch.testing.assert_close(found, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_does_not_change_loss_and_gradient(name: str) -> None:
    texts, channels_first = NETWORKS[name]
    rows, target = sequences(torch.float64), torch.tensor([0, 1, 1, 0])
    gradients = []
    for width in (30, 53):
        masked, _ = build(texts, channels_first)
        masked.double().train()
        loss = nn.functional.cross_entropy(masked(*padded(rows, width, channels_first)), target)
        loss.backward()
        gradients.append([loss.detach(), *(parameter.grad for parameter in masked.parameters())])
    if "Dropout" not in str(masked) and name != "transformer":
        torch.testing.assert_close(gradients[0], gradients[1], atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("name", PER_STEP)
def test_outputs_and_loss_per_step_are_those_of_each_sequence_alone(name: str) -> None:
    masked, plain = build(PER_STEP[name], False)
    rows = sequences()
    classes = [torch.arange(len(row)) % 2 for row in rows]
    x, lengths = padded(rows, 41, False)
    target = torch.full((4, 41), -100)
    for place, answer in enumerate(classes):
        target[place, : len(answer)] = answer
    with torch.no_grad():
        found = masked.eval()(x, lengths)
        alone = [plain.eval()(row.unsqueeze(0))[0] for row in rows]
        for place, expected in enumerate(alone):
            torch.testing.assert_close(found[place, : len(expected)], expected, atol=1e-5, rtol=1e-5)
            assert (found[place, len(expected) :] == 0).all()
        loss = PerStep(nn.CrossEntropyLoss())(found, target)
        torch.testing.assert_close(loss, nn.functional.cross_entropy(torch.cat(alone), torch.cat(classes)))


def test_codes_are_padded_with_any_code() -> None:
    calls = resolve(
        [parse_call(text, "layers") for text in ("Embedding(4)", "GRU(8, bidirectional=True)", "LastStep()", "Linear()")],
        Form((30,), None, True),
        Sizes(2, 10),
    ).calls
    torch.manual_seed(0)
    masked = Masked(*construct(calls)).eval()
    codes = [torch.randint(0, 10, (length,)) for length in LENGTHS]
    x = torch.full((4, 35), 9)
    for place, row in enumerate(codes):
        x[place, : len(row)] = row
    with torch.no_grad():
        found = masked(x, torch.tensor(LENGTHS))
        for place, row in enumerate(codes):
            torch.testing.assert_close(found[place], masked(row.unsqueeze(0))[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_lengths_it_is_the_plain_sequential_bit_for_bit(name: str) -> None:
    texts, channels_first = NETWORKS[name]
    masked, plain = build(texts, channels_first)
    assert list(masked.state_dict()) == list(plain.state_dict())
    x = torch.randn(3, FEATURES, 30) if channels_first else torch.randn(3, 30, FEATURES)
    assert torch.equal(masked.eval()(x), plain.eval()(x))
    assert unmaskable(masked, 19) is None


@pytest.mark.parametrize(
    ("texts", "channels_first", "shortest", "words"),
    [
        (["Conv1d(8, 3)", "BatchNorm1d()", *POOLED], True, 9, "layer 1 BatchNorm1d"),
        (["InstanceNorm1d(affine=True)", *POOLED], True, 9, "counts? padding|statistics"),
        (["GroupNorm(2)", *POOLED], True, 9, "write LayerNorm"),
        (["Flatten()", "Linear()"], False, 9, r"put LastStep\(\) or MeanOverTime\(\), or AdaptiveAvgPool1d\(1\), before it"),
        (["AdaptiveAvgPool1d(4)", "Flatten()", "Linear()"], True, 9, "write 1 as its size"),
        (['Conv1d(8, 3, padding=1, padding_mode="circular")', *POOLED], True, 9, "circular"),
        (["MaxPool1d(2, ceil_mode=True)", *POOLED], True, 9, "ceil_mode"),
        (["AvgPool1d(3, padding=1, count_include_pad=False)", *POOLED], True, 9, "leave it out"),
        (["Softmax(dim=1)", "MeanOverTime()", "Linear()"], False, 9, "runs along time"),
        (["ConvTranspose1d(4, 3)", *POOLED], True, 9, "would read padding as data"),
        (["Conv1d(8, 3)", "Conv1d(8, 5)", *POOLED], True, 6, r"layer 1 .*\(4 steps here\)"),
        (
            ["Residual([BatchNorm1d()])", *POOLED], True, 9, r"layer 0\.0 BatchNorm1d",
        ),
        (
            ["Parallel([Conv1d(4, 3), Conv1d(4, 3, padding=1, dilation=2)])", "AdaptiveAvgPool1d(1)", "Flatten()", "Linear()"],
            True, 2, "nothing is left of the shortest sequence",
        ),
    ],
)  # fmt: skip
def test_what_would_read_padding_is_refused_with_what_to_do(
    texts: list[str], channels_first: bool, shortest: int, words: str
) -> None:
    problem = unmaskable(build(texts, channels_first)[0], shortest)
    assert problem is not None

    assert re.search(words, problem), problem


def test_every_layer_called_per_step_treats_each_step_alone() -> None:
    generator = np.random.default_rng(0)
    for text in ("Dropout(0.0)", "PReLU()", "Mish()", "Softsign()", "Threshold(0.1, 5.0)", "Hardshrink()", "LeakyReLU()"):
        masked, plain = build([text, "MeanOverTime()", "Linear()"], False)
        rows = [torch.from_numpy(generator.normal(size=(length, FEATURES))).float() for length in LENGTHS]
        with torch.no_grad():
            found = masked.eval()(*padded(rows, 33, False))
            alone = torch.cat([plain.eval()(row.unsqueeze(0)) for row in rows])
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)
