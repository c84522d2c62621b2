"""What is padded never reaches a result: outputs, losses and gradients of padded and of single sequences are equal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from netwright.config.calls import parse_call
from netwright.model.build import Sizes, construct, resolve
from netwright.model.layers import Form
from netwright.model.losses import PerStep
from netwright.model.masked import Masked
from netwright.model.padding import KNOWN, unmaskable

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
    "transformer": (["TransformerEncoderLayer(nhead=3, dim_feedforward=16, dropout=0.0)", "MeanOverTime()", "Linear()"], False),
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
    assert unmaskable(masked, torch.tensor(LENGTHS)) is None


# What a network of any layers may hold where (batch, time, features), (batch, channels, time) or nothing of time is left.
ANYWHERE = (
    "Identity()", "Dropout(0.3)", "AlphaDropout(0.3)", "ReLU()", "ReLU(inplace=True)", "ReLU6()", "RReLU()",
    "LeakyReLU()", "PReLU()", "ELU()", "CELU()", "SELU()", "GELU()", "SiLU()", "Mish()", "Sigmoid()", "LogSigmoid()",
    "Hardsigmoid()", "Tanh()", "Hardtanh()", "Tanhshrink()", "Hardswish()", "Hardshrink()", "Softplus()", "Softshrink()",
    "Softsign()", "Threshold(0.1, 5.0)", "Transpose()", "Residual([Tanh()])",
)  # fmt: skip
TIME_FIRST = (
    "Linear(6)", "LayerNorm()", "RMSNorm()", "RNN(5)", "LSTM(4, num_layers=2, bidirectional=True)", "GRU(5, bidirectional=True)",
    "MultiheadAttention(1)", "TransformerEncoderLayer(1, dim_feedforward=8)", "Softmax()", "LogSoftmax()", "Softmin()",
    "Sequential([Linear(8), GLU()])", "Residual([LayerNorm(), MultiheadAttention(1)])", "Parallel([GRU(3), Linear(2)])",
)  # fmt: skip
CHANNELS_FIRST = (
    "Conv1d(5, 3, padding=1)", "Conv1d(4, 2, stride=2)", "Conv1d(4, 3, dilation=2)", "Conv1d(4, 4, padding='same')",
    "MaxPool1d(2)", "MaxPool1d(3, stride=1, padding=1)", "AvgPool1d(3, stride=2, padding=1)", "ZeroPad1d((2, 0))",
    "AvgPool1d(2, stride=1, count_include_pad=False)", "Dropout1d(0.3)", "FeatureAlphaDropout(0.3)", "ChannelShuffle(1)",
    "LocalResponseNorm(2)", "Softmax(dim=1)", "Parallel([Conv1d(2, 1), Conv1d(3, 3, padding=1)])",
)  # fmt: skip
ENDINGS = {1: (["LastStep()"], ["MeanOverTime()"], []),
           2: (["AdaptiveAvgPool1d(1)", "Flatten()"], ["AdaptiveMaxPool1d(1)", "Flatten()"], [])}  # fmt: skip


SEEDS = range(60)
MANY_STEPS = [64, 50, 57, 63]


def any_layers(seed: int) -> tuple[list[str], str, int | None]:
    """Return layer texts, what they read (NTC, NCT or codes), and the axis of time of the output."""
    generator = np.random.default_rng(seed)
    kind, texts, time = (("NTC", ["Linear(6)"], 1), ("NCT", ["Conv1d(6, 1)"], 2), ("codes", ["Embedding(6)"], 1))[seed % 3]
    for _ in range(generator.integers(2, 6)):
        texts = [*texts, str(generator.choice(ANYWHERE + (TIME_FIRST if time == 1 else CHANNELS_FIRST)))]
        time = 3 - time if texts[-1] == "Transpose()" else time
    ending = ENDINGS[time][generator.integers(3)]
    return [*texts, *ending], kind, None if ending else time


def both(texts: list[str], kind: str, dtype: torch.dtype) -> tuple[Masked, nn.Sequential]:
    """Return the network for padded sequences and the plain one, with the same weights, in eval mode."""
    shape = {"NTC": Form((64, FEATURES), "NTC"), "NCT": Form((FEATURES, 64), "NCT"), "codes": Form((64,), None, True)}[kind]
    calls = resolve([parse_call(text, "layers") for text in texts], shape, Sizes(2, 10)).calls
    torch.manual_seed(0)
    plain = construct(calls)
    masked = Masked(*construct(calls), channels_first=kind == "NCT")
    masked.load_state_dict(plain.state_dict())
    return masked.to(dtype).eval(), plain.to(dtype).eval()


def any_rows(seed: int, kind: str, width: int, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """Return rows, each a batch of its own without padding, and one batch of them with noise behind their ends."""
    torch.manual_seed(seed)
    rows = [torch.randint(0, 10, (n,)) if kind == "codes" else torch.randn(n, FEATURES, dtype=dtype) for n in MANY_STEPS]
    noise = [torch.randint_like(row[:1], 10) if kind == "codes" else 1e3 * torch.randn_like(row[:1]) for row in rows]
    x = torch.stack([torch.cat([row, *[other] * (width - len(row))]) for row, other in zip(rows, noise, strict=True)])
    if kind == "NCT":
        return [row.T.unsqueeze(0) for row in rows], x.transpose(1, 2)
    return [row.unsqueeze(0) for row in rows], x


@pytest.mark.parametrize("text", ANYWHERE)
def test_no_layer_leaves_anything_where_no_step_is(text: str) -> None:
    masked, _ = both([text], "NTC", torch.float32)
    _, x = any_rows(0, "NTC", 70, torch.float32)
    found = masked(x, torch.tensor(MANY_STEPS))
    found = found.transpose(1, 2) if text == "Transpose()" else found
    for row, steps in zip(found, MANY_STEPS, strict=True):
        assert row[:steps].any()
        assert not row[steps:].any()


@pytest.mark.parametrize("seed", SEEDS)
def test_any_network_gives_padded_rows_what_it_gives_each_row_alone(seed: int) -> None:
    texts, kind, time = any_layers(seed)
    masked, plain = both(texts, kind, torch.float32)
    assert unmaskable(masked, torch.tensor(MANY_STEPS)) is None
    for width in (64, 90):
        rows, x = any_rows(seed, kind, width, torch.float32)
        with torch.no_grad():
            found = masked(x, torch.tensor(MANY_STEPS))
            alone = [plain(row)[0] for row in rows]
        for output, expected in zip(found, alone, strict=True):
            if time is not None:
                real = expected.shape[time - 1]
                assert (output.narrow(time - 1, real, output.shape[time - 1] - real) == 0).all()
                output = output.narrow(time - 1, 0, real)
            torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_any_network_gets_the_gradients_of_each_row_alone(seed: int) -> None:
    texts, kind, _ = any_layers(seed)
    for width in (64, 90):
        masked, plain = both(texts, kind, torch.float64)
        rows, x = any_rows(seed, kind, width, torch.float64)
        masked(x, torch.tensor(MANY_STEPS)).sin().sum().backward()
        for row in rows:
            plain(row).sin().sum().backward()
        for given, wanted in zip(masked.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(given.grad, wanted.grad, atol=1e-9, rtol=1e-9)


def test_every_layer_that_reads_padded_sequences_is_tried_above() -> None:
    tried = {type(module) for seed in SEEDS for module in both(*any_layers(seed)[:2], torch.float32)[0].modules()}
    assert [kind.__name__ for kind in KNOWN if not any(issubclass(other, kind) for other in tried)] == []


def test_every_layer_is_called_so_that_hooks_see_it() -> None:
    texts = ["MultiheadAttention(2)", "GRU(4, bidirectional=True)", "Residual([Linear(8)])", "MeanOverTime()", "Linear()"]
    masked, _ = build(texts, False)
    seen: list[tuple[str, tuple[int, ...]]] = []
    for name, module in masked.named_modules():
        if not isinstance(module, nn.Sequential | nn.modules.linear.NonDynamicallyQuantizableLinear):
            module.register_forward_hook(lambda _, __, output, name=name: seen.append((name, tuple(output.shape))))
    masked(*padded(sequences(), 30, False))
    assert seen == [("0", (4, 30, 6)), ("1", (4, 30, 8)), ("2.0", (4, 30, 8)), ("3", (4, 8)), ("4", (4, 2))]
