"""The user's own classes, read and not run: slips that only the text of forward and __init__ shows. Floor 10."""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from torch import nn

from netwright.checks import wording
from netwright.checks.findings import Finding

WEIGHTLESS_ONCE = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")
DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
MAKERS = (
    "tensor", "zeros", "ones", "rand", "randn", "full", "eye", "arange", "linspace", "from_numpy", "as_tensor", "zeros_like",
    "ones_like", "FloatTensor", "Tensor",
)  # fmt: skip
WITHOUT_EFFECT = (
    "relu", "sigmoid", "tanh", "softmax", "log_softmax", "gelu", "dropout", "view", "reshape", "flatten", "squeeze", "unsqueeze",
    "permute", "transpose", "leaky_relu", "elu", "silu", "max_pool2d", "avg_pool2d", "to", "float", "contiguous", "normalize",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A class of the user's: its file and its tree."""

    file: str
    tree: ast.ClassDef

    def place(self, node: ast.AST) -> str:
        """Return ``my_net.py:12``."""
        return f"{Path(self.file).name}:{getattr(node, 'lineno', self.tree.lineno)}"


def sources_of(kinds: Iterable[type]) -> list[Source]:
    """Return the source of classes whose files are at hand, in order; torch's, torchvision's, timm's and ours are passed over."""
    found: list[Source] = []
    for kind in dict.fromkeys(kinds):
        if kind.__module__.startswith(("torch.", "torchvision.", "timm.", "netwright.")) or not issubclass(kind, nn.Module):
            continue
        try:
            file = inspect.getsourcefile(kind)
        except (OSError, TypeError):  # a class from a console: there is no text to read
            continue
        if file is not None:
            linecache.checkcache(file)
            known = sources_in("".join(linecache.getlines(file)), file)
            found += [source for source in known if source.tree.name == kind.__name__]
    return found


@lru_cache(maxsize=16)
def sources_in(text: str, file: str) -> tuple[Source, ...]:
    """Return every class of a text; none where it is no Python. The classes of a file are read together."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return ()
    return tuple(Source(file, node) for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def read(sources: Sequence[Source]) -> list[Finding]:
    """Return what the text of some classes shows.

    Args:
        sources: Classes of the user's.

    Example:
        >>> text = "class Net(nn.Module):\\n    def forward(self, x):\\n        return nn.ReLU(x)\\n"
        >>> [found.check for found in read(sources_in(text, "net.py"))]
        ['layer-called-on-tensor']
    """
    found: list[Finding] = []
    for source in sources:
        layers = _layers(source.tree)
        methods = {node.name: node for node in source.tree.body if isinstance(node, ast.FunctionDef)}
        if "__init__" in methods:
            found += _in_init(source, methods["__init__"])
        for name, method in methods.items():
            if name != "__init__" and "forward" in methods and _called(name, methods):
                found += _in_forward(source, method, layers)
    return found


def _called(name: str, methods: dict[str, ast.FunctionDef], seen: frozenset[str] = frozenset()) -> bool:
    """Tell whether a method is forward, or is called by it."""
    if name == "forward":
        return True
    callers = [
        other
        for other, method in methods.items()
        if other not in (name, "__init__", *seen) and f"self.{name}" in _attributes(method)
    ]
    return any(_called(other, methods, seen | {name}) for other in callers)


def _attributes(node: ast.AST) -> set[str]:
    return {ast.unparse(part) for part in ast.walk(node) if isinstance(part, ast.Attribute)}


def _finding(
    source: Source, node: ast.AST, slug: str, seen: str, severity: Literal["error", "warning", "note"] = "warning"
) -> Finding:
    why, advice, confidence = wording.CODE[slug]
    return Finding(slug, f"{source.place(node)} {seen}", why, advice, severity, confidence)


def _in_init(source: Source, method: ast.FunctionDef) -> Iterator[Finding]:
    calls = [node for node in ast.walk(method) if isinstance(node, ast.Call)]
    if not any(ast.unparse(call.func).endswith(".__init__") for call in calls):
        yield _finding(source, method, "missing-super-init", "__init__", "error")
    lists: set[str] = set()
    for node in ast.walk(method):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [ast.unparse(target) for target in targets if _of_self(target)]
            if names:
                yield from _assigned(source, node, names[0], node.value)
                lists |= set(names) if isinstance(node.value, ast.List) and not node.value.elts else set()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            if ast.unparse(node.func.value) in lists and node.args and _makes_layer(node.args[0]):
                yield _finding(source, node, "unregistered-layers", ast.unparse(node.func.value), "error")
    for node in calls:
        yield from _device(source, node)


def _of_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def _assigned(source: Source, node: ast.AST, name: str, value: ast.expr) -> Iterator[Finding]:
    """Look at ``self.NAME = VALUE``."""
    listed = isinstance(value, ast.List | ast.Tuple | ast.Dict | ast.ListComp | ast.DictComp | ast.GeneratorExp)
    inside = _elements(value) if listed else []
    if any(_makes_layer(part) for part in inside):
        yield _finding(source, node, "unregistered-layers", name, "error")
    elif isinstance(value, ast.Call) and _maker(value):
        yield _finding(source, node, "state-not-registered", name)


def _elements(value: ast.expr) -> list[ast.expr]:
    if isinstance(value, ast.List | ast.Tuple):
        return list(value.elts)
    if isinstance(value, ast.Dict):
        return list(value.values)
    if isinstance(value, ast.ListComp | ast.GeneratorExp):
        return [value.elt]
    return [value.value] if isinstance(value, ast.DictComp) else []


def _layer_name(node: ast.AST) -> str:
    """Return the name of the class of torch.nn that a call makes, or nothing."""
    if not isinstance(node, ast.Call):
        return ""
    owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else None
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    kind = getattr(nn, name, None)
    known = isinstance(kind, type) and issubclass(kind, nn.Module | nn.Parameter)
    return name if known and owner in (None, "nn", "torch.nn") else ""


def _makes_layer(node: ast.AST) -> bool:
    return _layer_name(node) not in ("", "ReLU", "Tanh", "Sigmoid", "Flatten", "GELU", "Identity")


def _maker(call: ast.Call) -> bool:
    """Tell whether a call makes a plain tensor, through methods such as ``.float()`` too."""
    func = call.func
    if not isinstance(func, ast.Attribute):
        return False
    if isinstance(func.value, ast.Name) and func.value.id == "torch" and func.attr in MAKERS:
        return True
    chained = func.attr in ("float", "double", "unsqueeze", "view", "reshape", "to", "cuda", "long")
    return chained and isinstance(func.value, ast.Call) and _maker(func.value)


def _in_forward(source: Source, method: ast.FunctionDef, layers: set[str]) -> Iterator[Finding]:
    given = {argument.arg for argument in (*method.args.args[1:], *method.args.kwonlyargs)}
    tensors = given | {target.id for node in ast.walk(method) for target in _stored(node)}
    called = {node.func for node in ast.walk(method) if isinstance(node, ast.Call)}
    if any("no_grad" in ast.unparse(mark) or "inference_mode" in ast.unparse(mark) for mark in method.decorator_list):
        yield _finding(source, method, "no-grad-in-forward", "forward")
    for node in ast.walk(method):
        if isinstance(node, ast.With) and any("no_grad" in ast.unparse(item.context_expr) for item in node.items):
            returns = any(isinstance(part, ast.Return) for part in ast.walk(node))
            yield _finding(source, node, "no-grad-in-forward", "torch.no_grad()", "warning" if returns else "note")
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from _thrown_away(source, node.value, layers)
        if (
            isinstance(node, ast.Attribute)
            and node.attr == "data"
            and isinstance(node.ctx, ast.Load)
            and _root(node) in tensors
        ):
            yield _finding(source, node, "cut-gradient", ast.unparse(node))
        if isinstance(node, ast.Call):
            yield from _call(source, node, tensors, node in called)
    yield from _detached(source, method)


def _stored(node: ast.AST) -> list[ast.Name]:
    if not isinstance(node, ast.Assign):
        return []
    return [part for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)]


def _touches(node: ast.AST, tensors: set[str]) -> bool:
    """Tell whether an expression is made of one of some names."""
    return any(isinstance(part, ast.Name) and part.id in tensors for part in ast.walk(node))


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _call(source: Source, node: ast.Call, tensors: set[str], is_called: bool) -> Iterator[Finding]:
    """Look at one call in forward; ``is_called``: its result is called at once, as in ``nn.ReLU()(x)``."""
    layer = _layer_name(node)
    text = ast.unparse(node)
    if (
        layer
        and not is_called
        and node.args
        and isinstance(node.args[0], ast.Name | ast.Call)
        and _root(node.args[0]) in {*tensors, "self"}
    ):
        if isinstance(node.args[0], ast.Name) or _root(node.args[0]) != "torch":
            yield _finding(source, node, "layer-called-on-tensor", text, "error")
            return
    if layer in WEIGHTLESS_ONCE or (layer and not is_called and layer == "Parameter") or (layer and _has_weights(layer)):
        yield _finding(source, node, "layer-made-in-forward", text, "error")
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    if name in DROPOUTS and owner in ("F", "nn.functional", "torch.nn.functional", "torch", "functional", ""):
        if len(node.args) < 3 and not any(word.arg == "training" for word in node.keywords):
            yield _finding(source, node, "dropout-always-on", text, "error")
    if name == "squeeze" and not node.keywords and len(node.args) == (1 if owner == "torch" else 0):
        yield _finding(source, node, "squeeze-without-dim", text)
    made = isinstance(node.func, ast.Attribute) and owner not in ("np", "torch") and _touches(node.func.value, tensors)
    if name in ("view", "reshape") and made and node.args:
        first = (
            node.args[0].elts[0] if isinstance(node.args[0], ast.Tuple | ast.List) and node.args[0].elts else node.args[0]
        )
        if isinstance(first, ast.Constant) and isinstance(first.value, int) and first.value > 1:
            yield _finding(source, node, "fixed-batch-size", text)
    if name in ("numpy", "tolist") and made:
        yield _finding(source, node, "cut-gradient", text)
    if name in ("eval", "train") and owner == "self":
        yield _finding(source, node, "mode-changed-in-forward", text)
    if name in ("double", "half", "bfloat16") and made and not node.args:
        yield _finding(source, node, "fixed-dtype", text)
    yield from _device(source, node)


def _has_weights(layer: str) -> bool:
    return layer.startswith(
        ("Linear", "Conv", "BatchNorm", "LayerNorm", "Embedding", "LSTM", "GRU", "RNN", "Bilinear", "Multihead")
    ) or (layer.startswith(("Transformer", "GroupNorm", "InstanceNorm", "PReLU")))


def _device(source: Source, node: ast.Call) -> Iterator[Finding]:
    """Tell a device that is written by hand."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    texts = [
        part.value
        for part in (*node.args, *(word.value for word in node.keywords if word.arg == "device"))
        if isinstance(part, ast.Constant)
    ]
    named = any(isinstance(text, str) and text.split(":")[0] in ("cuda", "mps") for text in texts)
    if (name == "cuda" and "torch" not in ast.unparse(node.func)) or (named and name != "is_available"):
        yield _finding(source, node, "fixed-device", ast.unparse(node))


def _layers(tree: ast.ClassDef) -> set[str]:
    """Return the attributes that hold a layer of torch.nn, as ``self.NAME``."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=False))
                found |= {ast.unparse(name) for name, value in pairs if _of_self(name) and _layer_name(value)}
    return found


def _thrown_away(source: Source, node: ast.Call, layers: set[str]) -> Iterator[Finding]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    inplace = any(word.arg == "inplace" for word in node.keywords)
    if ast.unparse(node.func) in layers or (
        name in WITHOUT_EFFECT and not inplace and not ast.unparse(node.func).startswith("self.")
    ):
        yield _finding(source, node, "result-thrown-away", ast.unparse(node))


def _detached(source: Source, method: ast.FunctionDef) -> Iterator[Finding]:
    """Tell ``x = x.detach()``; elsewhere a detached copy beside the path is a known technique."""
    for node in ast.walk(method):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            value: ast.AST = node.value
            while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
                if value.func.attr == "detach" and _root(value) == node.targets[0].id:
                    yield _finding(source, node, "cut-gradient", ast.unparse(node))
                value = value.func.value
        if (
            isinstance(node, ast.Return)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value).endswith(".detach()")
        ):
            yield _finding(source, node, "cut-gradient", ast.unparse(node))
