"""Every layer a list may name learns something, in one, two and three dimensions, or runs on a form that suits it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import netwright
from netwright.config import signatures
from netwright.config.calls import parse_call
from netwright.data.batches import Batch
from netwright.engine.eager import train_step
from netwright.model.build import Resolved, Sizes, construct, resolve
from netwright.model.layers import Form

# torch says on the CPU that projections take its slower path; the numbers are the same
pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning"),
    pytest.mark.usefixtures("one_thread"),
]

CLASSES = 3
ROWS = 45
NC = Form((6,), "NC")
NTC = Form((5, 4), "NTC")
NCT = Form((4, 8), "NCT")
NCHW = Form((2, 8, 8), "NCHW")
NCDHW = Form((2, 4, 4, 4), "NCDHW")
CODES = Form((6,), "NC", codes=True)
SPATIAL = {1: NCT, 2: NCHW, 3: NCDHW}


def hidden(text: str) -> list[str]:
    return ["Linear(16)", text, "Linear()"]


def spatial(n: int, text: str) -> list[str]:
    return [f"Conv{n}d(4, kernel_size=3, padding=1)", text, "ReLU()", "Flatten()", "Linear()"]


def sequence(text: str) -> list[str]:
    return [text, "MeanOverTime()", "Linear()"]


ACTIVATIONS = (
    "CELU()", "ELU()", "GELU()", "GELU(approximate='tanh')", "GLU()", "Hardshrink()", "Hardsigmoid()", "Hardswish()",
    "Hardtanh()", "LeakyReLU(0.1)", "LogSigmoid()", "LogSoftmax()", "Mish()", "PReLU()", "PReLU(num_parameters=16)",
    "RReLU()", "ReLU()", "ReLU(inplace=True)", "ReLU6()", "SELU()", "SiLU()", "Sigmoid()", "Softmax()", "Softmin()",
    "Softplus()", "Softshrink(0.1)", "Softsign()", "Tanh()", "Tanhshrink()", "Threshold(0.1, 0.0)",
)  # fmt: skip
ON_FEATURES = (
    *ACTIVATIONS, "Linear(8)", "Linear(8, bias=False)", "Dropout(0.2)", "AlphaDropout(0.1)", "BatchNorm1d()", "LayerNorm()",
    "GroupNorm(4)", "RMSNorm()", "Identity()", "Flatten()", "Residual([Linear(16), ReLU()])",
    "Parallel([Linear(8), Linear(4)])", "Sequential([Linear(8), ReLU()])",
)  # fmt: skip
ON_SEQUENCES = (
    "RNN(8)", "RNN(8, num_layers=2, nonlinearity='relu')", "RNN(8, bidirectional=True)", "LSTM(8)",
    "LSTM(8, num_layers=2, dropout=0.1)", "LSTM(8, bidirectional=True)", "LSTM(8, proj_size=4)", "GRU(8)",
    "GRU(8, num_layers=2, bidirectional=True, dropout=0.1)", "MultiheadAttention(2)",
    "TransformerEncoderLayer(2, dim_feedforward=16)",
    "TransformerEncoderLayer(2, dim_feedforward=16, norm_first=True, activation='gelu')",
    "Residual([LayerNorm(), MultiheadAttention(2)])", "Parallel([GRU(4), Linear(3)])", "Linear(8)", "LayerNorm()",
)  # fmt: skip
ON_SPACE = (
    "Conv{n}d(6, kernel_size=3)", "Conv{n}d(8, kernel_size=3, padding='same', groups=2)",
    "Conv{n}d(6, kernel_size=2, stride=2)", "Conv{n}d(4, 3, padding=2, dilation=2, padding_mode='circular')",
    "ConvTranspose{n}d(3, kernel_size=2, stride=2)", "BatchNorm{n}d()", "Dropout{n}d(0.2)", "MaxPool{n}d(2)",
    "MaxPool{n}d(kernel_size=2, stride=2)", "AvgPool{n}d(2)", "AvgPool{n}d(kernel_size=2, stride=2)",
    "AdaptiveAvgPool{n}d(2)", "AdaptiveMaxPool{n}d(2)", "InstanceNorm{n}d()", "InstanceNorm{n}d(affine=True)",
    "GroupNorm(2)", "LayerNorm()", "LPPool{n}d(2, 2)", "RandomShift(1)", "RandomStretch(1.3)", "RandomMirror([2])",
    "FeatureAlphaDropout(0.1)", "LocalResponseNorm(2)",
    "Residual([Conv{n}d(4, 3, padding=1), ReLU(), Conv{n}d(4, 3, padding=1)])",
    "Parallel([Conv{n}d(3, 1), Conv{n}d(2, 3, padding=1)])", "ZeroPad{n}d(1)", "ConstantPad{n}d(1, 0.5)",
    "CircularPad{n}d(1)", "ReflectionPad{n}d(1)", "ReplicationPad{n}d(1)", "Upsample(scale_factor=2)",
)  # fmt: skip
ON_IMAGES = (
    "ChannelShuffle(2)", "CrossMapLRN2d(2)", "FractionalMaxPool2d(2, output_size=4)", "PixelShuffle(2)", "PixelUnshuffle(2)",
    "RandomTurn([2, 3])", "Softmax2d()",
    "UpsamplingBilinear2d(scale_factor=2)", "UpsamplingNearest2d(scale_factor=2)", "Dropout2d(0.2)",
)  # fmt: skip
OTHERS = [
    (["Conv1d(4, kernel_size=3)", "Transpose()", "LSTM(8)", "LastStep()", "Linear()"], NCT),
    (["Transpose()", "Conv1d(8, kernel_size=3)", "AdaptiveAvgPool1d(1)", "Flatten()", "Linear()"], NTC),
    (["EmbedColumns()", "Linear(8)", "ReLU()", "Linear()"], NC),
    (["PeriodicEmbeddings(4)", "Linear(8)", "ReLU()", "Linear()"], NC),
    (["Embedding(8)", "LSTM(8)", "LastStep()", "Linear()"], CODES),
    (["Embedding(8)", "MeanOverTime()", "Linear()"], CODES),
    (["EmbeddingBag(8)", "Linear()"], CODES),
    (["Unflatten(1, (2, 3))", "Conv1d(8, kernel_size=2)", "ReLU()", "Flatten()", "Linear()"], NC),
    (["Unfold(2, stride=2)", "Conv1d(8, kernel_size=1)", "Flatten()", "Linear()"], NCHW),
    (["Conv3d(4, 3, padding=1)", "FractionalMaxPool3d(2, output_size=2)", "Flatten()", "Linear()"], NCDHW),
]
CASES = [
    *((hidden(text), NC) for text in ON_FEATURES),
    *((sequence(text), NTC) for text in ON_SEQUENCES),
    *((spatial(n, text.format(n=n)), SPATIAL[n]) for text in ON_SPACE for n in (1, 2, 3)),
    *((spatial(2, text), NCHW) for text in ON_IMAGES),
    *OTHERS,
]
# Layers of the registry that no list can train on, with the reason; they are built and run below all the same.
RUN_ONLY = {
    "Fold": (["Fold((4, 4), 2, stride=2)"], Form((8, 4), "NCT"), (2, 4, 4), "it only puts the blocks of Unfold back")
}


def network(texts: list[str], form: Form) -> tuple[nn.Sequential, Resolved]:
    calls = [parse_call(text, f"model.layers.{place}") for place, text in enumerate(texts)]
    codes = texts[0].startswith("Embed")
    sizes = Sizes(CLASSES, 5 if codes else None, (4, 5) if texts[0].startswith("EmbedColumns") else ())
    resolved = resolve(calls, form, sizes)
    torch.manual_seed(0)
    return construct(resolved.calls), resolved


def rows_of(form: Form, columns_of_codes: bool) -> tuple[Tensor, Tensor]:
    """Rows around one prototype per class, or codes that are more frequent in one class than in another."""
    generator = np.random.default_rng(0)
    target = np.arange(ROWS) % CLASSES
    if form.codes:
        codes = np.where(generator.random((ROWS, *form.shape)) < 0.7, target[:, None], 4)
        return torch.from_numpy(codes), torch.from_numpy(target)
    per_channel = generator.normal(size=(CLASSES, *form.shape[:1], *(1 for _ in form.shape[1:])))
    prototypes = per_channel + generator.normal(size=(CLASSES, *form.shape))
    rows = prototypes[target] + 0.3 * generator.normal(size=(ROWS, *form.shape))
    if columns_of_codes:
        rows[:, -2:] = np.stack([target, generator.integers(0, 5, ROWS)], axis=1)
    return torch.from_numpy(rows).float(), torch.from_numpy(target)


@pytest.mark.parametrize(("texts", "form"), CASES, ids=[f"{form.layout}-{' '.join(texts)}" for texts, form in CASES])
def test_a_network_with_the_layer_learns_and_moves_every_weight(texts: list[str], form: Form) -> None:
    model, resolved = network(texts, form)
    assert resolved.layers[-1].form.shape == (CLASSES,)
    inputs, target = rows_of(form, texts[0].startswith("EmbedColumns"))
    batch = Batch({"x": inputs}, target, torch.arange(ROWS))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    loss_function, optimizer = nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=0.02)

    model.train()
    losses = [float(train_step(model, loss_function, optimizer, batch)) for _ in range(30)]

    assert sum(losses[-3:]) < 0.6 * sum(losses[:3]), losses
    assert [name for name, value in model.named_parameters() if torch.equal(value, before[name])] == []
    model.eval()
    with torch.inference_mode():
        output = model(inputs)
        assert output.shape == (ROWS, CLASSES)
        assert torch.equal(output, model(inputs)) or "FractionalMaxPool" in str(model)


@pytest.mark.parametrize("name", RUN_ONLY)
def test_a_layer_that_cannot_be_trained_alone_runs_on_its_form(name: str) -> None:
    texts, form, shape, reason = RUN_ONLY[name]
    model, resolved = network(texts, form)
    assert reason
    assert resolved.layers[-1].form.shape == shape
    assert model(torch.ones(3, *form.shape)).shape == (3, *shape)


def test_every_layer_of_the_registry_is_in_the_tables_above() -> None:
    named = {layer.call.name for texts, form in CASES for layer in network(texts, form)[1].layers}
    containers = {"Sequential", "Residual", "Parallel"}
    assert named | containers | set(RUN_ONLY) == set(signatures.layers().known)


@pytest.mark.parametrize(("texts", "form"), CASES, ids=[f"{form.layout}-{' '.join(texts)}" for texts, form in CASES])
def test_the_forms_worked_out_are_the_shapes_the_layers_give(texts: list[str], form: Form) -> None:
    model, resolved = network(texts, form)
    seen: dict[str, tuple[int, ...]] = {}
    for path, module in model.named_modules():
        if path in {layer.path for layer in resolved.layers}:
            module.register_forward_hook(lambda _, __, output, path=path: seen.__setitem__(path, tuple(output.shape[1:])))
    model.train()
    model(rows_of(form, texts[0].startswith("EmbedColumns"))[0])
    assert {layer.path: seen[layer.path] for layer in resolved.layers} == {
        layer.path: layer.form.shape for layer in resolved.layers
    }


@pytest.mark.parametrize(
    ("layers", "chance"),
    [
        (["Flatten()", "Linear(64)", "ReLU()", "Linear(32)", "ReLU()", "Linear()"], 0.8),
        (["Conv2d(8, kernel_size=3, padding=1)", "BatchNorm2d()", "ReLU()", "MaxPool2d(2)", "Flatten()", "Linear()"], 0.8),
    ],
)
def test_real_digits_are_learned_through_the_front_door(layers: list[str], chance: float, tmp_path: Path) -> None:
    run = netwright.train("sklearn:digits", layers=layers, epochs=4, batch_size=16, run_dir=tmp_path / "run")
    assert run.history[-1]["train_loss"] < 0.5 * run.history[0]["train_loss"]
    assert run.history[-1]["valid_accuracy"] > chance
    assert type(run.model) is nn.Sequential
