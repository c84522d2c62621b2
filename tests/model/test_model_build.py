"""From layer texts to a plain nn.Sequential: sizes, refusals that name both layers, nesting, and the very bits of torch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import netwright
from netwright.config.calls import Call, parse_call
from netwright.errors import ConfigError, SafetyError
from netwright.model.build import Resolved, Sizes, check_output, construct, embedding_size, resolve
from netwright.model.layers import Form
from netwright.model.own import load_class, make_own, refuse_unnamed

NC = Form((6,), "NC")
NTC = Form((5, 4), "NTC")
NCT = Form((4, 8), "NCT")
IMAGE = Form((1, 28, 28), "NCHW")
VOLUME = Form((2, 4, 4, 4), "NCDHW")
CODES = Form((6,), "NC", codes=True)
UNKNOWN = Form((8, 8), None)


def resolved(texts: list[str], form: Form, outputs: int = 10, levels: tuple[int, ...] = ()) -> Resolved:
    calls = [parse_call(text, f"model.layers.{place}") for place, text in enumerate(texts)]
    return resolve(calls, form, Sizes(outputs, 7, levels))


def built(texts: list[str], form: Form, outputs: int = 10, seed: int = 3) -> nn.Sequential:
    calls = resolved(texts, form, outputs).calls
    torch.manual_seed(seed)
    return construct(calls)


def refusal(texts: list[str], form: Form, outputs: int = 10) -> str:
    with pytest.raises(ConfigError) as caught:
        resolved(texts, form, outputs)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "form", "written", "shape", "layout"),
    [
        ("Linear(8)", NC, "Linear(in_features=6, out_features=8)", (8,), "NC"),
        ("Linear()", NC, "Linear(in_features=6, out_features=10)", (10,), "NC"),
        ("Linear(bias=False)", NC, "Linear(in_features=6, out_features=10, bias=False)", (10,), "NC"),
        ("Linear(6, 8)", NC, "Linear(in_features=6, out_features=8)", (8,), "NC"),
        ("Linear(8)", NTC, "Linear(in_features=4, out_features=8)", (5, 8), "NTC"),
        ("Linear(28, 5)", IMAGE, "Linear(in_features=28, out_features=5)", (1, 28, 5), "NCHW"),
        ("Conv1d(8, 3)", NCT, "Conv1d(in_channels=4, out_channels=8, kernel_size=3)", (8, 6), "NCT"),
        ("Conv2d(32, 3, padding=1)", IMAGE, "Conv2d(in_channels=1, out_channels=32, kernel_size=3, padding=1)",
         (32, 28, 28), "NCHW"),
        ("Conv2d(1, 32, 3)", IMAGE, "Conv2d(in_channels=1, out_channels=32, kernel_size=3)", (32, 26, 26), "NCHW"),
        ("Conv2d(4, 3, stride=2, dilation=2)", IMAGE,
         "Conv2d(in_channels=1, out_channels=4, kernel_size=3, stride=2, dilation=2)", (4, 12, 12), "NCHW"),
        ("Conv3d(3, (2, 1, 3))", VOLUME, "Conv3d(in_channels=2, out_channels=3, kernel_size=(2, 1, 3))", (3, 3, 4, 2), "NCDHW"),
        ("ConvTranspose2d(3, 2, stride=2)", IMAGE, "ConvTranspose2d(in_channels=1, out_channels=3, kernel_size=2, stride=2)",
         (3, 56, 56), "NCHW"),
        ("BatchNorm1d()", NC, "BatchNorm1d(num_features=6)", (6,), "NC"),
        ("BatchNorm1d()", NCT, "BatchNorm1d(num_features=4)", (4, 8), "NCT"),
        ("BatchNorm2d(eps=0.01)", IMAGE, "BatchNorm2d(num_features=1, eps=0.01)", (1, 28, 28), "NCHW"),
        ("BatchNorm3d()", VOLUME, "BatchNorm3d(num_features=2)", (2, 4, 4, 4), "NCDHW"),
        ("InstanceNorm2d()", IMAGE, "InstanceNorm2d(num_features=1)", (1, 28, 28), "NCHW"),
        ("LayerNorm()", NC, "LayerNorm(normalized_shape=6)", (6,), "NC"),
        ("LayerNorm()", NTC, "LayerNorm(normalized_shape=4)", (5, 4), "NTC"),
        ("LayerNorm()", IMAGE, "LayerNorm(normalized_shape=[1, 28, 28])", (1, 28, 28), "NCHW"),
        ("RMSNorm()", NTC, "RMSNorm(normalized_shape=4)", (5, 4), "NTC"),
        ("GroupNorm(2)", NCT, "GroupNorm(num_groups=2, num_channels=4)", (4, 8), "NCT"),
        ("LSTM(64)", NTC, "LSTM(input_size=4, hidden_size=64, batch_first=True)", (5, 64), "NTC"),
        ("GRU(8, bidirectional=True)", NTC, "GRU(input_size=4, hidden_size=8, batch_first=True, bidirectional=True)",
         (5, 16), "NTC"),
        ("RNN(4, 20, num_layers=2, batch_first=True)", NTC,
         "RNN(input_size=4, hidden_size=20, num_layers=2, batch_first=True)", (5, 20), "NTC"),
        ("MultiheadAttention(2)", NTC, "MultiheadAttention(embed_dim=4, num_heads=2, batch_first=True)", (5, 4), "NTC"),
        ("TransformerEncoderLayer(2)", NTC, "TransformerEncoderLayer(d_model=4, nhead=2, batch_first=True)", (5, 4), "NTC"),
        ("Embedding(32)", CODES, "Embedding(num_embeddings=7, embedding_dim=32)", (6, 32), "NTC"),
        ("EmbeddingBag(32)", CODES, "EmbeddingBag(num_embeddings=7, embedding_dim=32)", (32,), "NC"),
        ("MaxPool2d(kernel_size=2, stride=2)", IMAGE, "MaxPool2d(kernel_size=2, stride=2)", (1, 14, 14), "NCHW"),
        ("AdaptiveAvgPool2d((None, 3))", IMAGE, "AdaptiveAvgPool2d(output_size=(None, 3))", (1, 28, 3), "NCHW"),
        ("Flatten()", IMAGE, "Flatten()", (784,), "NC"),
        ("Unflatten(1, (2, 3))", NC, "Unflatten(dim=1, unflattened_size=(2, 3))", (2, 3), None),
        ("Transpose()", NTC, "Transpose()", (4, 5), "NCT"),
        ("Transpose()", NCT, "Transpose()", (8, 4), "NTC"),
        ("LastStep()", NTC, "LastStep()", (4,), "NC"),
        ("MeanOverTime()", NTC, "MeanOverTime()", (4,), "NC"),
        ("Softmax()", NC, "Softmax(dim=1)", (6,), "NC"),
        ("LogSoftmax()", NTC, "LogSoftmax(dim=-1)", (5, 4), "NTC"),
        ("GLU()", NC, "GLU()", (3,), "NC"),
    ],
)  # fmt: skip
def test_what_is_left_out_is_worked_out(text: str, form: Form, written: str, shape: tuple[int, ...], layout: str) -> None:
    found = resolved([text], form)
    assert [str(call) for call in found.calls] == [written]
    assert [(layer.path, str(layer.call), layer.form.shape, layer.form.layout) for layer in found.layers] == [
        ("0", written, shape, layout)
    ]
    assert [str(call) for call in resolved([written], form).calls] == [written]


def test_categories_of_a_table_become_vectors_of_a_usual_length() -> None:
    found = resolved(["EmbedColumns()", "Linear()"], NC, 3, levels=(4, 40))
    assert [str(call) for call in found.calls] == [
        "EmbedColumns(levels=[4, 40], dimensions=[2, 16])",
        "Linear(in_features=22, out_features=3)",
    ]
    assert [embedding_size(levels) for levels in (1, 2, 4, 10, 31, 1000)] == [2, 2, 2, 5, 16, 16]


@pytest.mark.parametrize(
    ("texts", "form", "parts"),
    [
        (["Conv2d(32,3,padding=1)", "ReLU()", "Dropout()", "MaxPool2d(2)", "Linear(784, 10)"], IMAGE,
         ["layer 4 Linear(784, 10) expects 784 features but layer 3 MaxPool2d(2) gives (N, 32, 14, 14)",
          "put Flatten() between (6272 features)"]),
        (["Conv2d(32,3,padding=1)", "Linear(10)"], IMAGE,
         ["layer 1 Linear(10)", "layer 0 Conv2d(32, 3, padding=1) gives (N, 32, 28, 28)",
          "put Flatten() between (25088 features)"]),
        (["Linear(784, 10)"], NC, ["layer 0 Linear(784, 10) expects 784 features but the data give (N, 6)", "write 6 or leave"]),
        (["Linear(4)", "ReLU()", "Linear(8, 10)"], NC,
         ["layer 2 Linear(8, 10) expects 8 features but layer 1 ReLU() gives (N, 4)", "write 4 or leave in_features out"]),
        (["Conv2d(3, 8, 3)"], IMAGE,
         ["Conv2d(3, 8, 3) expects 3 channels but the data give (N, 1, 28, 28)", "write 1 or leave in_channels out"]),
        (["Conv2d(8, 3)", "BatchNorm2d(16)"], IMAGE,
         ["BatchNorm2d(16) expects 16 channels but layer 0 Conv2d(8, 3) gives (N, 8, 26, 26)", "leave num_features out"]),
        (["LSTM(10, 20)"], NTC, ["LSTM(10, 20) expects 10 features but the data give (N, 5, 4)", "leave input_size out"]),
        (["MultiheadAttention(8, 2)"], NTC, ["expects 8 features but the data give (N, 5, 4)", "leave embed_dim out"]),
        (["GroupNorm(2, 6)"], NCT, ["expects 6 channels but the data give (N, 4, 8)", "leave num_channels out"]),
        (["LayerNorm(5)"], NC, ["layer 0 LayerNorm(5) cannot read (N, 6)", "expected input with shape [5]"]),
        (["Conv1d(8, 3)", "LSTM(8)"], NCT,
         ["layer 1 LSTM(8) reads (N, time, features) but layer 0 Conv1d(8, 3) gives (N, 8, 6) = (N, channels, time)",
          "put Transpose() between"]),
        (["LSTM(8)", "Conv1d(8, 3)"], NTC,
         ["layer 1 Conv1d(8, 3) reads (N, channels, time) but layer 0 LSTM(8) gives (N, 5, 8) = (N, time, features)",
          "put Transpose() between"]),
        (["LSTM(8)", "BatchNorm1d()"], NTC,
         ["layer 1 BatchNorm1d()", "layer 0 LSTM(8) gives (N, 5, 8) = (N, time, features)",
          "put Transpose() between, or write LayerNorm()"]),
        (["Linear(4)", "LastStep()"], NC, ["layer 1 LastStep() reads (N, time, features) but layer 0 Linear(4) gives (N, 4)"]),
        (["Linear()", "Linear()"], NC, ["layer 0 Linear() has no size; only the last Linear() takes its size from the task"]),
        (["Embedding(8)"], NC, ["layer 0 Embedding(8) reads whole codes but the data give numbers (N, 6)", "EmbedColumns()"]),
        (["Linear(3)"], CODES,
         ["layer 0 Linear(3) reads numbers but the data give whole codes (N, 6)", "put Embedding(...) first"]),
        (["EmbedColumns()"], NC, ["EmbedColumns() came but the data have no category columns", "leave it out"]),
        (["LSTM(8, batch_first=False)"], NTC, ["came with batch_first=False", "rows are the first axis", "leave it out"]),
        (["TransformerEncoderLayer(2, batch_first=False)"], NTC, ["came with batch_first=False"]),
        (["MaxPool2d(2, return_indices=True)"], IMAGE, ["MaxPool2d came with return_indices; a layer gives one tensor"]),
        (["LSTMCell(4)"], NTC, ["LSTMCell came; it makes one step in time only; write LSTM without Cell"]),
        (["Linaer(4)"], NC, ["model.layers.0: 'Linaer' is no known layer; did you mean Linear?"]),
        (["Threshold(1)"], NC, ["Threshold(1) came; value is missing; expected at least threshold, value"]),
        (["Linear(-3)"], NC, ["layer 0 Linear(-3): out_features=-3 came; expected a whole number from 1"]),
        (["Linear(3.5)"], NC, ["layer 0 Linear(3.5): out_features=3.5 came"]),
        (["Dropout(2)"], NC, ["layer 0 Dropout(2) cannot be built: dropout probability has to be between 0 and 1, but got 2"]),
        (["Conv2d(8, 3, groups=3)"], IMAGE, ["in_channels must be divisible by groups"]),
        (["Conv2d(8, 99)"], IMAGE, ["Conv2d(8, 99) cannot read (N, 1, 28, 28)", "Kernel size: (99 x 99)"]),
        (["Conv2d(8, 3, stride=0)"], IMAGE, ["layer 0 Conv2d(8, 3, stride=0)"]),
        (["MaxPool2d(40)"], IMAGE, ["MaxPool2d(40) cannot read (N, 1, 28, 28)", "Output size is too small"]),
        (["MultiheadAttention(3)"], NTC, ["embed_dim must be divisible by num_heads"]),
        (["GroupNorm(0)"], NC, ["layer 0 GroupNorm(0): num_groups=0 came"]),
        (["Flatten(0)"], IMAGE, ["layer 0 Flatten(0) mixes the rows of a batch ((1568,) from 2 rows)"]),
        (["Unflatten(0, (1, 2))"], NC, ["mixes the rows of a batch"]),
        (["GLU(dim=0)"], IMAGE, ["mixes the rows of a batch"]),
        (["Softmax(dim=0)"], NC, ["layer 0 Softmax(dim=0)", "rows"]),
        (["EmbedColumns(levels=[3])"], NC, ["no category columns"]),
    ],
)  # fmt: skip
def test_layers_that_do_not_meet_are_named_with_both_shapes_and_the_advice(
    texts: list[str], form: Form, parts: list[str]
) -> None:
    message = refusal(texts, form)
    assert [part for part in parts if part not in message] == [], message
    assert message.startswith(f"model.layers.{len(texts) - 1}: ") or "has no size" in message
    assert "\n" not in message


FIXED_RANK = {
    1: ("Conv1d(2, 3)", "ConvTranspose1d(2, 3)", "MaxPool1d(2)", "AvgPool1d(2)", "AdaptiveAvgPool1d(1)", "AdaptiveMaxPool1d(1)",
        "InstanceNorm1d()", "Dropout1d()", "LPPool1d(2, 2)", "ZeroPad1d(1)", "ReflectionPad1d(1)"),
    2: ("Conv2d(2, 3)", "ConvTranspose2d(2, 3)", "MaxPool2d(2)", "AvgPool2d(2)", "AdaptiveAvgPool2d(1)", "AdaptiveMaxPool2d(1)",
        "BatchNorm2d()", "InstanceNorm2d()", "Dropout2d()", "LPPool2d(2, 2)", "Softmax2d()", "CrossMapLRN2d(2)",
        "ZeroPad2d(1)", "PixelShuffle(1)", "PixelUnshuffle(1)", "FractionalMaxPool2d(2, output_size=2)", "Unfold(2)",
        "UpsamplingNearest2d(scale_factor=2)"),
    3: ("Conv3d(2, 3)", "ConvTranspose3d(2, 3)", "MaxPool3d(2)", "AvgPool3d(2)", "AdaptiveAvgPool3d(1)", "AdaptiveMaxPool3d(1)",
        "BatchNorm3d()", "InstanceNorm3d()", "Dropout3d()", "LPPool3d(2, 2)", "ZeroPad3d(1)"),
}  # fmt: skip
BY_RANK = {1: Form((6,), None), 2: Form((8, 8), None), 3: Form((8, 8, 8), None), 4: Form((8, 8, 8, 8), None)}


@pytest.mark.parametrize(("n", "text"), [(n, text) for n, texts in FIXED_RANK.items() for text in texts])
def test_a_layer_of_fixed_rank_never_reads_a_batch_as_one_unbatched_sample(n: int, text: str) -> None:
    right = n + 1
    for rank, form in BY_RANK.items():
        if rank == right:
            assert resolved([text], form).calls[0].name == text.partition("(")[0]
        else:
            message = refusal([text], form)
            assert f"layer 0 {text} reads (N, channels" in message
            assert f"but the data give {form}" in message


@pytest.mark.parametrize(
    "text",
    ["RNN(4)", "LSTM(4)", "GRU(4)", "MultiheadAttention(2)", "TransformerEncoderLayer(2)", "LastStep()", "MeanOverTime()"],
)
def test_a_layer_of_sequences_never_reads_rows_as_time(text: str) -> None:
    for form in (NC, BY_RANK[1], BY_RANK[3], IMAGE, NCT):
        assert f"layer 0 {text} reads (N, time, features) but the data give {form}" in refusal([text], form)
    assert resolved([text], NTC).calls[0].name == text.partition("(")[0]


@pytest.mark.parametrize(
    ("text", "form", "layout"),
    [("Conv1d(8, 3)", Form((6,), "NC"), "NT"), ("Conv2d(8, 3)", Form((8, 8), None), "NHW"),
     ("Conv3d(8, 3)", Form((8, 8, 8), None), "NDHW")],
)  # fmt: skip
def test_a_missing_channel_axis_is_answered_with_the_layout_to_set(text: str, form: Form, layout: str) -> None:
    message = refusal([text], form)
    assert f'set data.layout = "{layout}"' in message
    assert f"Unflatten(1, (1, {form.shape[0]}))" in message


def test_axes_of_unknown_meaning_get_the_meaning_the_first_layer_reads() -> None:
    assert "put Transpose() between" in refusal(["Conv1d(8, 3)", "LSTM(4)"], UNKNOWN)
    assert "put Transpose() between" in refusal(["LSTM(4)", "Conv1d(8, 3)"], UNKNOWN)
    assert resolved(["Residual([Conv1d(8, 3, padding=1)])"], UNKNOWN).layers[-1].form.shape == (8, 8)
    assert resolved(["LSTM(4)", "LastStep()", "Linear()"], UNKNOWN).layers[-1].form == Form((10,), "NC")


def test_nested_layers_have_paths_and_every_argument_written_out() -> None:
    found = resolved(
        [
            "Residual([Linear(6), Sequential([ReLU(), Residual([Dropout(0.1)])])])",
            "Parallel([Linear(3), Linear(4)])",
            "Linear()",
        ],
        NC,
    )
    assert [str(call) for call in found.calls] == [
        "Residual([Linear(in_features=6, out_features=6), Sequential([ReLU(), Residual([Dropout(p=0.1)])])])",
        "Parallel([Linear(in_features=6, out_features=3), Linear(in_features=6, out_features=4)])",
        "Linear(in_features=7, out_features=10)",
    ]
    paths = ["0", "0.0", "0.1", "0.1.0", "0.1.1", "0.1.1.0", "1", "1.0", "1.1", "2"]
    assert [layer.path for layer in found.layers] == paths
    modules = dict(construct(found.calls).named_modules())
    assert [type(modules[path]).__name__ for path in paths] == [
        "Residual", "Linear", "Sequential", "ReLU", "Residual", "Dropout", "Parallel", "Linear", "Linear", "Linear",
    ]  # fmt: skip
    assert [str(call) for call in resolved([str(call) for call in found.calls], NC).calls] == [str(c) for c in found.calls]


@pytest.mark.parametrize(
    ("text", "form", "shape"),
    [
        ("Parallel([Linear(3), Linear(4)])", NC, (7,)),
        ("Parallel([GRU(3), Linear(4)])", NTC, (5, 7)),
        ("Parallel([Conv1d(3, 1), Conv1d(4, 3, padding=1)])", NCT, (7, 8)),
        ("Parallel([Conv2d(3, 1), Conv2d(4, 3, padding=1)])", IMAGE, (7, 28, 28)),
        ("Parallel([Conv2d(3, 1), Conv2d(3, 1)], dim=2)", IMAGE, (3, 56, 28)),
        ("Parallel([Linear(3), Linear(4)], dim=-1)", NTC, (5, 7)),
        ("Residual([Conv2d(4, 3, padding=1), Conv2d(1, 1)])", IMAGE, (1, 28, 28)),
        ("Residual([MultiheadAttention(2)])", NTC, (5, 4)),
        ("Sequential([Conv2d(4, 3), Flatten(), Linear(9)])", IMAGE, (9,)),
        ("Residual(Linear(6), ReLU())", NC, (6,)),
    ],
)
def test_containers_give_what_the_layer_after_them_is_told(text: str, form: Form, shape: tuple[int, ...]) -> None:
    found = resolved([text, "Identity()"], form)
    assert found.layers[-1].form.shape == shape
    assert construct(found.calls)(torch.zeros(2, *form.shape)).shape == (2, *shape)


@pytest.mark.parametrize(
    ("text", "form", "parts"),
    [
        ("Residual([Linear(3)])", NC, ["model.layers.0: Residual adds its input (N, 6) to (N, 3) of its last layer"]),
        ("Residual([Linear(6), Residual([Linear(7)])])", NC, ["model.layers.0.1: Residual adds its input (N, 6) to (N, 7)"]),
        ("Residual([Transpose()])", Form((8, 8), "NTC"), ["Residual"]),
        ("Parallel([Conv2d(3, 1), Conv2d(3, 3)])", IMAGE,
         ["branches give (N, 3, 28, 28) and (N, 3, 26, 26); Parallel joins axis 1"]),
        ("Residual([Linear(3), Linear(9, 6)])", NC,
         ["layer 0.1 Linear(9, 6) expects 9 features but layer 0.0 Linear(3) gives (N, 3)"]),
        ("Parallel([Linear(3), Linear(9, 6)])", NC, ["layer 0.1 Linear(9, 6) expects 9 features but the data give (N, 6)"]),
        ("Residual([])", NC, ["Residual([]) came; expected layers in a list; write Residual([Linear(64), ReLU()])"]),
        ("Residual()", NC, ["Residual() came; expected layers in a list"]),
        ("Residual(5)", NC, ["Residual(5) came; expected layers in a list"]),
        ("Residual([0.5, Linear(6)])", NC, ["0.5"]),
        ("Residual([Linear(6)], layers=3)", NC, ["layers"]),
        ("Residual([Linear(6)], dim=1)", NC, ["Residual has no argument 'dim'"]),
        ("Parallel([[Linear(3), ReLU()], [Linear(4)]])", NC, ["Sequential"]),
        ("Parallel([Linear(3), Linear(3)], dim=0)", NC, ["Parallel", "0"]),
        ("Parallel([Linear(3), Linear(3)], dim=-2)", NC, ["Parallel", "-2"]),
        ("Parallel([Linear(3), Linear(3)], dim='a')", NC, ["Parallel", "'a'"]),
        ("Parallel([Linear(3), Linear(3)], dim=5)", NC, ["Parallel", "5"]),
        ("Sequential([Linear(3), Sequential([Linaer(2)])])", NC, ["model.layers.0.1.0: 'Linaer' is no known layer"]),
    ],
)  # fmt: skip
def test_containers_that_cannot_be_built_are_refused_with_their_path(text: str, form: Form, parts: list[str]) -> None:
    message = refusal([text], form)
    assert [part for part in parts if part not in message] == [], message


def test_the_size_of_the_task_goes_to_the_very_last_linear_only() -> None:
    assert "only the last Linear() takes its size" in refusal(["Residual([Linear()])", "ReLU()", "Linear()"], NC, outputs=6)
    assert str(resolved(["Sequential([Linear(4), Linear()])"], NC).calls[0]).endswith("out_features=10)])")
    assert "layer 0.0 Linear() has no size" in refusal(["Sequential([Linear(), ReLU(), Linear()])"], NC)
    assert str(resolved(["Linear()", "LogSoftmax()"], NC).calls[0]) == "Linear(in_features=6, out_features=10)"


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(6272, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip


def residual() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), nn.Tanh()), nn.LayerNorm(6), nn.Linear(6, 10))


MLP = ["Linear(784, 128)", "ReLU()", "Linear(128, 64)", "ReLU()", "Linear(64,10)"]
CNN = ["Conv2d(32, kernel_size=3, padding=1)", "BatchNorm2d()", "ReLU()", "MaxPool2d(2)", "Flatten()",
       "Linear(128)", "ReLU()", "Dropout(0.5)", "Linear()"]  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "form", "written"),
    [
        (MLP, Form((784,), "NC"), mlp),
        (["Linear(128)", "nn.ReLU()", "torch.nn.Linear(64)", "ReLU()", "Linear()"], Form((784,), "NC"), mlp),
        (CNN, IMAGE, cnn),
        (["LSTM(8, num_layers=2, bidirectional=True)"], NTC,
         lambda: nn.Sequential(nn.LSTM(4, 8, num_layers=2, bidirectional=True, batch_first=True))),
        (["GRU(8)"], NTC, lambda: nn.Sequential(nn.GRU(4, 8, batch_first=True))),
        (["RNN(8)"], NTC, lambda: nn.Sequential(nn.RNN(4, 8, batch_first=True))),
        (["MultiheadAttention(2)"], NTC, lambda: nn.Sequential(nn.MultiheadAttention(4, 2, batch_first=True))),
        (["Linear(6)", "Sequential([Linear(6), Tanh()])", "LayerNorm()", "Linear()"], NC, residual),
        (["Linear(6)", "Residual([Linear(6), Tanh()])", "LayerNorm()", "Linear()"], NC, residual),
    ],
)  # fmt: skip
def test_the_same_seed_gives_the_very_weights_of_the_sequential_written_by_hand(texts, form, written) -> None:
    model = built(texts, form)
    torch.manual_seed(3)
    by_hand = written()
    ours, theirs = model.state_dict(), by_hand.state_dict()
    assert list(ours) == list(theirs)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    by_hand.load_state_dict(ours)


def test_the_result_is_an_ordinary_sequential_of_torchs_own_classes() -> None:
    model, by_hand = built(CNN, IMAGE).eval(), cnn().eval()
    assert type(model) is nn.Sequential
    assert [type(layer) for layer in model] == [type(layer) for layer in by_hand]
    assert repr(model) == repr(by_hand)
    by_hand.load_state_dict(model.state_dict())
    rows = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(rows), by_hand(rows))


def test_working_out_sizes_draws_no_random_number() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    resolved(CNN, IMAGE)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_torch_warns_of_is_told_as_a_note_that_names_the_layer() -> None:
    notes = resolved(["LSTM(8, dropout=0.3)"], NTC).notes
    assert len(notes) == 1
    assert notes[0].startswith(
        "model.layers.0: layer 0 LSTM(8, dropout=0.3): dropout option adds dropout after all but last"
    )
    assert built(["LSTM(8, dropout=0.3)"], NTC)[0].dropout == 0.3


@pytest.mark.parametrize(
    ("form", "outputs", "message"),
    [
        (Form((4,), "NC"), 3, "model: the network gives (N, 4); a target needs (N, 3); end with Linear()"),
        (Form((5, 3), "NTC"), 3, "model: the network gives (N, 5, 3); a target needs (N, 3); end with LastStep(), Linear()"),
        (
            Form((3, 8, 8), "NCHW"),
            3,
            "model: the network gives (N, 3, 8, 8); a target needs (N, 3); end with Flatten(), Linear()",
        ),
    ],
)
def test_an_output_of_the_wrong_size_is_told_how_to_end(form: Form, outputs: int, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check_output(form, outputs, "a target")
    check_output(Form((outputs,), None), outputs, "a target")


def test_a_network_that_ends_in_parallel_branches_is_judged_by_their_joined_size() -> None:
    summary, shape = netwright.show("sklearn:iris", layers=["Parallel([Linear(1), Linear(2)])"])
    assert (shape, summary.parameters) == ((4,), 15)
    with pytest.raises(ConfigError, match=re.escape("the network gives (N, 4)")):
        netwright.show("sklearn:iris", layers=["Parallel([Linear(1), Linear(3)])"])


CODE = """
import torch
from torch import nn
class SimpleModel(nn.Module):
    def __init__(self, hidden_dim=8):
        super().__init__()
        if hidden_dim < 0:
            raise ValueError("hidden_dim below 0")
        self.fc = nn.Linear(4, hidden_dim)
    def forward(self, x):
        return self.fc(x)
helper = 3
"""


def test_an_own_class_is_loaded_and_built_with_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(CODE)
    kind = load_class(tmp_path / "my_net.py", "SimpleModel")
    assert make_own(kind, {"hidden_dim": 5}, "SimpleModel").fc.out_features == 5


@pytest.mark.parametrize(
    ("name", "arguments", "parts"),
    [
        ("SimpelModel", {}, ["my_net.py has no torch.nn.Module 'SimpelModel'; did you mean SimpleModel?"]),
        ("helper", {}, ["has no torch.nn.Module 'helper'"]),
        ("SimpleModel", {"hiden_dim": 3}, ["model.arguments: SimpleModel", "'hiden_dim'"]),
        ("SimpleModel", {"hidden_dim": -1}, ["SimpleModel cannot be built: ValueError: hidden_dim below 0"]),
    ],
)
def test_an_own_class_that_cannot_be_built_is_explained(
    name: str, arguments: dict, parts: list[str], tmp_path: Path
) -> None:
    (tmp_path / "my_net.py").write_text(CODE)
    with pytest.raises(ConfigError) as caught:
        make_own(load_class(tmp_path / "my_net.py", name), arguments, name)
    assert [part for part in parts if part not in str(caught.value)] == [], caught.value


@pytest.mark.parametrize(
    ("text", "part"),
    [("import nothing_of_that_name", "ModuleNotFoundError"), ("def (", "SyntaxError"), ("1 / 0", "ZeroDivisionError")],
)
def test_a_file_of_own_code_that_fails_is_named(text: str, part: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(ConfigError, match=f"broken.py: {part}"):
        load_class(tmp_path / "broken.py", "Net")
    with pytest.raises(ConfigError, match="gone.py: no such file"):
        load_class(tmp_path / "gone.py", "Net")


def test_a_config_alone_never_runs_code_and_the_refusal_shows_what_to_type(tmp_path: Path) -> None:
    file = tmp_path / "my_net.py"
    for path in (file, tmp_path / "other.py"):
        path.write_text("")
    (tmp_path / "x").mkdir()
    with pytest.raises(SafetyError) as caught:
        refuse_unnamed(f"{file}:Net", [tmp_path / "other.py"], "netwright train c.toml")
    assert str(caught.value).endswith(f"netwright train c.toml --code {file}")
    assert refuse_unnamed(f"{file}:Net", [tmp_path / "x" / ".." / "my_net.py"], "") == file


def test_calls_made_by_hand_build_like_texts() -> None:
    found = resolve([Call("Linear", (3,)), Call("Linear")], NC, Sizes(2))
    assert [str(call) for call in found.calls] == [
        "Linear(in_features=6, out_features=3)", "Linear(in_features=3, out_features=2)",
    ]  # fmt: skip
