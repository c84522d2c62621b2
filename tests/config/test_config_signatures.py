"""The shipped table of names against the torch that is installed, and how positional arguments get their names."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from netwright.config import signatures
from netwright.config.calls import parse_call
from netwright.errors import ConfigError

Script = Callable[[str], ModuleType]

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "src" / "netwright" / "config" / "signatures.json"


def test_the_shipped_table_is_what_the_tool_makes_of_the_installed_torch(script: Script) -> None:
    shipped = TABLE.read_text(encoding="utf-8")
    installed = ".".join(torch.__version__.split(".")[:2])
    if json.loads(shipped)["torch"] != installed:
        pytest.skip(f"the table is of torch {json.loads(shipped)['torch']}, installed is {installed}")
    assert script("tools/signatures.py").render() == shipped


def test_every_module_of_torch_is_a_layer_a_loss_or_refused_with_a_reason() -> None:
    kinds = {name for name, kind in vars(nn).items() if isinstance(kind, type) and issubclass(kind, nn.Module)}
    layers, losses = signatures.layers(), signatures.losses()
    own = {*signatures.OWN_LAYERS, *signatures.OWN_LOSSES}
    parts = [set(registry.known) - own for registry in (layers, losses)] + [set(layers.refused), set(losses.refused)]
    assert set.union(*parts) == kinds
    assert sum(len(part) for part in parts) == len(kinds)
    assert all(len(reason) > 10 for registry in (layers, losses) for reason in registry.refused.values())


@pytest.mark.parametrize(
    "registry", [signatures.layers(), signatures.losses(), signatures.optimizers()], ids=lambda r: r.kind
)
def test_the_parameters_of_the_table_are_torchs_in_torchs_order(registry: signatures.Registry) -> None:
    by_hand = {"RNN", "LSTM", "GRU", "Sequential", "Identity", *signatures.OWN_LAYERS, *signatures.OWN_LOSSES}
    for name, parameters in registry.known.items():
        if name in by_hand:
            continue
        kind = getattr(torch.optim if registry.kind == "optimizer" else nn, name)
        theirs = [
            parameter.name
            for parameter in inspect.signature(kind).parameters.values()
            if parameter.name not in signatures.UNWANTED
            and not parameter.name.startswith("_")
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        assert [parameter for parameter, _ in parameters] == theirs, name


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_the_parameters_written_by_hand_are_accepted_by_torch(name: str) -> None:
    samples: dict[str, Any] = {
        "input_size": 3, "hidden_size": 4, "num_layers": 2, "nonlinearity": "relu", "bias": True, "batch_first": True,
        "dropout": 0.1, "bidirectional": True, "proj_size": 2,
    }  # fmt: skip
    layer = getattr(nn, name)(**{parameter: samples[parameter] for parameter, _ in signatures.layers().known[name]})
    assert (layer.input_size, layer.hidden_size, layer.num_layers, layer.bidirectional) == (3, 4, 2, True)


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("Conv2d(32, 3, 1)", {"in_channels": 32, "out_channels": 3, "kernel_size": 1}),
        ("Conv2d(1, 32, 3, 2)", {"in_channels": 1, "out_channels": 32, "kernel_size": 3, "stride": 2}),
        ("Conv2d(32, 3)", {"out_channels": 32, "kernel_size": 3}),
        ("Conv2d(32, 3, padding=1)", {"out_channels": 32, "kernel_size": 3, "padding": 1}),
        ("Conv2d(32, kernel_size=3)", {"out_channels": 32, "kernel_size": 3}),
        ("Conv2d(kernel_size=3, out_channels=32)", {"out_channels": 32, "kernel_size": 3}),
        ("Conv1d(8, 3)", {"out_channels": 8, "kernel_size": 3}),
        ("Conv1d(4, 8, 3)", {"in_channels": 4, "out_channels": 8, "kernel_size": 3}),
        ("Conv1d(8, 3, in_channels=4)", None),
        ("ConvTranspose3d(8, 3)", {"out_channels": 8, "kernel_size": 3}),
        ("Linear(784, 128)", {"in_features": 784, "out_features": 128}),
        ("Linear(128)", {"out_features": 128}),
        ("Linear()", {}),
        ("Linear(bias=False)", {"bias": False}),
        ("Linear(in_features=3)", {"in_features": 3}),
        ("Linear(64, bias=False)", {"out_features": 64, "bias": False}),
        ("Linear(784, 128, False)", {"in_features": 784, "out_features": 128, "bias": False}),
        ("Linear(1, 2, 3, 4)", None),
        ("GroupNorm(8)", {"num_groups": 8}),
        ("GroupNorm(8, 16)", {"num_groups": 8, "num_channels": 16}),
        ("GroupNorm()", None),
        ("Embedding(32)", {"embedding_dim": 32}),
        ("Embedding(100, 32)", {"num_embeddings": 100, "embedding_dim": 32}),
        ("Embedding(32, padding_idx=0)", {"embedding_dim": 32, "padding_idx": 0}),
        ("Embedding()", None),
        ("LSTM(64)", {"hidden_size": 64}),
        ("LSTM(64, num_layers=2)", {"hidden_size": 64, "num_layers": 2}),
        ("LSTM(10, 20)", {"input_size": 10, "hidden_size": 20}),
        ("LSTM(10, 20, 2)", {"input_size": 10, "hidden_size": 20, "num_layers": 2}),
        ("RNN(10, 20, 2, 'relu')", {"input_size": 10, "hidden_size": 20, "num_layers": 2, "nonlinearity": "relu"}),
        ("GRU()", None),
        ("BatchNorm1d()", {}),
        ("BatchNorm1d(64)", {"num_features": 64}),
        ("BatchNorm2d(momentum=0.2)", {"momentum": 0.2}),
        ("InstanceNorm3d(affine=True)", {"affine": True}),
        ("LayerNorm()", {}),
        ("LayerNorm(128)", {"normalized_shape": 128}),
        ("LayerNorm([1, 28, 28])", {"normalized_shape": [1, 28, 28]}),
        ("RMSNorm()", {}),
        ("MultiheadAttention(4)", {"num_heads": 4}),
        ("MultiheadAttention(64, 4)", {"embed_dim": 64, "num_heads": 4}),
        ("TransformerEncoderLayer(4)", {"nhead": 4}),
        ("TransformerEncoderLayer(64, 4)", {"d_model": 64, "nhead": 4}),
        ("MaxPool2d(2, 2)", {"kernel_size": 2, "stride": 2}),
        ("MaxPool2d()", None),
        ("Dropout(0.5)", {"p": 0.5}),
        ("Dropout()", {}),
        ("ReLU(True)", {"inplace": True}),
        ("ReLU(1, 2)", None),
        ("Threshold(1)", None),
        ("Tanh(1)", None),
        ("Linear(5, in_features=3, out_features=2)", None),
        ("EmbedColumns()", {}),
    ],
)
def test_positional_arguments_get_the_names_torch_gives_or_leave_out_the_inferred_one(text: str, bound: dict | None) -> None:
    call = parse_call(text, "w")
    if bound is None:
        with pytest.raises(ConfigError, match=f"^w: {call.name}"):
            signatures.bind(call, signatures.layers(), "w")
        return
    found = signatures.bind(call, signatures.layers(), "w")
    assert found == bound
    assert list(found) == [name for name, _ in signatures.layers().known[call.name] if name in bound]
    again = signatures.named(call, signatures.layers(), "w")
    assert again.args == ()
    assert signatures.named(again, signatures.layers(), "w") == again


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Conv2d(32)", "w: Conv2d(32) came; kernel_size is missing; expected at least out_channels, kernel_size"),
        ("MaxPool2d()", "w: MaxPool2d() came; kernel_size is missing; expected at least kernel_size"),
        ("ReLU(1, 2)", "w: ReLU(1, 2) came; 2 values are too many; expected at least no argument"),
        ("LSTM(4, 5, hidden_size=3)", "w: LSTM(4, 5, hidden_size=3) came; hidden_size is given twice; expected at least "
                                      "hidden_size"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_bind_are_explained(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        signatures.bind(parse_call(text, "w"), signatures.layers(), "w")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Linear(3)", None),
        ("Linaer(3)", "w: 'Linaer' is no known layer; did you mean Linear?"),
        ("linear(3)", "w: 'linear' is no known layer; did you mean Linear"),
        ("batchnorm2d()", "w: 'batchnorm2d' is no known layer; did you mean BatchNorm2d"),
        ("exec('1')", "w: 'exec' is no known layer; known: AdaptiveAvgPool1d, "),
        ("Module()", "w: Module came; it holds modules and is no layer; write Sequential, Residual or Parallel with a list"),
        ("Conv2d(32, kernel=3)", "w: Conv2d has no argument 'kernel'; did you mean kernel_size?"),
        ("Linear(3, device='cuda')", "w: Linear came with device; training.device decides; leave it out"),
        ("Linear(3, dtype='float64')", "w: Linear came with dtype; training runs in float32; leave it out"),
        (
            "MaxPool2d(2, return_indices=False)",
            "w: MaxPool2d came with return_indices; a layer gives one tensor; leave it out",
        ),
        ("ReLU(1, 2, 3)", "w: ReLU(1, 2, 3) came with 3 values; ReLU has 1 arguments (inplace); write them by keyword"),
        ("LazyLinear(3)", "w: LazyLinear came; sizes are worked out already; write Linear without Lazy"),
        ("LazyConv2d(3, 3)", "w: LazyConv2d came; sizes are worked out already; write Conv2d without Lazy"),
        ("LSTMCell(3)", "w: LSTMCell came; it makes one step in time only; write LSTM without Cell"),
        (
            "Bilinear(1, 2, 3)",
            "w: Bilinear came; it reads more than one tensor, a layer of a list reads one; write an own module",
        ),
        ("Transformer()", "w: Transformer came; it reads more than one tensor"),
        (
            "TransformerEncoder(1, 2)",
            "w: TransformerEncoder came; it is built from a module; write TransformerEncoderLayer once",
        ),
        ("MaxUnpool2d(2)", "w: MaxUnpool2d came; it reads more than one tensor"),
        ("CrossEntropyLoss()", "w: CrossEntropyLoss came, which is a loss; write it in training.loss"),
    ],
)
def test_names_and_argument_names_are_checked_without_torch(text: str, message: str | None) -> None:
    problem = signatures.layers().problem(parse_call(text, "w"), "w")
    assert problem == message if message is None else str(problem).startswith(message)


@pytest.mark.parametrize(
    ("registry", "text", "message"),
    [
        (signatures.losses(), "MSELoss(reduction='sum')", "w: MSELoss came with reduction; the mean is taken exactly"),
        (signatures.losses(), "CTCLoss()", "w: CTCLoss came; it needs lengths"),
        (signatures.losses(), "MSEloss()", "w: 'MSEloss' is no known loss; did you mean MSELoss"),
        (signatures.losses(), "NLLLoss2d()", "w: NLLLoss2d came; it is torch's old name; write NLLLoss"),
        (signatures.optimizers(), "Adm()", "w: 'Adm' is no known optimizer; did you mean Adam"),
        (signatures.optimizers(), "SGD(learning_rate=1)", "w: SGD has no argument 'learning_rate'; "),
        (signatures.optimizers(), "Default(momentum=1)", "w: the default optimizer (Adam or AdamW) has no argument 'momentum'"),
        (signatures.optimizers(), "Default(params=1)", "w: the default optimizer (Adam or AdamW) came with params; all parameters"),
        (signatures.optimizers(), "Adam(params=1)", "w: Adam came with params; all parameters of the network are trained"),
    ],
)  # fmt: skip
def test_losses_and_optimizers_are_checked_alike(registry: signatures.Registry, text: str, message: str) -> None:
    assert str(registry.problem(parse_call(text, "w"), "w")).startswith(message)


def test_all_problems_of_nested_layers_come_with_their_paths() -> None:
    call = parse_call("Residual([Linaer(3), Sequential([ReLU(), Conv2d(3, kernel=1)]), LSTMCell(2)])", "w")
    assert [problem.partition(": ")[0] for problem in signatures.layer_problems(call, "w")] == ["w.0", "w.1.1", "w.2"]


def test_every_refused_layer_is_answered_with_its_reason() -> None:
    for name, reason in signatures.layers().refused.items():
        assert signatures.layers().problem(parse_call(f"{name}()", "w"), "w") == f"w: {name} came; {reason}"


def test_every_inferred_argument_is_a_required_one_of_torch() -> None:
    for name, argument in signatures.INFERRED.items():
        assert (argument, True) in {**signatures.layers().known, **signatures.schedulers().known}[name]
