"""Bad input on the command line: the right exit code, one line on stderr that says what came, and nothing written."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shlex
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import safetensors.torch
import torch
from PIL import Image

from netwright.cli import main
from netwright.sources.places import printable

Content = str | bytes | Path | None  # a path: a link to it; None: a folder
Row = tuple[Mapping[str, Content], str, int, tuple[str, ...]]  # files, arguments, exit code, words of the line

HEADER = "length,width,colour,kind"
LINES = [
    HEADER,
    *(f"{row % 7 + 0.5},{row * 1.5},{('red', 'blue')[row % 2]},{('no', 'yes')[row % 3 > 0]}" for row in range(60)),
]
GOOD = "\n".join(LINES) + "\n"


def cell(line: int, column: int, value: str) -> str:
    """The good table with another cell; lines count from 1, as in an editor."""
    lines = [text.split(",") for text in LINES]
    lines[line - 1][column] = value
    return "\n".join(",".join(fields) for fields in lines) + "\n"


def line(number: int, text: str) -> str:
    """The good table with another line."""
    return "\n".join([*LINES[: number - 1], text, *LINES[number:]]) + "\n"


def toml(*settings: str, data: str = 'source = "t.csv"\ntarget = "kind"') -> str:
    return "\n".join(["[data]", data, *settings]) + "\n"


def layers(*texts: str) -> str:
    return toml("[model]", f"layers = {json.dumps(texts)}")


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def parquet(**columns: Any) -> bytes:
    stream = io.BytesIO()
    pa.parquet.write_table(pa.table(columns), stream)
    return stream.getvalue()


class Canary:
    """Makes the folder ``canary`` when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        import os

        return os.mkdir, ("canary",)


PICKLED = pickle.dumps(Canary())
X = np.random.default_rng(0).normal(size=(40, 3))
Y = np.arange(40) % 2
T: dict[str, Content] = {"t.csv": GOOD}
NET = "import torch\nclass Net(torch.nn.Module):\n    def __init__(self, size=4):\n        super().__init__()\n"
NET += "        self.last = torch.nn.Linear(size, 1)\n    def forward(self, x):\n        return self.last(x)\n"
OWN = toml("[model]", 'module = "net.py:Net"')
SYSTEM = "__import__('os').mkdir('canary')"


def own(code: str, config: str = OWN) -> dict[str, Content]:
    return {**T, "net.py": code, "c.toml": config}


def with_forward(body: str) -> dict[str, Content]:
    return own(NET.replace("return self.last(x)", body))


CONFIG: dict[str, Row] = {
    "no such config": ({}, "train c.toml", 2, ("c.toml", "No such file")),
    "a folder as config": ({"c.toml": None}, "train c.toml", 2, ("c.toml", "directory")),
    "no TOML": ({"c.toml": "[data\n"}, "train c.toml", 2, ("c.toml", "no TOML", "line 1")),
    "a config that is no text": ({"c.toml": b"\xff\xfe"}, "train c.toml", 2, ("c.toml", "byte 0")),
    "an unknown section": ({**T, "c.toml": "[traning]\nepochs = 3\n"}, "train c.toml", 2, ("traning", "training")),
    "an unknown key": ({**T, "c.toml": toml("batchsize = 3")}, "train c.toml", 2, ("data.batchsize", "batch_size")),
    "an unknown key of the split": (T, "train t.csv --set data.split.tset=0.2", 2, ("data.split.tset", "test")),
    "two mistakes at once": (
        {**T, "c.toml": toml("batch_size = 0", "sorce = 1")}, "train c.toml", 2, ("batch_size", "sorce"),
    ),
    "a text for a number": ({**T, "c.toml": toml("[training]", 'epochs = "ten"')}, "train c.toml", 2, ("epochs", "'ten'")),
    "a fraction for a whole number": (T, "train t.csv --set training.epochs=1.5", 2, ("training.epochs", "1.5")),
    "a truth value for a number": (T, "train t.csv --set data.batch_size=true", 2, ("data.batch_size", "True")),
    "a number for a section": (T, "train t.csv --set training=3", 2, ("training", "3")),
    "a number for the split": (T, "train t.csv --set data.split=0.3", 2, ("data.split", "0.3")),
    "a number for a layer": (T, "train t.csv --set model.layers=[1]", 2, ("model.layers", "1")),
    "no layers": (T, "train t.csv --set model.layers=[]", 2, ("model", "empty list")),
    "a batch of nothing": (T, "train t.csv --set data.batch_size=0", 2, ("data.batch_size", "0")),
    "epochs below zero": (T, "train t.csv --set training.epochs=-1", 2, ("training.epochs", "-1")),
    "a seed below zero": (T, "train t.csv --set training.seed=-1", 2, ("training.seed", "-1")),
    "a share above one": (T, "train t.csv --target kind --set data.split.test=1.5", 2, ("data.split.test", "1.5")),
    "an infinite share": (T, "train t.csv --target kind --set data.split.test=inf", 2, ("data.split.test", "inf")),
    "a share that is no number": (T, "train t.csv --target kind --set data.split.test=nan", 2, ("data.split.test", "nan")),
    "a share below zero": (T, "train t.csv --target kind --set data.split.valid=-0.1", 2, ("data.split.valid", "-0.1")),
    "an unknown device": (T, "train t.csv --set training.device=gpu", 2, ("training.device", "'gpu'", "cuda")),
    "an unknown layout": (T, "train t.csv --set data.layout=NXC", 2, ("data.layout", "'NXC'")),
    "an unknown kind": (T, "train t.csv --set data.kinds.length=numbr", 2, ("data.kinds.length", "numbr", "number")),
    "a kind for no column": (
        T, "train t.csv --target kind --set data.kinds.lenght=number", 3, ("lenght", "did you mean length?"),
    ),
    "an unknown monitor": (
        T, "train t.csv --target kind --set training.early_stopping.monitor=valid_los", 2, ("valid_los", "valid_loss"),
    ),
    "early stopping without valid": (
        T,
        "train t.csv --target kind --set data.split.valid=0 --set training.early_stopping.patience=3", 2,
        ("early_stopping", "valid"),
    ),
    "two sources": ({**T, "c.toml": toml('train = "t.csv"')}, "train c.toml", 2, ("source", "train")),
    "test without train": ({**T, "c.toml": toml(data='test = "t.csv"')}, "train c.toml", 2, ("data", "without train")),
    "two networks": (
        {**T, "c.toml": toml("[model]", 'layers = ["Linear()"]', 'module = "net.py:Net"')},
        "train c.toml", 2, ("layers", "module"),
    ),
    "no source": ({"c.toml": "[training]\nepochs = 1\n"}, "train c.toml", 2, ("data.source",)),
    "a setting without a value": (T, "train t.csv --set training.epochs", 2, ("training.epochs", "PATH=VALUE")),
    "a setting without a path": (T, "train t.csv --set =5", 2, ("=5", "PATH=VALUE")),
    "a setting that does not exist": (T, "train t.csv --set training.epoch=5", 2, ("training.epoch", "epochs")),
    "a setting below a number": (T, "train t.csv --set training.epochs.more=5", 2, ("training.epochs",)),
    "an argument that does not exist": (T, "train t.csv --set training.optimizer.lrr=1", 2, ("lrr", "lr")),
    "an argument of a layer without layers": (T, "train t.csv --set model.layers.0.p=1", 2, ("model.layers",)),
    "a layer that is not there": ({**T, "c.toml": layers("Linear()")}, "train c.toml --set model.layers.7.p=1", 2, ("'7'",)),
    "an unknown command": (T, "trian t.csv", 2, ("'trian'", "did you mean train?")),
    "an unknown option": (T, "train t.csv --targt kind", 2, ("--targt",)),
    "no argument": ({}, "train", 2, ("CONFIG|DATA",)),
    "an unknown section to show": ({**T, "c.toml": "[modell]\n"}, "show c.toml", 2, ("modell", "model")),
}  # fmt: skip

NETWORK: dict[str, Row] = {
    "an unknown layer": (
        {**T, "c.toml": layers("Linaer(3)", "Linear()")}, "train c.toml", 2, ("layers.0", "'Linaer'", "Linear"),
    ),
    "an unknown layer to show": (
        {**T, "c.toml": layers("Relu()", "Linear()")}, "show c.toml", 2, ("layers.0", "'Relu'", "ReLU"),
    ),
    "an unknown loss": (
        T, "train t.csv --target kind --set training.loss=MSELos()", 2, ("training.loss", "'MSELos'", "MSELoss"),
    ),
    "an engine that cannot run": (
        T, "train t.csv --target kind --set training.engine=captured --set training.optimizer=NAdam()", 2,
        ("training.engine: captured came", "a number is read in the middle of the step", "write auto or eager"),
    ),
    "an engine for a batch in parts": (
        T, "train t.csv --target kind --set training.engine=captured --set training.micro_batch=4", 2,
        ("training.engine: captured came", "a batch in parts"),
    ),
    "an unknown engine": (T, "train t.csv --set training.engine=fast", 2, ("training.engine", "'fast'", "captured")),
    "an unknown precision": (T, "train t.csv --set training.precision=fp16", 2, ("training.precision", "'fp16'", "bfloat16")),
    "no lanes": (T, "train t.csv --set training.lanes=0", 2, ("training.lanes", "0")),
    "an unknown figure": (
        T, "train t.csv --target kind --set training.metrics=cohen_kapa_score", 2, ("cohen_kapa_score", "cohen_kappa_score"),
    ),
    "a step in a config": (T, "train t.csv --target kind --set training.step=mine", 2, ("training.step", "nw.train")),
    "no seconds": (T, "train t.csv --target kind --set training.seconds=0", 2, ("training.seconds", "0")),
    "an unknown optimizer": (T, "train t.csv --target kind --set training.optimizer=Adamm()", 2, ("'Adamm'", "Adam")),
    "a layer without brackets": ({**T, "c.toml": layers("ReLU", "Linear()")}, "train c.toml", 2, ("'ReLU'", "ReLU()")),
    "a layer applied to x": ({**T, "c.toml": layers("ReLU(x)", "Linear()")}, "train c.toml", 2, ("'ReLU(x)'", "ReLU()")),
    "brackets that do not close": ({**T, "c.toml": layers("Linear(3")}, "train c.toml", 2, ("'Linear(3'", "brackets")),
    "a layer with an unknown argument": (
        {**T, "c.toml": layers("Dropout(pp=0.5)", "Linear()")}, "train c.toml", 2, ("Dropout", "'pp'", "did you mean p?"),
    ),
    "a layer of an impossible size": ({**T, "c.toml": layers("Linear(-3)", "Linear()")}, "train c.toml", 2, ("Linear(-3)",)),
    "a dropout above one": ({**T, "c.toml": layers("Dropout(1.5)", "Linear()")}, "train c.toml", 2, ("Dropout(1.5)",)),
    "an optimizer with a rate below zero": (
        T, "train t.csv --target kind --set training.optimizer=SGD(lr=-1)", 2, ("training.optimizer", "-1"),
    ),
    "an optimizer with a text": (
        T, "train t.csv --target kind --set training.optimizer=SGD(lr='x')", 2, ("optimizer", "'x'"),
    ),
    "shapes that do not meet": (
        {**T, "c.toml": layers("Linear(8)", "Linear(9, 4)", "Linear()")}, "train c.toml", 2,
        ("model.layers.1", "Linear(9, 4)", "expects 9 features", "layer 0 Linear(8) gives (N, 8)"),
    ),
    "an image layer for a table": (
        {**T, "c.toml": layers("Conv2d(8, 3)", "Flatten()", "Linear()")},
        "train c.toml", 2, ("Conv2d(8, 3)", "the data give"),
    ),
    "another number of outputs than classes": (
        {**T, "c.toml": layers("Linear(8)", "ReLU()", "Linear(5)")}, "train c.toml", 2, ("(N, 5)", "yes-no", "(N, 1)"),
    ),
    "a loss of numbers for classes": (
        T, "train t.csv --target kind --set training.loss=MSELoss()", 2, ("MSELoss", "binary", "BCEWithLogitsLoss"),
    ),
    "a loss of classes for numbers": (
        T,
        "train t.csv --target width --set training.loss=CrossEntropyLoss()", 2,
        ("CrossEntropyLoss", "regression", "MSELoss"),
    ),
    "a reduction": (
        T, "train t.csv --target kind --set training.loss=BCELoss(reduction='sum')", 2, ("BCELoss", "reduction"),
    ),
    "weights of another number than classes": (
        T, "train t.csv --target kind --set training.loss=CrossEntropyLoss(weight=[1,2,3])", 2, ("weight", "3", "2"),
    ),
    "own code that was not named": (
        own(NET), "train c.toml", 8, ("net.py:Net", "never runs code", "netwright train c.toml --code", "net.py"),
    ),
    "own code to show that was not named": (own(NET), "show c.toml", 8, ("net.py:Net", "--code")),
    "other code named": ({**own(NET), "o.py": ""}, "train c.toml --code o.py", 8, ("net.py:Net", "--code")),
    "own code that is not there": ({**T, "c.toml": OWN}, "train c.toml --code net.py", 2, ("net.py", "no such file")),
    "own code with a slip": (own("class Net(:\n"), "train c.toml --code net.py", 2, ("net.py", "SyntaxError")),
    "own code that fails": (own("1 / 0\n"), "train c.toml --code net.py", 2, ("net.py", "ZeroDivisionError")),
    "own code that fails in two lines": (
        own("raise ValueError('a\\nb')\n"), "train c.toml --code net.py", 2, ("net.py", "a b"),
    ),
    "own code that leaves": (own("import sys\nsys.exit(0)\n"), "train c.toml --code net.py", 2, ("net.py", "SystemExit")),
    "another class": (own(NET.replace("Net(", "Nett(")), "train c.toml --code net.py", 2, ("'Net'", "did you mean Nett?")),
    "a class that is no module": (own("class Net:\n    pass\n"), "train c.toml --code net.py", 2, ("net.py", "'Net'")),
    "another argument": (
        own(NET, OWN + "arguments = { sise = 3 }\n"), "train c.toml --code net.py", 2, ("model.arguments", "sise", "size"),
    ),
    "a constructor that fails": (
        own(NET, OWN + "arguments = { size = -3 }\n"), "train c.toml --code net.py", 2, ("Net", "-3"),
    ),
    "a forward that fails": (with_forward("raise KeyError('gone')"), "train c.toml --code net.py", 2, ("KeyError", "gone")),
    "a forward of another size": (own(NET, OWN + "arguments = { size = 9 }\n"), "train c.toml --code net.py", 2, ("9", "4")),
    "a forward that gives two tensors": (with_forward("return x, x"), "train c.toml --code net.py", 2, ("tuple",)),
    "a forward that gives other rows": (
        with_forward("return self.last(x)[:1]"), "train c.toml --code net.py", 2, ("(1, 1)", "(8, 1)"),
    ),
    "a forward of three outputs": (with_forward("return x[:, :3]"), "train c.toml --code net.py", 2, ("(N, 3)", "(N, 1)")),
    "a module that is no file": (
        {**T, "c.toml": toml("[model]", 'module = "os:Net"')}, "train c.toml", 2, ("os:Net", ".py"),
    ),
    "code in a layer": (
        {**T, "c.toml": layers(f"Linear({SYSTEM})", "Linear()")}, "train c.toml", 8, ("model.layers.0", "mkdir"),
    ),
    "code as a layer": ({**T, "c.toml": layers(SYSTEM, "Linear()")}, "train c.toml", 8, ("model.layers.0", "mkdir")),
    "code in a layer to show": ({**T, "c.toml": layers(f"Linear({SYSTEM})")}, "show c.toml", 8, ("model.layers.0", "mkdir")),
    "code in a nested layer": (
        {**T, "c.toml": layers(f"Sequential([Linear({SYSTEM})])", "Linear()")},
        "train c.toml", 8, ("model.layers.0", "mkdir"),
    ),
    "code in a comprehension": (
        {**T, "c.toml": layers(f"Linear([{SYSTEM} for _ in (1,)])", "Linear()")},
        "train c.toml", 8, ("model.layers.0", "mkdir"),
    ),
    "code in the optimizer": (
        {**T, "c.toml": toml("[training]", f'optimizer = "SGD(lr={SYSTEM})"')}, "train c.toml", 8, ("optimizer", "mkdir"),
    ),
    "code in the loss": ({**T, "c.toml": toml("[training]", f'loss = "{SYSTEM}"')}, "train c.toml", 8, ("loss", "mkdir")),
    "code in a setting": (T, f'train t.csv --set "training.optimizer=SGD(lr={SYSTEM})"', 8, ("optimizer", "mkdir")),
    "a name of many parts": ({**T, "c.toml": layers("os.system('ls')")}, "train c.toml", 8, ("os.system",)),
}  # fmt: skip

DATA: dict[str, Row] = {
    "no such file": ({}, "train gone.csv --target y", 3, ("gone.csv", "no such file")),
    "a folder instead of a file": ({"d.csv": None}, "train d.csv --target y", 3, ("d.csv", "a folder came")),
    "an unknown ending": ({"t.xyz": GOOD}, "train t.xyz --target kind", 3, ("t.xyz", "'.xyz'", ".csv")),
    "an empty file": ({"t.csv": ""}, "train t.csv --target kind", 3, ("t.csv", "no rows")),
    "a header alone": ({"t.csv": HEADER + "\n"}, "train t.csv --target kind", 3, ("t.csv", "no rows")),
    "an unknown set": ({}, "train sklearn:irsi", 2, ("sklearn:irsi", "iris")),
    "a target that is not there": (T, "train t.csv --target kinds", 3, ("t.csv", "'kinds'", "did you mean kind?")),
    "no target": (T, "train t.csv", 2, ("data.target", "length, width, colour, kind", "--target")),
    "a text in a number column": (
        {"t.csv": cell(17, 1, "wide")}, "train t.csv --target kind", 3, ("t.csv:17:", "'width'", "'wide'", "missing_values"),
    ),
    "a text in the number column of a file with blank lines": (
        {"t.csv": "\n" + cell(17, 1, "wide")}, "train t.csv --target kind", 3, ("t.csv:18:", "'width'", "'wide'"),
    ),
    "two texts in a number column": (
        {"t.csv": cell(17, 1, "wide").replace("\n5.5,", "\nlong,", 1)},
        "train t.csv --target kind", 3, ("t.csv:7:", "'long'"),
    ),
    "an infinite number": ({"t.csv": cell(9, 0, "inf")}, "train t.csv --target kind", 3, ("t.csv:9:", "'length'", "'inf'")),
    "a number beyond float32": (
        {"t.csv": cell(9, 0, "1e39")}, "train t.csv --target kind", 3, ("t.csv:9:", "'length'", "'1e39'"),
    ),
    "a 2 among labels of 0 and 1": (
        {"t.csv": "x,a,b\n" + "1.5,0,1\n2.5,1,0\n" * 20 + "3.5,2,1\n"},
        "train t.csv --target a --target b --set data.task=multilabel", 3, ("t.csv:42:", "'a'", "2 came", "0 or 1"),
    ),
    "classes in two columns": (
        T, "train t.csv --target kind --target colour --set data.task=multiclass", 3, ("2 columns of classes", "0 and 1"),
    ),
    "a separator of labels in two columns": (
        T, "train t.csv --target kind --target colour --set data.label_separator=;", 2, ("label_separator", "';'", "'kind'"),
    ),
    "a fraction among counts": (
        T, "train t.csv --target width --set training.loss=PoissonNLLLoss()", 3, ("t.csv:3:", "'width'", "1.5 is no count"),
    ),
    "a target beyond float32": (
        {"t.csv": cell(9, 1, "-1e39")}, "train t.csv --target width", 3, ("t.csv:9:", "'width'", "-1e+39"),
    ),
    "a missing target": ({"t.csv": cell(5, 3, "")}, "train t.csv --target kind", 3, ("t.csv:5:", "'kind'", "missing")),
    "a target that is no number": (
        {"t.csv": cell(5, 1, "nan")}, "train t.csv --target width", 3, ("t.csv:5:", "'width'", "missing"),
    ),
    "a text in a target of numbers": (
        {"t.csv": cell(5, 1, "wide")},
        "train t.csv --target width --set data.task=regression", 3, ("t.csv:5:", "'width'", "'wide'"),
    ),
    "a missing cell where none may be": (
        {"t.csv": cell(6, 0, "?")},
        "train t.csv --target kind --set data.missing=error", 3, ("t.csv:6:", "'length'", "1 such"),
    ),
    "a day that is none": (
        {"t.csv": "day,y\n" + "".join(f"2024-01-{1 + row % 28:02},{row % 2}\n" for row in range(39)) + "2024-02-30,1\n"},
        "train t.csv --target y", 3, ("t.csv:41:", "'day'", "'2024-02-30'"),
    ),
    "a line with too many fields": (
        {"t.csv": line(12, "1,2,red,yes,5")}, "train t.csv --target kind", 3, ("t.csv:12:", "5", "4"),
    ),
    "a line with too few fields": ({"t.csv": line(12, "1,2")}, "train t.csv --target kind", 3, ("t.csv:12:", "2", "4")),
    "a quote that does not close": ({"t.csv": line(12, '1,2,"red,yes')}, "train t.csv --target kind", 3, ("t.csv",)),
    "one huge line": ({"t.csv": 'a,"' + "x" * 200_000 + '"\n1,2\n'}, "train t.csv --target a", 3, ("t.csv",)),
    "the same name twice": (
        {"t.csv": GOOD.replace("width", "length")}, "train t.csv --target kind", 3, ("'length'", "twice"),
    ),
    "the same name twice in the config": (
        {"t.csv": "1,2\n3,4\n"}, "train t.csv --target a --set \"data.columns=['a','a']\"", 2, ("data.columns", "'a'"),
    ),
    "names that are too few": (
        {"t.csv": "1,2\n3,4\n"}, "train t.csv --target a --set \"data.columns=['a']\"", 3, ("t.csv:1:", "2", "1"),
    ),
    "no header": ({"t.csv": "1,2\n3,4\n"}, "train t.csv --target a", 3, ("t.csv:1:", "1, 2", "data.header")),
    "one class": (
        {"t.csv": GOOD.replace("no", "yes")}, "train t.csv --target kind", 3, ("t.csv", "'kind'", "one class", "'yes'"),
    ),
    "fewer rows than the split needs": (
        {"t.csv": "\n".join(LINES[:3])}, "train t.csv --target kind", 3, ("data.split", "2 rows"),
    ),
    "sizes that leave nobody": (
        T, "train t.csv --target kind --set data.split.test=30 --set data.split.valid=30", 3, ("60 rows", "30"),
    ),
    "a class too small to keep its share": (
        {"t.csv": cell(5, 3, "maybe")}, "train t.csv --target kind --set data.split.stratify=true", 3, ("1 row", "stratif"),
    ),
    "shares of classes for numbers": (
        T, "train t.csv --target width --set data.split.stratify=true", 2, ("stratify", "numbers"),
    ),
    "an unknown group": (
        T, "train t.csv --target kind --set data.split.group=color", 3, ("'color'", "did you mean colour?"),
    ),
    "too few groups": (T, "train t.csv --target kind --set data.split.group=colour", 3, ("data.split.group", "2 group")),
    "an unknown time": (T, "train t.csv --target kind --set data.split.time=widht", 3, ("'widht'", "did you mean width?")),
    "a missing time": (
        {"t.csv": cell(8, 1, "")}, "train t.csv --target kind --set data.split.time=width", 3, ("t.csv:8:", "'width'"),
    ),
    "times of which nobody knows the order": (
        {"t.csv": "day,x,y\n" + "".join(f"{1 + row % 28}/{1 + row % 12}/2024,{row * 0.5},{row % 2}\n" for row in range(60))},
        "train t.csv --target y --set data.split.time=day", 3, ("'day'", "1/1/2024"),
    ),
    "row numbers beyond the end": (
        T, "train t.csv --target kind --set data.split.test=[1,60]", 3, ("data.split.test", "60", "59"),
    ),
    "row numbers in two parts": (
        T,
        "train t.csv --target kind --set data.split.test=[1,2] --set data.split.valid=[2,3]", 3, ("row 2", "valid", "test"),
    ),
    "row numbers in no file": (
        T, "train t.csv --target kind --set data.split.test=rows", 2, ("data.split.test", "'rows'", "file"),
    ),
    "a file of row numbers that is not there": (
        T, "train t.csv --target kind --set data.split.file=s.npz --set data.split.test=test", 3, ("s.npz",),
    ),
    "a new class in a file of test rows": (
        {**T, "u.csv": "\n".join([*LINES[:4], "1.5,2,red,maybe"]),
         "c.toml": toml(data='train = "t.csv"\ntest = "u.csv"\ntarget = "kind"')}
        ,
        "train c.toml", 3, ("u.csv:5:", "'kind'", "'maybe'"),
    ),
    "a file of test rows without a column": (
        {**T, "u.csv": "length,kind\n1,no\n", "c.toml": toml(data='train = "t.csv"\ntest = "u.csv"\ntarget = "kind"')},
        "train c.toml", 3, ("u.csv", "'width'", "t.csv"),
    ),
    "an input that is the target": (
        T, "train t.csv --target kind --set \"data.inputs=['kind','width']\"", 2, ("data.inputs", "'kind'"),
    ),
    "an input that is not there": (T, "train t.csv --target kind --set \"data.inputs=['wdith']\"", 3, ("'wdith'", "width")),
    "a column to ignore that is not there": (
        T, "train t.csv --target kind --set \"data.ignore=['colr']\"", 3, ("'colr'", "colour"),
    ),
    "nothing to learn from": (
        T, "train t.csv --target kind --set \"data.ignore=['length','width','colour']\"", 3, ("t.csv", "no column is left"),
    ),
    "free text": (
        {"t.csv": "review,y\n" + "".join(f"word{row} and more words here,{row % 2}\n" for row in range(60))},
        "train t.csv --target y", 3, ("'review'", "free text", """--set 'data.ignore=["review"]'"""),
    ),
    "thousands marks": (
        {"t.csv": "x;y\n" + "".join(f'"1,{row:03}.5";{row % 2}\n' for row in range(60))},
        "train t.csv --target y", 3, ("'x'", "1,0"),
    ),
    "slash dates": (
        {"t.csv": "day,x,y\n" + "".join(f"{1 + row % 28}/{1 + row % 12}/2024,{row * 0.5},{row % 2}\n" for row in range(60))},
        "train t.csv --target y", 3, ("t.csv", "'day'", "1/1/2024", "2024-01-31", "category", "data.ignore"),
    ),
    "dates with points and decimal commas": (
        {"t.csv": "day;x;y\n" + "".join(f"{1 + row % 28}.{1 + row % 12}.2024;{row},5;{row % 2}\n" for row in range(60))},
        "train t.csv --target y --set data.decimal=,", 3, ("t.csv", "'day'", "1.1.2024", "2024-01-31"),
    ),
    "a thousands mark among numbers": (
        {"t.csv": cell(9, 0, "1,500").replace("1,500", '"1,500"')},
        "train t.csv --target kind", 3, ("t.csv:9:", "'1,500'", 'data.thousands = ","'),
    ),
    "a target of money": (
        {"t.csv": "x,y\n" + "".join(f'{row % 7}.5,"${row + 100},000"\n' for row in range(60))},
        "train t.csv --target y", 3, ("t.csv:2:", "'y'", "'$100,000'", "currency"),
    ),
    "a target with decimal commas": (
        {"t.csv": "x;y\n" + "".join(f"{row % 7}.5;{row},5\n" for row in range(60))},
        "train t.csv --target y", 3, ("t.csv:2:", "'y'", "'0,5'", 'data.decimal = ","'),
    ),
    "only identifiers": (
        {"t.csv": "who,y\n" + "".join(f"user{row},{row % 2}\n" for row in range(60))},
        "train t.csv --target y", 3, ("t.csv", "no column is left", "'who' looks like an identifier"),
    ),
    "a sheet": ({"t.xlsx": b"PK"}, "train t.xlsx --target y", 3, ("t.xlsx", "cannot be read", "an Excel file")),
    "an address": ({}, "train s3://bucket/t.csv --target y", 3, ("s3://bucket/t.csv", "download the file")),
    "another encoding": (
        {"t.csv": GOOD.replace("red", "röt").encode("latin-1")}, "train t.csv --target kind", 3, ("t.csv", "latin-1"),
    ),
    "utf-16": ({"t.csv": GOOD.encode("utf-16")}, "train t.csv --target kind", 3, ("0xff", "data.encoding, for instance utf-16")),
    "an unknown encoding": (T, "train t.csv --target kind --set data.encoding=klingon", 3, ("'klingon'",)),
    "an encoding with another start": (T, "train t.csv --target kind --set data.encoding=utf-16", 3, ("t.csv", "utf-16")),
    "a delimiter of two characters": (T, "train t.csv --target kind --set data.delimiter=;;", 2, ("data.delimiter", "';;'")),
    "a delimiter that is no byte": (T, "train t.csv --target kind --set data.delimiter=§", 2, ("data.delimiter", "§")),
    "a quote as delimiter": (T, "train t.csv --target kind --set data.delimiter='\"'", 2, ("data.delimiter", '"')),
    "a line end as delimiter": (
        {**T, "c.toml": toml('delimiter = "\\n"')}, "train c.toml", 2, ("data.delimiter",),
    ),
    "a name of no file": ({"c.toml": toml(data='source = "a\\u0000b.csv"\ntarget = "y"')}, "train c.toml", 3, ("b.csv",)),
    "JSON that is none": ({"t.jsonl": "{"}, "train t.jsonl --target y", 3, ("t.jsonl", "cannot be read")),
    "JSON with nested columns": (
        {"t.jsonl": '{"x": {"a": 1}, "y": 0}\n{"x": {"a": 2}, "y": 1}\n' * 9},
        "train t.jsonl --target y", 3, ("'x'", "struct"),
    ),
    "JSON with a nested target": (
        {"t.jsonl": '{"x": 1.5, "y": [[0]]}\n{"x": 2.5, "y": [[1]]}\n' * 9},
        "train t.jsonl --target y", 3, ("'y'", "lists of list"),
    ),
    "Parquet that was cut off": (
        {"t.parquet": parquet(x=[1.5, 2.5], y=[0, 1])[:-20]},
        "train t.parquet --target y", 3, ("t.parquet", "cannot be read"),
    ),
    "Parquet of many dates as target": (
        {"t.parquet": parquet(x=[1.5, 2.5] * 15, y=pa.array(range(30), pa.date32()))},
        "train t.parquet --target y", 3, ("'y'", "30 different dates"),
    ),
    "Parquet of durations": (
        {"t.parquet": parquet(x=pa.array([5, 7] * 9, pa.duration("s")), y=[0, 1] * 9)},
        "train t.parquet --target y", 3, ("'x'", "duration"),
    ),
    "an infinite number in Parquet": (
        {"t.parquet": parquet(x=[1.5, 2.5, np.inf, 4.5], y=[0, 1, 0, 1])},
        "train t.parquet --target y", 3, ("t.parquet: row 3", "'x'", "inf"),
    ),
}  # fmt: skip

ARRAYS: dict[str, Row] = {
    "a byte in a series that is no UTF-8": (
        {"t.ts": b"@classLabel true a b\n@data\n1,2:a\n\xa7,4:b\n"}, "train t.ts", 3, ("t.ts", "0xa7", "expected UTF-8"),
    ),
    "an npz that is none": ({"t.npz": b"hello"}, "train t.npz", 3, ("t.npz", "cannot be read")),
    "an npz that was cut off": ({"t.npz": npz(X=X, y=Y)[:300]}, "train t.npz", 3, ("t.npz", "cannot be read")),
    "a pickle": ({"t.npz": PICKLED}, "train t.npz", 3, ("t.npz",)),
    "a pickled array": ({"t.npz": npz(X=X, y=np.array([Canary()] * 40))}, "train t.npz", 8, ("t.npz", "'y'", "pickled")),
    "a pickled array beside the others": (
        {"t.npz": npz(X=X, y=Y, more=np.array([Canary()]))}, "train t.npz", 8, ("t.npz", "'more'", "pickled"),
    ),
    "a pickled npy": (
        {"t.npy": npy(np.array([Canary()])), "y.npy": npy(Y)}, "train t.npy --target y.npy", 8, ("t.npy", "pickled"),
    ),
    "other lengths": ({"t.npz": npz(X=X, y=Y[:39])}, "train t.npz", 3, ("t.npz", "'y'", "(39,)", "(40, 3)")),
    "other lengths of two files": (
        {"t.npy": npy(X), "y.npy": npy(Y[:39])}, "train t.npy --target y.npy", 3, ("t.npy", "(39,)", "(40, 3)"),
    ),
    "no target": ({"t.npz": npz(a=X)}, "train t.npz", 3, ("t.npz", "no target", "a")),
    "two inputs": ({"t.npz": npz(a=X, b=X, y=Y)}, "train t.npz", 3, ("t.npz", "a, b", "data.inputs")),
    "an unknown array": ({"t.npz": npz(X=X, label=Y)}, "train t.npz --target lable", 3, ("'lable'", "did you mean label?")),
    "rows of nothing": ({"t.npz": npz(X=X[:, :0], y=Y)}, "train t.npz", 3, ("t.npz", "(40, 0)")),
    "no rows": ({"t.npz": npz(X=X[:0], y=Y[:0])}, "train t.npz", 3, ("t.npz", "(0, 3)")),
    "texts": ({"t.npz": npz(X=X.astype(str), y=Y)}, "train t.npz", 3, ("t.npz", "'X'", "expected numbers")),
    "complex numbers": ({"t.npz": npz(X=X * 1j, y=Y)}, "train t.npz", 3, ("t.npz", "'X'", "complex128")),
    "an infinite number": (
        {"t.npz": npz(X=np.where(np.arange(120).reshape(40, 3) == 7, np.inf, X), y=Y)},
        "train t.npz", 3, ("row 3", "'X'", "[1]"),
    ),
    "a target that is no number": (
        {"t.npz": npz(X=X, y=np.where(np.arange(40) == 4, np.nan, 0.5))}, "train t.npz", 3, ("t.npz: row 5", "missing"),
    ),
    "a target of three axes": ({"t.npz": npz(X=X, y=np.zeros((40, 2, 2)))}, "train t.npz", 3, ("t.npz", "(40, 2, 2)")),
    "one class": ({"t.npz": npz(X=X, y=Y * 0)}, "train t.npz", 3, ("one class", "0")),
    "a layout of other axes": ({"t.npz": npz(X=X, y=Y)}, "train t.npz --set data.layout=NCHW", 3, ("NCHW", "2 axes")),
    "quantiles of arrays": (
        {"t.npz": npz(X=X, y=Y)}, "train t.npz --set data.preparation.numbers=quantile", 2, ("quantile", "tables"),
    ),
    "images without labels": (
        {"t-images-idx3-ubyte": b"\0\0\x08\x03" + b"\0\0\0\x01" * 3 + b"a"}, "train t-images-idx3-ubyte", 3, ("label",),
    ),
}  # fmt: skip


def image(seed: int, form: str = "PNG") -> bytes:
    """A picture of noise, which packing makes no smaller."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 24), np.uint8)).save(stream, form)
    return stream.getvalue()


def zipped(files: Mapping[str, Content]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            assert isinstance(content, bytes | str)
            archive.writestr(name, content)
    return stream.getvalue()


def bomb(side: int) -> bytes:
    """The head of a PNG file of ``side`` x ``side`` pixels, and no pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    length, check = struct.pack(">I", 13), struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + length + head + check + struct.pack(">I", 0) + b"IDAT" + b"\0" * 8


PICTURES: dict[str, Content] = {f"d/{'ab'[row % 2]}/{row:02}.png": image(row) for row in range(20)}
NAMED: dict[str, Content] = {name.replace("d/", ""): content for name, content in PICTURES.items()}
PATHS = "file,y\n" + "".join(f"{name},{row % 2}\n" for row, name in enumerate(NAMED))
ODD = {
    "a new line": "x\ny",
    "a quote": 'x"y',
    "a mark of direction": "x\u200fy",
    "bytes that are no UTF-8": os.fsdecode(b"x\xff"),
}
IMAGES: dict[str, Row] = {
    "an archive of another version": (
        {"t.zip": zipped({"a/1.png": b"x"}).replace(b"PK\1\2\x14\x03\x14", b"PK\1\2\x14\x03\x99")}, "train t.zip", 3, ("t.zip",),
    ),
    "an image that was cut off": (
        {**PICTURES, "d/b/41.png": image(41)[:300]}, "train d", 3, ("d/b/41.png: ", "truncated", "bad_images"),
    ),
    "an empty image": ({**PICTURES, "d/b/41.png": b""}, "train d", 3, ("d/b/41.png: 0 bytes",)),
    "an image that is none": ({**PICTURES, "d/b/41.png": "text"}, "train d", 3, ("d/b/41.png: no image",)),
    "an image of another ending": (
        {**PICTURES, "d/b/41.jpg": image(41)}, "train d", 3, ("d/b/41.jpg: its content is PNG", "'.jpg'"),
    ),
    "three damaged images": (
        {**PICTURES, "d/a/41.png": image(41)[:300], "d/b/42.png": b"", "d/b/43.jpg": image(43)},
        "train d", 3, ("d/a/41.png: ", "3 of 23 images are damaged"),
    ),
    "more damaged images than may be left out": (
        {**PICTURES, "d/b/41.png": b""}, "train d --set data.bad_images=skip", 3, ("d/b/41.png: 0 bytes", "more than 1%"),
    ),
    "a damaged image of an archive": (
        {"d.zip": zipped({**NAMED, "b/41.png": image(41)[:300]})}, "train d.zip", 3, ("d.zip/b/41.png: ", "truncated"),
    ),
    "an image of too many pixels": (
        {**PICTURES, "d/b/41.png": bomb(60_000)}, "train d", 8, ("d/b/41.png: 3600000000 pixels", "at most"),
    ),
    "an image of twice as many pixels as are read": (
        {**PICTURES, "d/b/41.png": bomb(10_000)}, "train d", 8, ("d/b/41.png: 100000000 pixels", "at most"),
    ),
    "an image of too many pixels where damage is skipped": (
        {**PICTURES, "d/b/41.png": bomb(60_000)},
        "train d --set data.bad_images=skip", 8, ("d/b/41.png: 3600000000 pixels",),
    ),
    "an empty class folder": ({**PICTURES, "d/c": None}, "train d", 3, ("d/c: no images", "remove the folder")),
    "a class folder without images": ({**PICTURES, "d/c/.DS_Store": "x"}, "train d", 3, ("d/c: no images",)),
    "one number to learn": (
        {"t.csv": "a,y\n" + "".join(f"{row % 7},3.5\n" for row in range(40))},
        "train t.csv --target y",
        3,
        ("t.csv", "'y' holds one value only (3.5, 24 train rows)", "choose another target"),
    ),
    "one class folder": ({"d/a/1.png": image(1), "d/a/2.png": image(2)}, "train d", 3, ("one class only", "'a', 2 rows")),
    "no class folders": ({"d/1.png": image(1)}, "train d", 3, ("d: no class folders", "data.images")),
    "an image to train on": ({"1.png": image(1)}, "train 1.png", 3, ("1.png: one image came",)),
    "test images without train images": ({"d/test/a/1.png": image(1)}, "train d", 3, ("folders test came", "train")),
    "a class of the test images alone": (
        {**{name.replace("d/", "d/train/"): content for name, content in PICTURES.items()}, "d/test/c/1.png": image(1)},
        "train d", 3, ("d/test/c/1.png: ", "'c'"),
    ),
    "a link out of the folder": (
        {**PICTURES, "out.png": image(1), "d/b/41.png": Path("../../out.png")}, "train d", 8, ("d/b/41.png: a link out of",),
    ),
    "a folder that is a link out": ({**PICTURES, "out/1.png": image(1), "d/c": Path("../out")}, "train d", 8, ("d/c: a link",)),
    "a link to the folder above": ({**PICTURES, "d/b/c": Path("..")}, "train d", 3, ("d/b/c: a link back to",)),
    "a link to itself": ({**PICTURES, "d/b/c.png": Path("c.png")}, "train d", 3, ("d/b/c.png: a link that leads nowhere",)),
    **{
        f"a damaged image whose name holds {what}": (
            {**PICTURES, f"d/b/{name}.png": b""}, "train d", 3, (f"d/b/{printable(name)}.png: 0 bytes",),
        )
        for what, name in ODD.items()
    },
    "a size that is none": (PICTURES, "train d --set data.image_size=[0,3]", 2, ("data.image_size", "[0, 3]")),
    "a mode that is none": (PICTURES, "train d --set data.image_mode=gray", 2, ("data.image_mode", "'gray'", "grey")),
    "a window over images": (PICTURES, "train d --set data.window=3", 2, ("data.window", "images came")),
    "axes that images have not": (PICTURES, "train d --set data.layout=NCHW", 2, ("data.layout", "NCHW", "NHW")),
    "no column of paths": (
        {**NAMED, "t.csv": PATHS}, "train t.csv --target y --set data.images=path", 3, ("t.csv", "'path'", "file, y"),
    ),
    "a path without a file": (
        {**NAMED, "t.csv": PATHS.replace("b/03", "b/99")},
        "train t.csv --target y --set data.images=file", 3, ("t.csv:5:", "'file'", "'b/99.png'"),
    ),
    "a path out of the folder": (
        {**NAMED, "t.csv": PATHS.replace("b/03", "../03")},
        "train t.csv --target y --set data.images=file", 8, ("t.csv:5:", "'../03.png'", "leads out"),
    ),
    "a missing label of an image": (
        {**NAMED, "t.csv": PATHS.replace("b/03.png,1", "b/03.png,")},
        "train t.csv --target y --set data.images=file", 3, ("t.csv:5:", "'y'", "missing"),
    ),
}  # fmt: skip

PLACE: dict[str, Row] = {
    "a run folder that exists": (
        {**T, "mine": None}, "train t.csv --target kind --run-dir mine", 7, ("mine", "exists already"),
    ),
    "a run folder that is a file": (
        {**T, "mine": "x"}, "train t.csv --target kind --run-dir mine", 7, ("mine", "exists already"),
    ),
    "a run folder inside a file": ({**T, "mine": "x"}, "train t.csv --target kind --run-dir mine/run", 6, ("mine",)),
    "a run folder of no name": (T, "train t.csv --target kind --run-dir ''", 2, ("--run-dir", "''")),
    "a run folder that goes up": (T, "train t.csv --target kind --run-dir ..", 2, ("--run-dir", "'..'")),
    "a run folder of a strange name": (T, "train t.csv --target kind --run-dir 'a b;c'", 2, ("--run-dir", "'a b;c'")),
    "a drawing in a folder that is not there": (T, "show t.csv --target kind --svg gone/a.svg", 6, ("gone/a.svg",)),
    "runs of a folder that is not there": ({}, "runs gone", 2, ("gone", "no such folder")),
    "a report of a folder that is no run": ({"d": None}, "report d", 4, ("d", "run.json")),
    "a test of a folder that is no run": ({"d": None}, "test d", 4, ("d", "no run", "run.json")),
    "a test of a folder that is not there": ({}, "test gone", 4, ("gone", "no run")),
    "predictions of a file": (T, "predict t.csv t.csv", 4, ("t.csv", "no run")),
}  # fmt: skip


def hdf5(fill: Callable[[Any], None]) -> bytes:
    """The bytes of an HDF5 file."""
    h5py = pytest.importorskip("h5py")
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        fill(file)
    return stream.getvalue()


def linked(file: Any) -> None:
    import h5py

    file["X"], file["y"] = h5py.ExternalLink("other.h5", "/X"), Y


def lost(file: Any) -> None:
    import h5py

    file["X"], file["y"] = h5py.SoftLink("/../gone"), Y


def virtual(file: Any) -> None:
    import h5py

    layout = h5py.VirtualLayout((40, 3), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "X", (40, 3))
    file.create_virtual_dataset("X", layout)
    file["y"] = Y


def huge(file: Any) -> None:
    file.create_dataset("X", shape=(2**40, 1024), dtype="f8", chunks=(1, 1024))
    file["y"] = Y


def plain(file: Any) -> None:
    file["data/X"], file["data/y"] = X, Y


def archived(**members: str | bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return stream.getvalue()


def declared(shape: str) -> bytes:
    """An array file whose header declares a shape, and that holds nothing."""
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (118 - len(head) - 1) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode()


def member(name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, npy(X))
        archive.writestr("y.npy", npy(Y))
    return stream.getvalue()


STEPS = "walk,t,a,door\n" + "".join(
    f"{place // 5},{place % 5},{place * 0.1:.1f},{'lr'[place // 5 % 2]}\n" for place in range(60)
)
SERIES = "day,y\n" + "".join(f"2024-{1 + place // 28:02d}-{1 + place % 28:02d},{place % 9}\n" for place in range(80))
S: dict[str, Content] = {"s.csv": SERIES}
W: dict[str, Content] = {"w.csv": STEPS}

RAGGED = "walk,a,door\n" + "".join(f"{walk},{step},{'lr'[walk % 2]}\n" for walk in range(20) for step in range(3 + walk % 4))
BATCH_NORM = "['Conv1d(4, 3)', 'BatchNorm1d()', 'AdaptiveAvgPool1d(1)', 'Flatten()', 'Linear()']"

CONTAINERS: dict[str, Row] = {
    "a NUL byte": ({"t.csv": cell(7, 2, "re\0d")}, "train t.csv --target kind", 3, ("t.csv:7", "NUL", "data.encoding")),
    "a line of a million columns": (
        {"t.csv": ",".join("a" * 10**6) + "\n"},
        "train t.csv --target a",
        3,
        ("1000000 fields",),
    ),
    "a field of 40 MB": (
        {"t.csv": 'a,b\n1,"' + "x" * 40_000_000 + '"\n'},
        "train t.csv --target a",
        3,
        ("t.csv:2", "16777216"),
    ),
    "an encoded Parquet": ({"t.parquet": b"PARE" + b"\0" * 40 + b"PARE"}, "train t.parquet --target y", 3, ("t.parquet",)),
    "Parquet without rows": (
        {"t.parquet": parquet(x=pa.array([], pa.int64()))},
        "train t.parquet --target x",
        3,
        ("no rows",),
    ),
    "Parquet without an answer": (
        {"t.parquet": parquet(x=[1.0, 2.0] * 20, y=[*([0, 1] * 19), None, 1])},
        "train t.parquet --target y",
        3,
        ("t.parquet: row 39", "'y'", "missing"),
    ),
    "an array of 2**50 numbers": (
        {"t.npz": archived(X_npy=declared("(1125899906842624,)"), y_npy=npy(Y))},
        "train t.npz",
        8,
        ("'X'", "declared"),
    ),
    "an npy of 2**50 numbers": (
        {"t.npy": declared("(1125899906842624, 3)"), "y.npy": npy(Y)},
        "train t.npy --target y.npy",
        8,
        ("t.npy", "declared"),
    ),
    "an array that climbs out": ({"t.npz": member("../../x.npy")}, "train t.npz", 8, ("t.npz", "../../x.npy")),
    "a link into another file": ({"t.h5": hdf5(linked)}, "train t.h5", 8, ("t.h5", "'X'", "other.h5")),
    "a link to nothing": ({"t.h5": hdf5(lost)}, "train t.h5", 8, ("t.h5", "'X'", "gone")),
    "a data set that lies elsewhere": ({"t.h5": hdf5(virtual)}, "train t.h5", 8, ("t.h5", "'X'", "virtual")),
    "a data set of 2**50 numbers": ({"t.h5": hdf5(huge)}, "train t.h5", 8, ("t.h5", "'X'", "declared")),
    "a data set that is not there": (
        {"t.h5": hdf5(plain)},
        "train t.h5 --target data/z --set data.inputs=data/X",
        3,
        ("t.h5", "'data/z'", "did you mean data/y"),
    ),
    "an HDF5 file that was cut off": ({"t.h5": hdf5(plain)[:600]}, "train t.h5", 3, ("t.h5", "cannot be read")),
    "MATLAB that was cut off": (
        {"t.mat": b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01IM" + b"\xff" * 50},
        "train t.mat",
        3,
        ("t.mat",),
    ),
    "Feather that was cut off": (
        {"t.feather": b"ARROW1" + b"\0" * 40},
        "train t.feather --target y",
        3,
        ("t.feather", "cannot be read"),
    ),
    "an archive that is none": ({"t.zip": b"PK"}, "train t.zip --target kind", 3, ("t.zip", "zip archive")),
    "an archive of two tables": (
        {"t.zip": archived(a_csv=GOOD, b_csv=GOOD)},
        "train t.zip --target kind",
        3,
        ("2 data files", "a.csv"),
    ),
    "a member that is not there": (
        {"t.zip": archived(a_csv=GOOD)},
        "train t.zip/b.csv --target kind",
        3,
        ("t.zip/b.csv", "no such file"),
    ),
    "an archive that grows": (
        {"t.zip": archived(a_csv="x\n" * 30_000_000)},
        "train t.zip/a.csv --target x",
        8,
        ("t.zip/a.csv", "at most"),
    ),
    "a packed file that is none": ({"t.csv.gz": b"hello"}, "train t.csv.gz --target kind", 3, ("t.csv.gz",)),
    "a pattern without a file": ({}, "train 'part-*.csv' --target y", 3, ("part-*.csv", "no file matches")),
    "files of other columns": (
        {"p1.csv": GOOD, "p2.csv": "length\n1\n"},
        "train 'p?.csv' --target kind",
        3,
        ("p2.csv", "'width'"),
    ),
    "an unknown protocol": ({}, "train gopher://a/b.csv --target y", 3, ("gopher://", "no known protocol")),
    "a password in an address": ({}, "train s3://me:secret@b/t.csv --target y", 8, ("s3://***@b/t.csv", "password")),
    "a sheet of another file": (T, "train t.csv --target kind --set data.sheet=A", 2, ("data.sheet", "no Excel file")),
}

STEPPED: dict[str, Row] = {
    "a window longer than a part": (S, "train s.csv --target y --set data.window=70", 3, ("data.window", "70 steps")),
    "a horizon without a window": (S, "train s.csv --target y --set data.horizon=2", 2, ("horizon", "window")),
    "time that runs backwards": (
        {"s.csv": SERIES.replace("2024-01-05", "2025-01-05")},
        "train s.csv --target y --set data.window=3 --set data.split.time=day",
        3,
        ("s.csv:7", "'day'", "earlier"),
    ),
    "a column of sequences that is not there": (
        W,
        "train w.csv --target door --set data.sequences=wlak",
        3,
        ("'wlak'", "did you mean walk?"),
    ),
    "two labels in one sequence": (
        {"w.csv": STEPS.replace("0,3,0.3,l", "0,3,0.3,r")},
        "train w.csv --target door --set data.sequences=walk --set data.horizon=1",
        2,
        ("horizon",),
    ),
    "a file of steps that is not there": (
        {"t.csv": "id,kind\n" + "".join(f"{place},{place % 2}\n" for place in range(20))},
        "train t.csv --target kind --set 'data.sequences=s_{id}.csv'",
        3,
        ("t.csv:2", "s_0.csv", "no such file"),
    ),
    "a ts file that is none": ({"t.ts": "hello\n"}, "train t.ts", 3, ("t.ts",)),
    "no text column": (T, "train t.csv --target kind --set data.text=words", 2, ("data.text", "length, width, colour")),
    "padding before BatchNorm": (
        {"w.csv": RAGGED},
        f'train w.csv --target door --set data.sequences=walk --set "model.layers={BATCH_NORM}"',
        2,
        ("layer 1 BatchNorm1d", "different length"),
    ),
}

DIVIDED: dict[str, Row] = {
    "more folds than rows": (
        {"t.csv": "a,y\n1,0\n2,1\n3,0\n"},
        "train t.csv --target y --set data.split.folds=9 --set data.split.fold=8",
        3,
        ("3 rows", "9 folds"),
    ),
    "a fold that is not there": (
        T,
        "train t.csv --target kind --set data.split.folds=3 --set data.split.fold=3",
        2,
        ("data.split.fold", "0 to 2"),
    ),
    "folds beside a test share": (
        T,
        "train t.csv --target kind --set data.split.folds=3 --set data.split.test=0.2",
        2,
        ("data.split.folds",),
    ),
    "a gap without time": (T, "train t.csv --target kind --set data.split.gap=3", 2, ("data.split.gap", "order of time")),
    "a group that is not there": (
        T,
        "train t.csv --target kind --set data.split.group=colour --set \"data.split.test=['green']\"",
        3,
        ("'green'", "blue, red"),
    ),
    "a check that is not there": (T, "train t.csv --target kind --set checks.skip=shifts", 2, ("checks.skip", "shifts")),
    "equal rows in two parts with --strict": (
        {"t.csv": GOOD.replace("0.5,0.0,red,no", "0.5,0.0,red,no\n" * 12)},
        "split t.csv --target kind --strict --json --figure gone/x.svg",
        6,
        ("gone/x.svg",),
    ),
    "one split of a pattern without one": (
        {**T, "s.npz": npz(train_0=np.arange(9), test_0=np.arange(9, 20))},
        "cross-validate t.csv --target kind --set data.split.file=s.npz --set data.split.train=train_{fold} "
        "--set data.split.test=tested_{fold}",
        2,
        ("'tested_0'", "train_0, test_0"),
    ),
}


def snapshot(folder: Path) -> dict[str, str]:
    """Every file and folder with the digest of its content; Python's own bytecode aside."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def write(folder: Path, files: Mapping[str, Content]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        elif isinstance(content, Path):
            path.symlink_to(content)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def refused(folder: Path, arguments: str, code: int, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(folder)
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(arguments))
    printed = capsys.readouterr()
    assert stop.value.code == code, printed.err
    assert printed.err.startswith("netwright: error: ")
    assert printed.err.count("\n") == 1
    assert printed.err.endswith("\n")
    assert [word for word in words if word not in printed.err] == [], printed.err
    assert "Traceback" not in printed.out + printed.err
    assert snapshot(folder) == before


ROWS = {"config": CONFIG, "network": NETWORK, "data": DATA, "arrays": ARRAYS, "images": IMAGES, "place": PLACE}
ROWS |= {"containers": CONTAINERS, "steps": STEPPED, "split": DIVIDED}


@pytest.mark.parametrize(("part", "name"), [(part, name) for part, rows in ROWS.items() for name in rows])
def test_bad_input_is_told_in_one_line_and_nothing_is_written(
    part: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files, arguments, code, words = ROWS[part][name]
    monkeypatch.chdir(tmp_path)
    write(tmp_path, files)
    if arguments.startswith("train ") and "epochs" not in f"{arguments} {files}" and "training=" not in arguments:
        arguments += " --set training.epochs=1"  # if the bad input is taken, let the test fail soon
    refused(tmp_path, arguments, code, words, capsys)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there_is_refused(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, T)
    words = ("training.device", device, "0 CUDA devices")
    refused(tmp_path, f"train t.csv --target kind --set training.device={device}", 2, words, capsys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four small runs: of a table, of an own class, of an array with its labels beside it, of images."""
    folder = tmp_path_factory.mktemp("trained")
    write(folder, {**own(NET), "x.npy": npy(X), "labels.npy": npy(Y), **PICTURES})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for arguments in (
            "train t.csv --target kind --run-dir table",
            "train c.toml --code net.py --run-dir own",
            "train x.npy --target labels.npy --run-dir array",
            "train d --run-dir images",
        ):
            with pytest.raises(SystemExit) as stop:
                main([*shlex.split(arguments), "--no-test", "--set", "training.epochs=1"])
            assert stop.value.code == 0
    return folder


WEIGHTS = ("run/model/best.safetensors", "run/model/last.safetensors")
RUN_TEXT = '{"status": "done"}'


def changed(name: str, old: str, new: str) -> Callable[[Path], bytes]:
    """Another content made from the file's own; the old text must be in it."""

    def change(folder: Path) -> bytes:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        return text.replace(old, new).encode()

    return change


def half(name: str) -> Callable[[Path], bytes]:
    return lambda folder: (folder / name).read_bytes()[: (folder / name).stat().st_size // 2]


# which run, what is changed in its copy or written beside it, arguments, exit code, words of the line
RUNS: dict[str, tuple[str, Mapping[str, Content | Callable[[Path], bytes]], str, int, tuple[str, ...]]] = {
    "a missing column": ("table", {"u.csv": "length,colour\n1,red\n"}, "predict run u.csv", 3, ("u.csv", "'width'")),
    "a misspelled column": (
        "table", {"u.csv": "length,widht,colour\n1,2,red\n"}, "predict run u.csv", 3, ("'width'", "did you mean widht?"),
    ),
    "a text in a number column": (
        "table", {"u.csv": "length,width,colour\n1,2,red\n\n3,wide,red\n"},
        "predict run u.csv -o p.csv", 3, ("u.csv:4:", "'width'", "'wide'"),
    ),
    "an infinite number": (
        "table", {"u.csv": "length,width,colour\n1,-inf,red\n"}, "predict run u.csv", 3, ("u.csv:2:", "'-inf'"),
    ),
    "no such file": ("table", {}, "predict run gone.csv", 3, ("gone.csv", "no such file")),
    "an empty file": ("table", {"u.csv": ""}, "predict run u.csv", 3, ("u.csv", "no rows")),
    "arrays for a table": ("table", {"u.npz": npz(X=X)}, "predict run u.npz", 3, ("u.npz", "arrays came", "table")),
    "a table for arrays": ("array", T, "predict run t.csv", 3, ("t.csv", "a table came", "arrays")),
    "rows of another shape": ("array", {"u.npz": npz(X=X[:, :2])}, "predict run u.npz", 3, ("u.npz", "(2,)", "(3,)")),
    "the parts of a training file": (
        "array", {"u.npz": npz(X_train=X, X_test=X)}, "predict run u.npz", 3, ("u.npz", "X_test", "save the rows to predict as X"),
    ),
    "a damaged image": (
        "images", {"u/1.png": image(1), "u/2.png": image(2)[:300]}, "predict run u", 3, ("u/2.png: ", "truncated"),
    ),
    "an image of too many pixels": ("images", {"1.png": bomb(60_000)}, "predict run 1.png", 8, ("1.png: 3600000000 pixels",)),
    "an image that is not there": ("images", {}, "predict run gone.png", 3, ("gone.png", "no such file")),
    "a folder without images": ("images", {"u/t.txt": "x"}, "predict run u", 3, ("u: a folder came",)),
    "an archive that is none": ("images", {"u.zip": "x"}, "predict run u.zip", 3, ("u.zip", "zip archive")),
    "test images of an unknown class": (
        "images", {"u/a/1.png": image(1), "u/c/2.png": image(2)}, "test run u", 3, ("u/c/2.png: ", "'c'", "a, b"),
    ),
    "test images without classes": ("images", {"u/1.png": image(1)}, "test run u", 3, ("u: no class folders",)),
    "images for a table": ("table", {"u/1.png": image(1)}, "predict run u", 3, ("u: a folder came",)),
    "a table for images": ("images", T, "predict run t.csv", 3, ("t.csv", "a table came", "images")),
    "a single number": ("array", {"u.npy": npy(np.array(3.5))}, "predict run u.npy", 3, ("u.npy",)),
    "a pickled array": ("array", {"u.npy": npy(np.array([Canary()]))}, "predict run u.npy", 8, ("u.npy", "pickled")),
    "predictions of an unknown ending": ("table", T, "predict run t.csv -o p.xyz", 2, ("p.xyz", "'.xyz'", ".csv")),
    "predictions without an ending": ("table", T, "predict run t.csv -o p", 2, ("output p", ".csv")),
    "predictions into a folder that is not there": ("table", T, "predict run t.csv -o gone/p.csv", 2, ("gone: no such folder",)),
    "predictions over a folder": ("table", {**T, "p.csv": None}, "predict run t.csv -o p.csv", 6, ("p.csv",)),
    "a new class in a file of test rows": (
        "table", {"u.csv": f"{HEADER}\n1,2,red,no\n\n1,2,red,maybe\n"},
        "test run u.csv", 3, ("u.csv:4:", "'kind'", "'maybe'", "no, yes"),
    ),
    "test rows without the target": (
        "table", {"u.csv": "length,width,colour\n1,2,red\n"}, "test run u.csv", 3, ("u.csv", "'kind'"),
    ),
    "test rows without a column": (
        "table", {"u.csv": "length,colour,kind\n1,red,no\n"}, "test run u.csv", 3, ("u.csv", "'width'"),
    ),
    "test rows with a text among numbers": (
        "table", {"u.csv": f"{HEADER}\n1,wide,red,no\n"}, "test run u.csv", 3, ("u.csv:2:", "'width'", "'wide'"),
    ),
    "a record that is no JSON": ("table", {"run/run.json": "{"}, "predict run u.csv", 4, ("run.json",)),
    "a record that is a list": ("table", {"run/run.json": "[]"}, "test run", 4, ("run.json",)),
    "a record that is empty": ("table", {"run/run.json": ""}, "report run", 4, ("run.json",)),
    "a record nested without end": ("table", {"run/run.json": "[" * 99_999}, "test run", 4, ("run.json",)),
    "a record without its entries": ("table", {"run/run.json": RUN_TEXT}, "test run", 4, ("run.json",)),
    "a config that is no TOML": ("table", {"run/config.toml": "["}, "predict run t.csv", 4, ("config.toml",)),
    "a config of another setting": (
        "table", {"run/config.toml": "[data]\nsorce = 1\n"}, "predict run t.csv", 4, ("config.toml", "sorce"),
    ),
    "a config with code in it": (
        "table", {**T, "run/config.toml": f'[model]\nlayers = ["{SYSTEM}"]\n'},
        "predict run t.csv", 8, ("model.layers", "mkdir"),
    ),
    "a config of another network": (
        "table", {**T, "run/config.toml": '[model]\nlayers = ["Linear(3, 1)"]\n'},
        "predict run t.csv", 4, ("safetensors", "weight"),
    ),
    "own code that was not named": ("own", T, "predict run t.csv", 8, ("net.py:Net", "--code")),
    "own code put into a config": (
        "table", {**T, "net.py": "open('canary', 'w')", "run/config.toml": '[model]\nmodule = "net.py:Net"\n'},
        "predict run t.csv", 8, ("--code",),
    ),
    "a preparation that is no JSON": (
        "table", {**T, "run/preparation.json": "{"}, "predict run t.csv", 4, ("preparation.json",),
    ),
    "a preparation that is a list": (
        "table", {**T, "run/preparation.json": "[]"}, "predict run t.csv", 4, ("preparation.json",),
    ),
    "a preparation without modules": (
        "table", {**T, "run/preparation.json": '{"preparation": {"encoder": null, "modules": []}, "outcome": {}}'},
        "predict run t.csv", 4,
        ("preparation.json",),
    ),
    "a preparation of another kind": (
        "table", {**T, "run/preparation.json": changed("run/preparation.json", '"number"', '"numbr"')},
        "predict run t.csv", 4,
        ("preparation.json",),
    ),
    "a preparation without its tensors": (
        "table", {**T, "run/preparation.safetensors": half("run/preparation.safetensors")},
        "predict run t.csv", 4, ("preparation",),
    ),
    "weights that were cut off": (
        "table", {**T, **dict.fromkeys(WEIGHTS, half(WEIGHTS[0]))}, "predict run t.csv", 4, ("safetensors",),
    ),
    "empty weights": (
        "table", {**T, **dict.fromkeys(WEIGHTS, "")}, "predict run t.csv", 4, ("safetensors", "cannot be read"),
    ),
    "pickled weights": (
        "table", {**T, **dict.fromkeys(WEIGHTS, PICKLED)}, "predict run t.csv", 4, ("safetensors", "cannot be read"),
    ),
    "weights of another network": (
        "table", {**T, **dict.fromkeys(WEIGHTS, safetensors.torch.save({"0.weight": torch.zeros(3, 3)}))},
        "predict run t.csv", 4,
        ("safetensors", "missing"),
    ),
    "a split that was cut off": ("table", {"run/split.npz": half("run/split.npz")}, "test run", 4, ("split.npz",)),
    "a pickled split": ("table", {"run/split.npz": PICKLED}, "test run", 4, ("split.npz",)),
    "another split": (
        "table", {"run/split.npz": npz(train=np.arange(20), valid=np.arange(20, 40), test=np.arange(40, 60))},
        "test run", 4, ("split",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_bad_input_to_a_run_is_told_in_one_line_and_nothing_is_written(
    name: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, files, arguments, code, words = RUNS[name]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / run, tmp_path / "run")
    contents = {path: content(tmp_path) if callable(content) else content for path, content in files.items()}
    write(tmp_path, contents)
    refused(tmp_path, arguments, code, words, capsys)


# the run, its file that changes, the new content
DRIFTED: dict[str, tuple[str, str, Content]] = {
    "the table": ("table", "t.csv", cell(30, 0, "99")),
    "one more row": ("table", "t.csv", GOOD + "1,2,red,no\n"),
    "the array": ("array", "x.npy", npy(X + 1)),
    "the labels beside the array": ("array", "labels.npy", npy(1 - Y)),
}


@pytest.mark.parametrize("name", DRIFTED)
def test_data_that_changed_since_training_are_not_tested_silently(
    name: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file, content = DRIFTED[name]
    shutil.copytree(trained, tmp_path / "all")
    monkeypatch.chdir(tmp_path / "all")
    config = tmp_path / "all" / run / "config.toml"
    config.write_text(config.read_text().replace(str(trained), str(tmp_path / "all")))
    write(tmp_path / "all", {file: content})
    refused(tmp_path, f"test {run}", 4, (file.replace("labels", "x"), "changed since training"), capsys)


def test_the_good_input_of_these_tests_is_taken(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {**T, "u.npz": npz(X=X)})
    for run, rows, code in (("table", "t.csv", ""), ("own", "t.csv", "--code net.py"), ("array", "u.npz", "")):
        shutil.copytree(trained / run, tmp_path / run)
        named = code.replace("net.py", str(trained / "net.py"))
        with pytest.raises(SystemExit) as stop:
            main(shlex.split(f"predict {run} {rows} -o {run}.csv {named}"))
        assert stop.value.code == 0
        assert len((tmp_path / f"{run}.csv").read_text().splitlines()) == 1 + (60 if rows == "t.csv" else 40)
