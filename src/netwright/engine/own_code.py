"""Which code of the user's own a recording of one step tells whole: read as source, never run.

Such code computes: it reads its arguments, constants and its own layers, and calls torch. Then Python decides nothing that
could be otherwise in the next step, but from numbers of tensors, and reading one of those is seen in the recording. Floor 5.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Callable
from types import FunctionType, MethodType, ModuleType
from typing import Any, final

import torch
from torch import Tensor, nn

PLAIN = (int, float, complex, str, bool, bytes, type(None), torch.dtype, torch.device, torch.Size, type(Ellipsis), slice)
BUILTINS = {
    *("abs", "all", "any", "bool", "dict", "divmod", "enumerate", "float", "int", "isinstance", "len", "list", "max", "min"),
    *("pow", "range", "reversed", "round", "slice", "sorted", "sum", "super", "tuple", "zip", "NotImplementedError"),
    *("RuntimeError", "TypeError", "ValueError", "True", "False", "None"),
}
MODULES = ("torch", "math")
# Attributes that hand numbers of tensors to Python unseen, or change what is not theirs.
REFUSED = {
    *("numpy", "tolist", "data_ptr", "storage", "untyped_storage", "map_", "apply_", "register_hook", "seed", "manual_seed"),
    *(
        "set_rng_state",
        "set_num_threads",
        "set_default_dtype",
        "save",
        "load",
        "compile",
        "jit",
        "cuda",
        "backward",
        "train",
    ),
    *(
        "eval",
        "register_buffer",
        "register_parameter",
        "register_module",
        "add_module",
        "requires_grad_",
        "zero_grad",
        "utils",
    ),
}
STATEMENTS = (
    *(ast.Global, ast.Nonlocal, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Delete),
    *(ast.Try, ast.With, ast.AsyncWith, ast.AsyncFor, ast.Await, ast.Yield, ast.YieldFrom, ast.While, ast.NamedExpr),
)


def own_code(model: nn.Module, loss_function: Callable[..., Any]) -> bool:
    """Tell whether network or loss hold code that is neither torch's nor ours."""
    return not isinstance(loss_function, nn.Module) or any(
        _own(type(part)) or "forward" in vars(part) for part in [*model.modules(), *loss_function.modules()]
    )


def _own(kind: type) -> bool:
    return not kind.__module__.startswith(("torch.nn.", "netwright."))


def why_not_told(model: nn.Module, loss_function: Callable[..., Any]) -> str | None:
    """Return why a recording would not tell all that own code of a network and loss does; None where it does.

    Example:
        >>> import torch.nn as nn
        >>> why_not_told(nn.Linear(3, 1), nn.MSELoss()) is None
        True
    """
    reader = _Reader()
    try:
        for part in [*model.modules(), *(loss_function.modules() if isinstance(loss_function, nn.Module) else [])]:
            if "forward" in vars(part):
                raise _Refused(f"{type(part).__name__}: its forward was replaced")
            if _own(type(part)):
                reader.method(part, "forward")
        if isinstance(loss_function, FunctionType):
            reader.function(loss_function, None)
        elif not isinstance(loss_function, nn.Module) and not reader.known(loss_function):
            raise _Refused(f"the loss is {type(loss_function).__name__}, no function whose source can be read")
    except _Refused as reason:
        return str(reason)
    return None


class _Refused(Exception):
    """Why code is not taken."""


@final
class _Reader:
    """Reads functions, each once."""

    def __init__(self) -> None:
        self._seen: set[tuple[Any, int]] = set()

    def method(self, owner: Any, name: str) -> None:
        """Read a method of a module."""
        found = inspect.getattr_static(type(owner), name)
        found = found.__func__ if isinstance(found, staticmethod | classmethod) else found
        if not isinstance(found, FunctionType):
            raise _Refused(f"{type(owner).__name__}.{name} is {type(found).__name__}, whose source cannot be read")
        self.function(found, owner)

    def function(self, function: FunctionType, owner: Any) -> None:
        """Read a function; ``owner`` is what its first argument is, for a method."""
        key = (function.__code__, id(owner))
        if key in self._seen or _foreign(function.__module__):
            return
        self._seen.add(key)
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        except (OSError, TypeError, SyntaxError):
            raise _Refused(f"the source of {function.__qualname__} cannot be read") from None
        if not isinstance(tree, ast.FunctionDef):
            raise _Refused(f"{function.__qualname__} is no function of its own")
        closure = inspect.getclosurevars(function)
        outer = {**closure.globals, **closure.nonlocals}
        me = tree.args.args[0].arg if owner is not None and tree.args.args else None
        local = {node.arg for node in ast.walk(tree.args) if isinstance(node, ast.arg)}
        local |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        for statement in tree.body:
            for node in ast.walk(statement):
                self._node(node, function.__qualname__, outer, local - {me}, owner, me)

    def _node(self, node: ast.AST, where: str, outer: dict[str, Any], local: set[str], owner: Any, me: str | None) -> None:
        if isinstance(node, STATEMENTS):
            raise _Refused(f"{where}: {type(node).__name__.lower()} in it")
        if isinstance(node, ast.Attribute):
            self._attribute(node, where, outer, owner, me)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and _root(node) not in local:
            raise _Refused(f"{where}: it changes {ast.unparse(node)}")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in local and node.id != me:
            self._name(node.id, where, outer)

    def _name(self, name: str, where: str, outer: dict[str, Any]) -> None:
        if name not in outer:
            if name in BUILTINS or (name == "__class__") or not hasattr(builtins, name):
                return
            raise _Refused(f"{where}: it calls {name}")
        value = outer[name]
        if isinstance(value, FunctionType):
            self.function(value, None)
        elif isinstance(value, type) and issubclass(value, torch.autograd.Function):
            for method in ("forward", "backward"):
                self.function(getattr(value, method), value)
        elif not self.known(value):
            raise _Refused(f"{where}: it uses {name}, {_kind(value)} from outside")

    def known(self, value: Any) -> bool:
        """Tell whether a value is a constant, torch's, or Python's mathematics."""
        if isinstance(value, ModuleType):
            return value.__name__.split(".")[0] in MODULES
        if isinstance(value, tuple):
            return all(self.known(part) for part in value)
        if isinstance(value, PLAIN):
            return True
        if isinstance(value, type):
            return _foreign(value.__module__) or (issubclass(value, nn.Module) and value is not nn.Module)
        return callable(value) and (
            _foreign(getattr(value, "__module__", None)) or type(value).__module__.startswith("torch")
        )

    def _attribute(self, node: ast.Attribute, where: str, outer: dict[str, Any], owner: Any, me: str | None) -> None:
        if isinstance(owner, type) and _root(node) == me and not node.attr.startswith("_"):
            return  # the context of one call of an autograd function
        if isinstance(node.ctx, ast.Store):
            raise _Refused(f"{where}: it changes {ast.unparse(node)}")
        if node.attr in REFUSED or (node.attr.startswith("_") and node.attr not in ("__init__",)):
            raise _Refused(f"{where}: it uses .{node.attr}")
        if not isinstance(node.value, ast.Name):
            return
        if node.value.id in outer and not isinstance(outer[node.value.id], ModuleType | type | tuple | str):
            raise _Refused(f"{where}: it uses {node.value.id}, {_kind(outer[node.value.id])} from outside")
        if owner is not None and node.value.id == me:
            self._own_attribute(node.attr, where, owner)

    def _own_attribute(self, name: str, where: str, owner: Any) -> None:
        try:
            value = getattr(owner, name)
        except AttributeError:
            return  # of the context of an autograd function, or an error of the user's that the trial step tells
        if isinstance(value, MethodType):
            if not _foreign(value.__func__.__module__):
                self.method(owner, name)
        elif not isinstance(value, nn.Module | Tensor) and not self.known(value):
            raise _Refused(f"{where}: it reads self.{name}, {_kind(value)}, which may change")


def _foreign(module: str | None) -> bool:
    """Tell whether code is torch's, ours, or of Python's mathematics."""
    return module is not None and module.split(".")[0] in ("torch", "math", "netwright", "_operator")


def _root(node: ast.AST) -> str | None:
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _kind(value: Any) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
