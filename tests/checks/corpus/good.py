"""Good networks and scripts: no check may warn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn import datasets
from torch import Tensor, nn

from . import good_networks as own
from .cases import Case, blobs, frame, pictures, values, walks

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
MLP = ["Linear(32)", "ReLU()", "Linear()"]


def good(name: str, family: str, **arguments: Any) -> Case:
    return Case(name, family, (), lambda: dict(arguments))


def made(name: str, kind: Callable[[], nn.Module], data: Callable[[], Any] = blobs, **arguments: Any) -> Case:
    return Case(name, "own modules", (), lambda: {"model": kind(), "data": data(), **arguments})


def arrays(name: str, data: Callable[[], Any], **arguments: Any) -> Case:
    return Case(name, "data", (), lambda: {"data": data(), **arguments})


def pinball(output: Tensor, target: Tensor) -> Tensor:
    gap = target - output
    return torch.maximum(0.9 * gap, -0.1 * gap).mean()


def focal(output: Tensor, target: Tensor) -> Tensor:
    loss = F.cross_entropy(output, target, reduction="none")
    return ((1 - torch.exp(-loss)) ** 2 * loss).mean()


def log_cosh(output: Tensor, target: Tensor) -> Tensor:
    return torch.log(torch.cosh(output - target)).mean()


def both_squeezed(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(output.squeeze(1), target.squeeze(1))


def dice(output: Tensor, target: Tensor) -> Tensor:
    share = torch.sigmoid(output)
    return 1 - (2 * (share * target).sum() + 1) / (share.sum() + target.sum() + 1)


def counts() -> Any:
    X = values()[0]
    return X, np.random.default_rng(0).poisson(np.exp(0.5 * X[:, 0] + 1))[:, None].astype(np.float32)


def labels() -> Any:
    X = values()[0]
    return X, (X[:, :4] + 0.3 * np.random.default_rng(0).normal(size=(240, 4)) > 0.3).astype(np.int64)


def per_step() -> Any:
    rows, _ = ragged()
    return rows, [(row.mean(axis=1) > 0).astype(np.int64) for row in rows]


def volumes() -> Any:
    X, y = pictures(80, 8)
    return np.repeat(X[:, :, None], 6, axis=2), y


def signals() -> Any:
    X, y = walks(steps=32)
    return X.transpose(0, 2, 1).copy(), y


def codes() -> Any:
    generator = np.random.default_rng(0)
    X = generator.integers(1, 30, (200, 10))
    return X, (X[:, 0] > 15).astype(np.int64)


def ragged() -> Any:
    X, y = walks()
    lengths = np.random.default_rng(0).integers(5, 13, len(X))
    return [row[:length] for row, length in zip(X, lengths, strict=True)], y


def classed() -> pd.DataFrame:
    rows = frame()
    rows["y"] = pd.cut(rows["y"], 3, labels=["low", "mid", "high"]).astype(str)
    return rows


def grouped() -> pd.DataFrame:
    return frame(patient_id=np.repeat(np.arange(30), 10))


def dated() -> pd.DataFrame:
    rows = frame(day=pd.date_range("2021-01-01", periods=300).strftime("%Y-%m-%d"))
    return rows


def holed() -> pd.DataFrame:
    rows = frame(age=np.random.default_rng(0).integers(18, 90, 300), year=np.random.default_rng(1).integers(1990, 2020, 300))
    rows.loc[rows.index % 9 == 0, "b"] = np.nan
    return rows


def prices() -> pd.DataFrame:
    rows = frame()
    rows["y"] = np.exp(rows["y"] / rows["y"].std()) * 50_000
    return rows


def few_words() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    columns = {name: generator.choice(list("abc"), 300) for name in ("buying", "doors", "safety")}
    return pd.DataFrame(
        {**columns, "y": np.where((columns["buying"] == "a") | (generator.random(300) < 0.1), "good", "bad")}
    )


def moderately_rare() -> Any:
    return datasets.make_classification(600, 8, weights=[0.85], random_state=0)


def example(name: str, **more: Any) -> Case:
    return good(f"examples/{name}", "examples", config=str(EXAMPLES / name), **more)


def layers(name: str, source: str, *texts: str, **more: Any) -> Case:
    return good(name, "lists of layers", config=source, layers=list(texts), **more)


def default(name: str) -> Case:
    return good(f"default network of {name}", "lists of layers", config=f"sklearn:{name}")


CONV = ("Conv2d(16, kernel_size=3, padding=1)", "ReLU()")
GOOD = [
    *(example(name) for name in ("digits.toml", "diabetes.toml", "sequence.toml", "tutorial.toml")),
    example("own_module.toml", code=[str(EXAMPLES / "own_module.py")]),
    Case(
        "examples/tutorial.py",
        "examples",
        (),
        lambda: {
            "model": own.SimpleModel(10, 16, 1),
            "data": (torch.rand(100, 10), torch.rand(100, 1)),
            "loss": nn.MSELoss(),
            "optimizer": "Adam(lr=0.001)",
            "batch_size": 10,
            "preparation": None,
        },
    ),
    *(default(name) for name in ("iris", "wine", "breast_cancer", "digits", "diabetes", "linnerud")),
    layers("one linear layer of classes", "sklearn:iris", "Linear()"),
    layers("linear regression", "sklearn:diabetes", "Linear()"),
    layers(
        "gelu and layer norm",
        "sklearn:wine",
        "Linear(64)",
        "LayerNorm()",
        "GELU()",
        "Linear(64)",
        "LayerNorm()",
        "GELU()",
        "Linear()",
    ),
    layers(
        "batch norm and dropout",
        "sklearn:digits",
        "Flatten()",
        "Linear(128, bias=False)",
        "BatchNorm1d()",
        "ReLU()",
        "Dropout(0.5)",
        "Linear()",
    ),
    layers("batch norm after relu", "sklearn:digits", "Flatten()", "Linear(128)", "ReLU()", "BatchNorm1d()", "Linear()"),
    layers(
        "selu with alpha dropout",
        "sklearn:breast_cancer",
        "Linear(64)",
        "SELU()",
        "AlphaDropout(0.1)",
        "Linear(64)",
        "SELU()",
        "Linear()",
    ),
    layers("tanh, five layers", "sklearn:diabetes", *("Linear(32)", "Tanh()") * 5, "Linear()"),
    layers(
        "a narrow layer between wide ones",
        "sklearn:digits",
        "Flatten()",
        "Linear(128)",
        "ReLU()",
        "Linear(8)",
        "Linear(128)",
        "ReLU()",
        "Linear()",
    ),
    layers("six relu layers", "sklearn:digits", "Flatten()", *("Linear(64)", "ReLU()") * 6, "Linear()"),
    layers("log-softmax with nll", "sklearn:wine", *MLP, "LogSoftmax()", loss="NLLLoss()"),
    layers("sigmoid with bce", "sklearn:breast_cancer", *MLP, "Sigmoid()", loss="BCELoss()"),
    layers("two outputs of two classes", "sklearn:breast_cancer", *MLP, loss="CrossEntropyLoss()"),
    layers("margin loss", "sklearn:iris", *MLP, loss="MultiMarginLoss()"),
    layers("label smoothing", "sklearn:digits", "Flatten()", *MLP, loss="CrossEntropyLoss(label_smoothing=0.1)"),
    layers("balanced weights", "sklearn:breast_cancer", *MLP, loss='BCEWithLogitsLoss(pos_weight="balanced")'),
    layers("huber", "sklearn:diabetes", *MLP, loss="HuberLoss()"),
    layers("absolute error", "sklearn:diabetes", *MLP, loss="L1Loss()"),
    layers("smooth absolute error", "sklearn:diabetes", *MLP, loss="SmoothL1Loss()"),
    layers("sgd with momentum", "sklearn:digits", "Flatten()", *MLP, optimizer="SGD(lr=0.1, momentum=0.9, nesterov=True)"),
    layers("adamw", "sklearn:digits", "Flatten()", *MLP, optimizer="AdamW(lr=3e-4, weight_decay=0.05)"),
    layers("rmsprop", "sklearn:wine", *MLP, optimizer="RMSprop(lr=1e-3)"),
    layers("adadelta", "sklearn:wine", *MLP, optimizer="Adadelta()"),
    layers("adagrad", "sklearn:wine", *MLP, optimizer="Adagrad(lr=0.05)"),
    layers("lbfgs", "sklearn:iris", *MLP, optimizer="LBFGS()", batch_size=90),
    layers("a fast adam", "sklearn:iris", *MLP, optimizer="Adam(lr=0.01)"),
    layers("a careful adam", "sklearn:digits", "Flatten()", *MLP, optimizer="Adam(lr=1e-4)"),
    layers(
        "vgg",
        "sklearn:digits",
        *CONV,
        *CONV,
        "MaxPool2d(2)",
        *CONV,
        *CONV,
        "MaxPool2d(2)",
        "Flatten()",
        "Linear(64)",
        "ReLU()",
        "Dropout(0.5)",
        "Linear()",
    ),
    layers(
        "pooling before relu",
        "sklearn:digits",
        "Conv2d(16, kernel_size=3)",
        "MaxPool2d(2)",
        "ReLU()",
        "Flatten()",
        "Linear()",
    ),
    layers(
        "convolutions with batch norm",
        "sklearn:digits",
        "Conv2d(16, kernel_size=3, padding=1, bias=False)",
        "BatchNorm2d()",
        "ReLU()",
        "Conv2d(32, kernel_size=3, stride=2, padding=1, bias=False)",
        "BatchNorm2d()",
        "ReLU()",
        "AdaptiveAvgPool2d(1)",
        "Flatten()",
        "Linear()",
    ),
    layers(
        "separable convolutions",
        "sklearn:digits",
        "Conv2d(16, kernel_size=3, padding=1)",
        "ReLU()",
        "Conv2d(16, kernel_size=3, padding=1, groups=16)",
        "Conv2d(32, kernel_size=1)",
        "ReLU()",
        "AdaptiveAvgPool2d(1)",
        "Flatten()",
        "Linear()",
    ),
    layers(
        "residual blocks",
        "sklearn:digits",
        *CONV,
        "Residual([Conv2d(16, kernel_size=3, padding=1), BatchNorm2d(), ReLU(), Conv2d(16, kernel_size=3, padding=1), "
        "BatchNorm2d()])",
        "ReLU()",
        "Flatten()",
        "Linear()",
    ),
    layers(
        "parallel branches",
        "sklearn:digits",
        "Parallel([Conv2d(8, kernel_size=3, padding=1), Conv2d(8, kernel_size=5, padding=2)])",
        "ReLU()",
        "Flatten()",
        "Linear()",
    ),
    layers(
        "group norm and silu",
        "sklearn:digits",
        "Conv2d(16, kernel_size=3, padding=1)",
        "GroupNorm(4)",
        "SiLU()",
        "Flatten()",
        "Linear()",
    ),
    layers("gru of rows", "sklearn:digits", "Flatten(1, 2)", "GRU(32)", "LastStep()", "Linear()"),
    layers("rnn of rows", "sklearn:digits", "Flatten(1, 2)", "RNN(32)", "LastStep()", "Linear()"),
    layers("two-way lstm", "sklearn:digits", "Flatten(1, 2)", "LSTM(32, bidirectional=True)", "MeanOverTime()", "Linear()"),
    layers(
        "stacked lstm with dropout",
        "sklearn:digits",
        "Flatten(1, 2)",
        "LSTM(32, num_layers=2, dropout=0.2)",
        "LastStep()",
        "Linear()",
    ),
    layers(
        "transformer encoder",
        "sklearn:digits",
        "Flatten(1, 2)",
        "Linear(32)",
        "TransformerEncoderLayer(nhead=4, dim_feedforward=64)",
        "TransformerEncoderLayer(nhead=4, dim_feedforward=64)",
        "MeanOverTime()",
        "Linear()",
    ),
    layers(
        "attention",
        "sklearn:digits",
        "Flatten(1, 2)",
        "Linear(32)",
        "Residual([MultiheadAttention(num_heads=4)])",
        "LayerNorm()",
        "MeanOverTime()",
        "Linear()",
    ),
    arrays("counts with poisson", counts, layers=MLP, loss="PoissonNLLLoss()"),
    arrays("rates with softplus", counts, layers=[*MLP, "Softplus()"], loss="PoissonNLLLoss(log_input=False)"),
    arrays("several labels", labels, layers=MLP),
    arrays("several labels, soft margin", labels, layers=MLP, loss="MultiLabelSoftMarginLoss()"),
    arrays("a label per step", per_step, layers=["GRU(16)", "Linear()"]),
    arrays(
        "volumes",
        volumes,
        layers=["Conv3d(8, kernel_size=3, padding=1)", "ReLU()", "AdaptiveAvgPool3d(1)", "Flatten()", "Linear()"],
    ),
    arrays(
        "signals",
        signals,
        layout="NCT",
        layers=[
            "Conv1d(16, kernel_size=5, padding=2)",
            "ReLU()",
            "MaxPool1d(2)",
            "Conv1d(32, kernel_size=3, padding=2, dilation=2)",
            "ReLU()",
            "AdaptiveAvgPool1d(1)",
            "Flatten()",
            "Linear()",
        ],
    ),
    arrays("whole codes", codes, layers=["Embedding(16)", "GRU(32)", "LastStep()", "Linear()"]),
    arrays("sequences of many lengths", ragged, layers=["GRU(16)", "LastStep()", "Linear()"]),
    arrays(
        "targets between 0 and 1 with sigmoid",
        lambda: (values()[0], 1 / (1 + np.exp(-values()[1]))),
        layers=[*MLP, "Sigmoid()"],
        loss="MSELoss()",
        preparation={"target_scaling": "none"},
    ),
    arrays(
        "positive targets with relu",
        lambda: (values()[0], np.abs(values()[1]) + 0.5),
        layers=[*MLP, "Softplus()"],
        loss="MSELoss()",
        preparation={"target_scaling": "none"},
    ),
    arrays("own pinball loss", values, layers=MLP, loss=pinball),
    arrays("own focal loss", blobs, layers=MLP, loss=focal),
    arrays("own log-cosh", values, layers=MLP, loss=log_cosh),
    arrays("both squeezed in an own loss", values, layers=MLP, loss=both_squeezed),
    arrays("own dice loss", lambda: blobs(classes=2), layers=MLP, loss=dice, task="binary"),
    arrays("moons", lambda: datasets.make_moons(300, noise=0.2, random_state=0), layers=MLP),
    arrays("circles", lambda: datasets.make_circles(300, noise=0.1, factor=0.5, random_state=0), layers=MLP),
    arrays("friedman", lambda: datasets.make_friedman1(300, random_state=0), layers=MLP),
    arrays(
        "made classes",
        lambda: datasets.make_classification(400, 12, n_informative=6, n_classes=3, random_state=0),
        layers=MLP,
    ),
    arrays("made regression", lambda: datasets.make_regression(300, 10, noise=20.0, random_state=0), layers=MLP),
    arrays("one class in seven", moderately_rare, layers=MLP),
    arrays("a table", frame, target="y"),
    arrays("a table of classes", classed, target="y"),
    arrays("a table with holes, ages and years", holed, target="y"),
    arrays("prices", prices, target="y"),
    arrays("patients kept apart", grouped, target="y", split={"group": "patient_id"}),
    arrays("a series divided by time", dated, target="y", split={"time": "day"}, ignore=["day"]),
    arrays("a table of words", few_words, target="y"),
    arrays("embedded words", frame, target="y", layers=["EmbedColumns()", "Linear(32)", "ReLU()", "Linear()"]),
    made("residual perceptron", own.ResidualPerceptron),
    made("small residual network", own.SmallResNet, pictures),
    made("pre-activated residual network", own.PreActivated, pictures),
    made("mobile blocks", own.MobileBlocks, pictures),
    made("branches that begin at zero", own.ZeroBranches),
    made("head that begins at zero", own.ZeroHead),
    made("scaled residuals", own.ScaledResiduals),
    made("own attention", own.OwnAttention, walks),
    made("vision transformer", own.VisionTransformer, pictures),
    made("mixer", own.Mixer, walks),
    made("gated units", own.Gated),
    made("lstm of one's own", own.LastOfLSTM, walks),
    made("gru with a state of the right size", own.StatedGRU, walks),
    made("noise in training only", own.NoisyTraining),
    made("functional dropout", own.FunctionalDropout),
    made("straight-through estimator", own.StraightThrough),
    made("divides pixels by 255", own.DividesPixels, lambda: pictures(scale=255.0), preparation="none"),
    made("normalises raw columns itself", own.NormalisesItself, lambda: (blobs()[0] * 1000, blobs()[1]), preparation="none"),
    made("buffers", own.WithBuffers),
    made("shared weights", own.SharedWeights),
    made("lists and dictionaries of modules", own.Modules),
    made("squeezes one axis", own.SqueezesOneAxis, pictures),
    made("u-net of signals", own.SmallUNet, signals, layout="NCT"),
    made("dilated convolutions", own.Dilated, signals, layout="NCT"),
    made("mixture of experts", own.Experts),
    made("positions that are learned", own.LearnedPositions, walks),
    made("radial basis", own.RadialBasis, values),
    made("bounded residual of the input", own.SkipToOutput, values),
    made("low rank", own.LowRank),
    made(
        "sequential from Python",
        lambda: nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3)),
        loss=nn.CrossEntropyLoss(),
    ),
    made("an answer without its axis", own.SqueezedAnswer, values),
    made(
        "sequential with sigmoid and bce",
        lambda: nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid()),
        lambda: blobs(classes=2),
        loss=nn.BCELoss(),
    ),
]
