"""The seeded mistakes: one each, and the checks of which one has to find it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from . import networks as own
from .cases import Case, blobs, frame, pictures, values, walks

REFUSED = ("refused",)
MLP = ["Linear(16)", "ReLU()", "Linear()"]
WIDE = ["Linear(64)", "ReLU()", "Linear(32)", "ReLU()", "Linear()"]


def described(name: str, source: str, layers: list[str], *expected: str, **settings: Any) -> Case:
    return Case(name, "description", expected, lambda: {"config": source, "layers": layers, **settings})


def tuned(name: str, optimizer: str, *expected: str, source: str = "sklearn:iris") -> Case:
    return described(name, source, MLP, *expected, optimizer=optimizer)


def module(name: str, family: str, kind: Any, *expected: str, data: Any = blobs, **settings: Any) -> Case:
    """Return a case of an own module, made anew each time."""
    return Case(name, family, expected, lambda: {"model": kind(), "data": data(), **settings})


DESCRIPTION = [
    described("softmax before cross entropy", "sklearn:iris", [*MLP, "Softmax()"], "activation-before-loss"),
    described("log-softmax before cross entropy", "sklearn:iris", [*MLP, "LogSoftmax()"], "activation-before-loss"),
    described("sigmoid before cross entropy", "sklearn:wine", [*MLP, "Sigmoid()"], "activation-before-loss"),
    described("sigmoid before logits loss", "sklearn:breast_cancer", [*MLP, "Sigmoid()"], "activation-before-loss"),
    described("nll without log-softmax", "sklearn:wine", MLP, "missing-log-softmax", loss="NLLLoss()"),
    described("nll after softmax", "sklearn:wine", [*MLP, "Softmax()"], "missing-log-softmax", loss="NLLLoss()"),
    described("bce without sigmoid", "sklearn:breast_cancer", MLP, "missing-sigmoid", *REFUSED, loss="BCELoss()"),
    described("five outputs for three classes", "sklearn:iris", ["Linear(16)", "ReLU()", "Linear(5)"], *REFUSED),
    described("one output for three classes", "sklearn:iris", ["Linear(16)", "ReLU()", "Linear(1)"], *REFUSED),
    described("squared error on classes", "sklearn:iris", MLP, "classes-as-numbers", *REFUSED, loss="MSELoss()"),
    described("cross entropy on numbers", "sklearn:diabetes", MLP, *REFUSED, loss="CrossEntropyLoss()"),
    described("relu before squared error", "sklearn:diabetes", [*MLP, "ReLU()"], "activation-on-output"),
    described("relu before cross entropy", "sklearn:digits", ["Flatten()", *MLP, "ReLU()"], "activation-on-output"),
    described("tanh before squared error", "sklearn:diabetes", [*MLP, "Tanh()"], "activation-on-output"),
    described("sigmoid before squared error", "sklearn:diabetes", [*MLP, "Sigmoid()"], "activation-on-output"),
    described("tanh before logits loss", "sklearn:breast_cancer", [*MLP, "Tanh()"], "activation-on-output"),
    described(
        "linear after linear", "sklearn:iris", ["Linear(32)", "Linear(32)", "ReLU()", "Linear()"], "missing-activation"
    ),
    described("three linears", "sklearn:diabetes", ["Linear(64)", "Linear(64)", "Linear()"], "missing-activation"),
    described(
        "linears with dropout between", "sklearn:wine", ["Linear(64)", "Dropout(0.2)", "Linear()"], "missing-activation"
    ),
    described(
        "convolutions without activation",
        "sklearn:digits",
        ["Conv2d(8, kernel_size=3, padding=1)", "Conv2d(16, kernel_size=3, padding=1)", "ReLU()", "Flatten()", "Linear()"],
        "missing-activation",
    ),
    described(
        "convolution straight into linear",
        "sklearn:digits",
        ["Conv2d(16, kernel_size=3, padding=1)", "MaxPool2d(2)", "Flatten()", "Linear()"],
        "missing-activation",
    ),
    described(
        "normalised but never bent",
        "sklearn:digits",
        ["Flatten()", "Linear(64)", "BatchNorm1d()", "Linear(64)", "BatchNorm1d()", "Linear()"],
        "missing-activation",
    ),
    described("dropout after the last layer", "sklearn:iris", [*MLP, "Dropout(0.5)"], "dropout-on-output"),
    described("batch norm on the output", "sklearn:wine", [*MLP, "BatchNorm1d()"], "normalisation-on-output"),
    described(
        "dropout of 95 %",
        "sklearn:digits",
        ["Flatten()", "Linear(64)", "ReLU()", "Dropout(0.95)", "Linear()"],
        "strong-dropout",
    ),
    described(
        "dropout of all",
        "sklearn:digits",
        ["Flatten()", "Linear(64)", "ReLU()", "Dropout(1.0)", "Linear()"],
        "strong-dropout",
    ),
    described(
        "batch norm after dropout",
        "sklearn:digits",
        ["Flatten()", "Linear(64)", "ReLU()", "Dropout(0.5)", "BatchNorm1d()", "Linear()"],
        "batchnorm-after-dropout",
    ),
    described(
        "bias before batch norm",
        "sklearn:digits",
        ["Conv2d(8, kernel_size=3)", "BatchNorm2d()", "ReLU()", "Flatten()", "Linear()"],
        "bias-before-batchnorm",
    ),
    described(
        "dropout in a tiny network",
        "sklearn:iris",
        ["Linear(4)", "ReLU()", "Dropout(0.5)", "Linear()"],
        "dropout-in-small-network",
    ),
    described(
        "batch norm with one row",
        "sklearn:iris",
        ["Linear(16)", "BatchNorm1d()", "ReLU()", "Linear()"],
        *REFUSED,
        batch_size=1,
    ),
    described(
        "batch norm with two rows",
        "sklearn:iris",
        ["Linear(16)", "BatchNorm1d()", "ReLU()", "Linear()"],
        "batchnorm-of-few-rows",
        batch_size=2,
    ),
    described("no flatten before linear", "sklearn:digits", ["Conv2d(8, kernel_size=3)", "ReLU()", "Linear()"], *REFUSED),
    described(
        "a size that does not meet", "sklearn:digits", ["Flatten()", "Linear(32, 64)", "ReLU()", "Linear()"], *REFUSED
    ),
    described(
        "kernel larger than the image",
        "sklearn:digits",
        ["Conv2d(8, kernel_size=9)", "ReLU()", "Flatten()", "Linear()"],
        *REFUSED,
    ),
    described(
        "pooled away",
        "sklearn:digits",
        ["MaxPool2d(2)", "MaxPool2d(2)", "MaxPool2d(2)", "MaxPool2d(2)", "Flatten()", "Linear()"],
        *REFUSED,
    ),
    described(
        "convolution on a single place",
        "sklearn:digits",
        [
            "Conv2d(8, kernel_size=3, stride=2, padding=1)",
            "ReLU()",
            "Conv2d(16, kernel_size=3, stride=2, padding=1)",
            "ReLU()",
            "Conv2d(32, kernel_size=3, stride=2, padding=1)",
            "ReLU()",
            "Conv2d(32, kernel_size=3, padding=1)",
            "ReLU()",
            "Flatten()",
            "Linear()",
        ],
        "kernel-beyond-input",
    ),
    described("softmax of one output", "sklearn:breast_cancer", [*MLP, "Softmax()"], "softmax-of-one", loss="BCELoss()"),
    described(
        "softmax between layers",
        "sklearn:digits",
        ["Flatten()", "Linear(64)", "Softmax()", "Linear()"],
        "softmax-between-layers",
    ),
    tuned("adam with lr 1", "Adam(lr=1.0)", "learning-rate"),
    tuned("adam with lr 1e-9", "Adam(lr=1e-9)", "learning-rate"),
    tuned("sgd with lr 100", "SGD(lr=100)", "learning-rate"),
    tuned("lr of 0", "Adam(lr=0.0)", "learning-rate"),
    tuned("rmsprop with lr 1", "RMSprop(lr=1.0)", "learning-rate"),
    tuned("sgd with lr 1 and momentum 0.99", "SGD(lr=1.0, momentum=0.99)", "learning-rate"),
    tuned("weight decay of 5", "SGD(lr=0.01, weight_decay=5.0)", "weight-decay"),
    tuned("adamw with weight decay of 100", "AdamW(lr=1e-3, weight_decay=100.0)", "weight-decay"),
    tuned("momentum of 0.9999", "SGD(lr=0.01, momentum=0.9999)", "momentum", "learning-rate"),
    tuned("betas exchanged", "Adam(betas=[0.999, 0.9])", "momentum"),
    Case(
        "a loss that weighs itself",
        "description",
        ("loss-parameters",),
        lambda: {"layers": MLP, "data": values(), "loss": own.LearnedNoise()},
    ),
    Case(
        "squeeze in an own loss",
        "description",
        ("loss-broadcast",),
        lambda: {"layers": MLP, "data": values(), "loss": own.squared_with_squeeze},
    ),
    Case(
        "flat output in an own loss",
        "description",
        ("loss-broadcast", *REFUSED),
        lambda: {"layers": MLP, "data": values(), "loss": own.mse_of_flat},
    ),
    Case(
        "first column in an own loss",
        "description",
        ("loss-broadcast",),
        lambda: {"layers": MLP, "data": values(), "loss": own.absolute_first},
    ),
    Case(
        "flat logits in an own loss",
        "description",
        ("loss-broadcast",),
        lambda: {"layers": MLP, "data": blobs(classes=2), "task": "binary", "loss": own.logits_of_flat},
    ),
    Case(
        "softmax in a Sequential from Python",
        "description",
        ("activation-before-loss",),
        lambda: {
            "model": nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(dim=1)),
            "data": blobs(),
            "loss": nn.CrossEntropyLoss(),
        },
    ),
    Case(
        "sigmoid before an own loss",
        "description",
        ("activation-before-loss",),
        lambda: {"layers": [*MLP, "Sigmoid()"], "data": blobs(classes=2), "loss": own.entropy_of_shares},
    ),
    Case(
        "softmax before an own loss",
        "description",
        ("activation-before-loss",),
        lambda: {"layers": [*MLP, "Softmax()"], "data": blobs(), "loss": own.logarithm_of_shares},
    ),
    module("softmax in forward", "description", own.SoftmaxInForward, "activation-before-loss"),
    module("log-softmax in forward", "description", own.LogSoftmaxInForward, "activation-before-loss"),
    module(
        "sigmoid in forward", "description", own.SigmoidInForward, "activation-before-loss", data=lambda: blobs(classes=2)
    ),
    module("relu at the end of forward", "description", own.ReluAtTheEnd, "activation-on-output", data=values),
    module("relu before classes in forward", "description", lambda: own.ReluAtTheEnd(3), "activation-on-output"),
    module("no activation in forward", "description", own.NoActivation, "missing-activation"),
    Case(
        "counts after relu",
        "description",
        ("activation-on-output",),
        lambda: {
            "layers": [*MLP, "ReLU()"],
            "data": (values()[0], np.random.default_rng(0).poisson(3.0, 240)[:, None].astype("float32")),
            "loss": "PoissonNLLLoss()",
        },
    ),
]


def raw(scale: float, shift: float = 0.0) -> Any:
    """Return values of which the inputs are far from deviation 1."""
    X, y = values()
    return X * scale + shift, y


BATCH = [
    module("unused layer", "batch", own.UnusedLayer, "unused-parameters"),
    module("forgotten loop", "batch", own.ForgottenLoop, "unused-parameters"),
    module("rounded path", "batch", own.RoundedPath, "zero-gradient", "unused-parameters"),
    module("argmax on the path", "batch", own.ArgmaxPath, "unused-parameters"),
    module("weights copied", "batch", own.WeightsCopied, "unused-parameters", "cut-gradient"),
    module("frozen body", "batch", own.FrozenBody, "frozen-parameters"),
    module("parameters in a list", "batch", own.ParametersInList, "unregistered-layers"),
    module("a trained plain tensor", "batch", own.PlainTrainedTensor, "unregistered-layers", "state-not-registered"),
    module("dead by its bias", "batch", own.DeadBias, "dead-units", "zero-gradient"),
    module("fourteen sigmoids", "batch", own.DeepSigmoids, "vanishing-gradient", "constant-output"),
    module(
        "twenty plain layers",
        "batch",
        lambda: nn.Sequential(
            *(part for place in range(20) for part in (nn.Linear(6 if place == 0 else 16, 16), nn.Tanh())), nn.Linear(16, 3)
        ),
        "vanishing-gradient",
        "constant-output",
    ),
    module("large first weights", "batch", own.LargeWeights, "exploding-activations", "exploding-gradient", "first-loss"),
    module("large head", "batch", own.LargeHead, "first-loss"),
    module("large output bias", "batch", own.LargeBias, "first-loss", data=values),
    module("all weights zero", "batch", own.AllZeros, "zero-gradient", "identical-units"),
    module("all weights equal", "batch", own.AllEqual, "identical-units"),
    Case(
        "pixels from 0 to 255",
        "batch",
        ("input-scale",),
        lambda: {
            "layers": ["Conv2d(8, kernel_size=3)", "ReLU()", "Flatten()", "Linear()"],
            "data": pictures(scale=255.0),
            "preparation": "none",
        },
    ),
    Case("inputs of a million", "batch", ("input-scale",), lambda: {"layers": MLP, "data": raw(1e6), "preparation": "none"}),
    Case(
        "inputs far from 0",
        "batch",
        ("input-scale",),
        lambda: {"layers": MLP, "data": raw(1.0, 500.0), "preparation": "none"},
    ),
    Case(
        "columns of many sizes",
        "batch",
        ("input-scale",),
        lambda: {
            "layers": MLP,
            "data": (values()[0] * np.logspace(-2, 2, 6, dtype="float32"), values()[1]),
            "preparation": "none",
        },
    ),
    Case(
        "targets of millions",
        "batch",
        ("target-scale",),
        lambda: {"layers": MLP, "data": (values()[0], values()[1] * 3e5 + 1e6), "preparation": "none"},
    ),
    module("time first in an LSTM", "batch", own.TimeFirstLSTM, "rows-mixed", data=walks),
    module("time first in attention", "batch", own.TimeFirstAttention, "rows-mixed", data=walks),
    module("softmax over the rows", "batch", own.SoftmaxOverRows, "rows-mixed"),
    module("normalised by its batch", "batch", own.MeanOfBatch, "rows-mixed"),
    module("rows sorted", "batch", own.ShiftedByOwnBatch, "rows-mixed"),
    module("rows cut anew", "batch", own.CutAnew, "rows-mixed", data=walks),
    module("statistics of the batch in use", "batch", own.OwnStatistics, "rows-mixed"),
    module("noise in use", "batch", own.NoiseAlways, "random-in-eval"),
    module("dropout the wrong way round", "batch", own.DropoutReversed, "random-in-eval"),
    module("doubled in training", "batch", own.ScaledInTraining, "train-eval-differ"),
    module("input lost", "batch", own.InputLost, "constant-output"),
    module("softmax of a single number", "batch", own.SoftmaxOfOne, "softmax-of-one", data=values),
    module("the state squeezed", "batch", own.SqueezedRows, "batch-of-one", "squeeze-without-dim", data=walks),
    module("adds to its input", "batch", own.AddsInPlace, "input-changed-in-place"),
    module("assigns to its input", "batch", own.AssignsInput, "input-changed-in-place"),
    module("relu in place at the start", "batch", own.InplaceFirst, "input-changed-in-place"),
    module("logarithm of the input", "batch", own.LogarithmOfInput, "not-finite", *REFUSED),
    module("divided by zero", "batch", own.DividedByZero, "not-finite", *REFUSED),
    Case(
        "a rate that learns nothing",
        "batch",
        ("cannot-overfit",),
        lambda: {"layers": MLP, "data": blobs(), "optimizer": "SGD(lr=1e-5)"},
    ),
    Case(
        "an own step without an update",
        "batch",
        ("step-changes-nothing",),
        lambda: {"layers": MLP, "data": blobs(), "step": own.step_without_update},
    ),
    Case(
        "an own step without an update of a network with batch norm",
        "batch",
        ("step-changes-nothing",),
        lambda: {"model": own.NormalisedAnswer(), "data": blobs(), "step": own.step_without_update},
    ),
    Case(
        "rows with gaps that are taken as they are",
        "data",
        ("missing-as-zero",),
        lambda: {"layers": MLP, "data": gapped(blobs()), "preparation": "none"},
    ),
    Case(
        "a rate that diverges",
        "batch",
        ("cannot-overfit",),
        lambda: {"layers": WIDE, "data": values(), "optimizer": "SGD(lr=5.0)"},
    ),
]

CODE = [
    module("nn.ReLU(x)", "code", own.LayerCalledOnTensor, "layer-called-on-tensor"),
    module("nn.Softmax(x)", "code", own.SoftmaxCalledOnTensor, "layer-called-on-tensor"),
    module("linear made in forward", "code", own.LinearInForward, "layer-made-in-forward"),
    module("linear made in a helper", "code", own.HelperMakesLayer, "layer-made-in-forward"),
    module("dropout made in forward", "code", own.DropoutInForward, "layer-made-in-forward"),
    module("batch norm made in forward", "code", own.NormInForward, "layer-made-in-forward"),
    module("parameter made in forward", "code", own.ParameterInForward, "layer-made-in-forward"),
    module("layers in a list", "code", own.LayersInList, "unregistered-layers"),
    module("layers in a dictionary", "code", own.LayersInDict, "unregistered-layers"),
    module("layers appended to a list", "code", own.LayersAppended, "unregistered-layers"),
    module("state that is no buffer", "code", own.PlainState, "state-not-registered"),
    module("x.cuda()", "code", own.OnCuda, "fixed-device"),
    module('x.to("cuda")', "code", own.ToCuda, "fixed-device"),
    module("double in forward", "code", own.InDouble, "fixed-dtype"),
    module("detached path", "code", own.DetachedPath, "cut-gradient", "unused-parameters"),
    module(".data on the path", "code", own.DataAttribute, "cut-gradient", "unused-parameters"),
    module("through NumPy", "code", own.ThroughNumpy, "cut-gradient", "unused-parameters"),
    module("through lists", "code", own.ThroughLists, "cut-gradient", "unused-parameters"),
    module("item() on the path", "code", own.ItemOnThePath, "cut-gradient", "unused-parameters"),
    module("no_grad inside", "code", own.NoGradInside, "no-grad-in-forward", "unused-parameters"),
    module("no_grad around forward", "code", own.NoGradForward, "no-grad-in-forward"),
    Case(
        "no super().__init__()", "code", ("missing-super-init",), lambda: {"model": (own.NoSuperInit, {}), "data": blobs()}
    ),
    module("F.dropout without training", "code", own.DropoutAlways, "dropout-always-on"),
    module("squeeze() of everything", "code", own.SqueezeAll, "squeeze-without-dim", "batch-of-one", data=pictures),
    module("view(32, -1)", "code", own.FixedBatch, "fixed-batch-size", data=pictures),
    module("state for 32 rows", "code", own.FixedState, *REFUSED, data=walks),
    module("F.relu(x) thrown away", "code", own.ReluThrownAway, "result-thrown-away"),
    module("self.drop(x) thrown away", "code", own.LayerThrownAway, "result-thrown-away"),
    module("self.eval() in forward", "code", own.EvalInForward, "mode-changed-in-forward"),
    module("no return", "code", own.NoReturn, *REFUSED),
]


def table(name: str, make: Any, *expected: str, target: str = "y", **settings: Any) -> Case:
    return Case(name, "data", expected, lambda: {"data": make(), "target": target, **settings})


def copied(noise: float) -> pd.DataFrame:
    rows = frame()
    rows["final"] = rows["y"] + noise * rows["y"].std() * np.random.default_rng(1).normal(size=len(rows))
    return rows


def copied_classes(flips: float) -> pd.DataFrame:
    generator = np.random.default_rng(1)
    rows = frame()
    rows["y"] = np.where(rows["y"] > rows["y"].median() + generator.normal(0, 2, len(rows)), "sick", "well")
    wrong = generator.random(len(rows)) < flips
    rows["ward"] = np.where((rows["y"] == "sick") ^ wrong, "A", "B")
    return rows


def doubled(seed: int = 0) -> pd.DataFrame:
    rows = frame()
    return pd.concat([rows, rows.iloc[:60]]).sample(frac=1, random_state=seed).reset_index(drop=True)


def grouped(column: str) -> pd.DataFrame:
    generator = np.random.default_rng(4)
    subjects = np.repeat(np.arange(30), 10)
    rows = frame()
    rows[column] = [f"s{subject:02d}" for subject in subjects]
    rows["y"] = generator.normal(size=30)[subjects] + 0.1 * generator.normal(size=300)
    return rows.sample(frac=1, random_state=0).reset_index(drop=True)


def dated(shuffled: bool) -> pd.DataFrame:
    rows = frame(day=pd.date_range("2021-01-01", periods=300).strftime("%Y-%m-%d"))
    return rows.sample(frac=1, random_state=0) if shuffled else rows


def gapped(rows: Any) -> Any:
    """Return rows of an array with a gap in each ninth."""
    X, y = rows[0].copy(), rows[1]
    X[::9, 1] = np.nan
    return X, y


def with_holes(share: float, mark: float | None = None) -> pd.DataFrame:
    rows = frame()
    holes = np.random.default_rng(2).random(len(rows)) < share
    rows.loc[holes, "b"] = np.nan if mark is None else mark
    return rows


def contradicting() -> pd.DataFrame:
    rows = frame().head(200).copy()
    rows["y"] = np.where(rows["y"] > rows["y"].median(), "yes", "no")
    twins = rows.head(60).copy()
    twins["y"] = np.where(twins["y"] == "yes", "no", "yes")
    return pd.concat([rows, twins]).sample(frac=1, random_state=1).reset_index(drop=True)


def mislabelled() -> Any:
    X, y = blobs(600, 4, 3)
    X = X * np.float32(0.5) + 3 * np.eye(3, 4, dtype=np.float32)[y]
    wrong = np.random.default_rng(6).choice(600, 40, replace=False)
    y = y.copy()
    y[wrong] = (y[wrong] + 1) % 3
    return X, y


def rare() -> Any:
    X, y = blobs(900, 5, 2)
    keep = (y == 0) | (np.arange(900) % 60 == 1)
    return X[keep], y[keep]


def outlying(factor: float) -> pd.DataFrame:
    rows = frame()
    rows.loc[[20, 120, 220], "y"] *= factor
    return rows


def same_pictures() -> Any:
    X, y = pictures(120)
    return np.concatenate([X, X[:40]]), np.concatenate([y, y[:40]])


def same_walks() -> Any:
    X, y = walks(120)
    return np.concatenate([X, X[:40]]), np.concatenate([y, y[:40]])


def profit() -> pd.DataFrame:
    rows = frame(revenue=np.random.default_rng(1).uniform(0, 100, 300), cost=np.random.default_rng(2).uniform(0, 100, 300))
    rows["y"] = rows["revenue"] - rows["cost"]
    return rows


def shifted() -> Any:
    rows = frame()
    rows.loc[240:, "a"] += 3.0
    return rows


LAST = {"train": list(range(180)), "valid": list(range(180, 240)), "test": list(range(240, 300))}
DATA = [
    table("a copy of the target", lambda: copied(0.0), "target-leak"),
    table("a copy with a little noise", lambda: copied(0.05), "target-leak"),
    table("a copy with more noise", lambda: copied(0.2), "target-leak"),
    table("the target in other units", lambda: frame().assign(fahrenheit=lambda rows: rows["y"] * 1.8 + 32), "target-leak"),
    table("the logarithm of the target", lambda: frame().assign(e=lambda rows: np.exp(rows["y"] / 4)), "target-leak"),
    table("the class in another word", lambda: copied_classes(0.0), "target-leak"),
    table("the class with three in a hundred wrong", lambda: copied_classes(0.03), "target-leak"),
    table("the difference of two columns", profit, "target-leak"),
    table("repeated rows", doubled, "duplicate-rows"),
    Case("repeated images", "data", ("duplicate-rows",), lambda: {"data": same_pictures()}),
    Case("repeated sequences", "data", ("duplicate-rows",), lambda: {"data": same_walks()}),
    Case(
        "nearly repeated rows",
        "data",
        ("near-duplicate-rows",),
        lambda: {
            "data": (np.concatenate([blobs()[0], blobs()[0][:50] + 1e-5]), np.concatenate([blobs()[1], blobs()[1][:50]])),
            "near_duplicates": 0.01,
        },
    ),
    table("the same patients", lambda: grouped("patient_id"), "shared-groups"),
    table("the same subjects", lambda: grouped("subject"), "shared-groups"),
    table("the same stores", lambda: grouped("store_id"), "shared-groups"),
    table("the same players", lambda: grouped("playerId"), "shared-groups"),
    table("a series divided at random", lambda: dated(False), "time-order"),
    table(
        "test older than train",
        lambda: dated(False),
        "time-order",
        split={"train": list(range(120, 300)), "valid": list(range(60, 120)), "test": list(range(60))},
    ),
    Case(
        "a class that train lacks",
        "data",
        ("missing-class",),
        lambda: {
            "data": (blobs(300)[0], np.repeat([0, 1, 2], 100)),
            "split": {"train": list(range(200)), "valid": list(range(200, 250)), "test": list(range(250, 300))},
        },
    ),
    table("a column that moves", shifted, "shift", split=LAST),
    table("a constant column", lambda: frame(version=np.ones(300)), "constant-column"),
    table("a constant word", lambda: frame(country=["NL"] * 300), "constant-column"),
    table("the number of the row", lambda: frame(number=np.arange(300)), "identifier-column"),
    Case(
        "the number of the row in an array",
        "data",
        ("identifier-column",),
        lambda: {"data": (np.column_stack([np.arange(240.0), values()[0]]), values()[1])},
    ),
    table("mostly missing", lambda: with_holes(0.95), "mostly-missing"),
    table("half missing", lambda: with_holes(0.6), "mostly-missing"),
    table("-999 for missing", lambda: with_holes(0.05, -999.0), "sentinel-values"),
    table("9999 for missing", lambda: with_holes(0.03, 9999.0), "sentinel-values"),
    table("contradicting rows", contradicting, "conflicting-targets"),
    Case("labels exchanged", "data", ("label-noise",), lambda: {"data": mislabelled()}),
    Case("one in a hundred", "data", ("class-imbalance",), lambda: {"data": rare()}),
    table("targets a thousand times too large", lambda: outlying(1000.0), "target-outliers"),
    Case(
        "infinite inputs",
        "data",
        ("not-finite", *REFUSED),
        lambda: {"data": (np.where(values()[0] > 2, np.inf, values()[0]), values()[1])},
    ),
    table("a target that is constant", lambda: frame().assign(y="yes"), *REFUSED),
    table("a target that is one number", lambda: frame().assign(y=3.5), *REFUSED),
    table("missing targets", lambda: frame().assign(y=lambda rows: rows["y"].where(rows.index % 7 > 0)), *REFUSED),
]

CASES = [*DESCRIPTION, *BATCH, *CODE, *DATA]
