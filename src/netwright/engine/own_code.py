"""Which code of the user's own a recording of one step tells whole: read as source, never run.

Such code computes: it reads its arguments, constants and its own layers, and calls torch. Then Python decides nothing that
could be otherwise in the next step, but from numbers of tensors, and reading one of those is seen in the recording. Whatever
is not known to be of this kind is refused, and runs as it is written. Floor 7.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any, final

import torch
from torch import Tensor, nn

PLAIN = {int, float, complex, str, bool, bytes, type(None), torch.dtype, torch.device, torch.Size, type(Ellipsis), slice}
BUILTINS = {
    *("abs", "all", "any", "bool", "dict", "divmod", "enumerate", "float", "int", "isinstance", "len", "list", "max", "min"),
    *("pow", "range", "reversed", "round", "slice", "sorted", "str", "sum", "super", "tuple", "zip", "NotImplementedError"),
    *("RuntimeError", "TypeError", "ValueError", "AssertionError"),
}
FOREIGN = ("torch", "math", "netwright", "_operator")  # the first part of the names of modules that are not the user's
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
    *("grad", "tensor_split", "set_", "__dict__", "__class__", "set_grad_enabled", "load_state_dict", "apply"),
}
CALLED = {"tensor", "as_tensor", "asarray", "new_tensor", "Tensor", "from_numpy", "frombuffer"}  # of numbers of tensors
CONTEXTS = {"no_grad", "enable_grad", "inference_mode"}
MINE = {"__init__", "forward", "extra_repr", "__repr__", "reset_parameters"}  # methods of torch that one may write anew
STATEMENTS: dict[type[ast.AST], str] = {  # that are not taken, in words
    ast.Global: "global",
    ast.Nonlocal: "nonlocal",
    ast.Import: "an import",
    ast.ImportFrom: "an import",
    ast.FunctionDef: "a function",
    ast.AsyncFunctionDef: "a function",
    ast.ClassDef: "a class",
    ast.Delete: "del",
    ast.Try: "try",
    ast.AsyncWith: "async with",
    ast.AsyncFor: "async for",
    ast.Await: "await",
    ast.Yield: "yield",
    ast.YieldFrom: "yield from",
    ast.While: "while",
    ast.NamedExpr: ":=",
    ast.Lambda: "a lambda",
}


def own_code(model: nn.Module, loss_function: Callable[..., Any]) -> bool:
    """Tell whether network or loss hold code that is neither torch's nor ours."""
    return not isinstance(loss_function, nn.Module) or any(
        own_classes(type(part)) or "forward" in vars(part) for part in [*model.modules(), *loss_function.modules()]
    )


def why_not_told(model: nn.Module, loss_function: Callable[..., Any]) -> str | None:
    """Return why a recording would not tell all that own code of a network and loss does; None where it does.

    Example:
        >>> import torch.nn as nn
        >>> why_not_told(nn.Linear(3, 1), nn.MSELoss()) is None
        True
    """
    try:
        _Reader(model, loss_function).read()
    except _Refused as reason:
        return str(reason)
    return None


def constants_read(model: nn.Module, loss_function: Callable[..., Any]) -> list[tuple[dict[str, Any], str]]:
    """Return the names outside of functions whose plain values own code reads, each with where it stands."""
    if not own_code(model, loss_function):
        return []
    reader = _Reader(model, loss_function)
    try:
        reader.read()
    except _Refused:
        return []
    return reader.constants


def code_of(model: nn.Module, loss_function: Callable[..., Any]) -> set[Any]:
    """Return what own code of a network and loss is, to compare: its functions, and what it uses from outside; it is told whole.

    A class that is loaded anew from its file has other functions of the same code.

    Example:
        >>> import torch.nn as nn
        >>> code_of(nn.Linear(3, 1), nn.MSELoss())
        set()
    """
    reader = _Reader(model, loss_function)
    reader.read()
    return reader.used


def own_classes(kind: type) -> list[type]:
    """Return the classes of a layer that are the user's."""
    return [each for each in kind.__mro__ if each is not object and not _foreign(each.__module__)]


def setting_of(value: Any) -> Any:
    """Return an attribute of a layer as what can be compared; None for one of a kind that no recorded step reads.

    Example:
        >>> setting_of([1, 2]), setting_of({}), setting_of(torch.relu) is torch.relu
        ((1, 2), None, True)
    """
    if isinstance(value, list | tuple):
        return tuple(map(setting_of, value))
    return value if isinstance(value, tuple(PLAIN)) or _of_torch(value) else None


class _Refused(Exception):
    """Why code is not taken."""


@final
class _Function:
    """A function that is read: its syntax, what its names mean, and the module it is a method of."""

    def __init__(self, function: FunctionType, owner: Any) -> None:
        self.name = function.__qualname__
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        except (OSError, TypeError, SyntaxError):
            raise _Refused(f"the source of {self.name} cannot be read") from None
        if not isinstance(tree, ast.FunctionDef):
            raise _Refused(f"{self.name} is no function of its own")
        decorated = [ast.unparse(each) for each in tree.decorator_list]
        if hasattr(function, "__wrapped__") or any(each not in ("staticmethod", "classmethod") for each in decorated):
            raise _Refused(f"{self.name} is decorated")
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        if not all(_plain(value) for value in defaults):
            raise _Refused(f"an argument of {self.name} has a default that may change")
        self.tree, self.owner, self.globals = tree, owner, function.__globals__
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        self.closure = {name: cell.cell_contents for name, cell in cells if name != "__class__"}
        bound = bool(tree.args.args) and (isinstance(owner, type) or (owner is not None and "staticmethod" not in decorated))
        self.me = tree.args.args[0].arg if bound else None
        self.local = {node.arg for node in ast.walk(tree.args) if isinstance(node, ast.arg)} - {self.me}
        self.local |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}

    def nodes(self) -> Iterator[ast.AST]:
        """Yield every part of the body, annotations left out."""
        stack: list[ast.AST] = [*self.tree.body]
        while stack:
            node = stack.pop()
            yield node
            children = list(ast.iter_child_nodes(node))
            stack += [child for child in children if not (isinstance(node, ast.AnnAssign) and child is node.annotation)]


@final
class _Reader:
    """Reads the functions of a network and a loss, each once."""

    def __init__(self, model: nn.Module, loss_function: Callable[..., Any]) -> None:
        self.constants: list[tuple[dict[str, Any], str]] = []
        self.used: set[Any] = set()
        self._loss = loss_function
        self._modules = [*model.modules(), *(loss_function.modules() if isinstance(loss_function, nn.Module) else [])]
        self._known = {id(module) for module in self._modules}
        self._seen: set[tuple[Any, int]] = set()

    def read(self) -> None:
        """Read everything, or say why not."""
        for module in self._modules:
            if "forward" in vars(module):
                raise _Refused(f"the forward of {type(module).__name__} was replaced")
            for kind in own_classes(type(module)):
                for name in vars(kind):
                    if name not in MINE and callable(vars(kind)[name]) and hasattr(nn.Module, name):
                        raise _Refused(f"{kind.__name__} overrides {name} of torch")
                    over = any(name in vars(base) for base in type(module).__mro__ if _foreign(base.__module__))
                    if name not in MINE and over and isinstance(vars(kind)[name], FunctionType):
                        raise _Refused(f"{kind.__name__} overrides {name} of torch")
            if own_classes(type(module)):
                self._method(module, "forward")
        if isinstance(self._loss, FunctionType):
            self._function(self._loss, None)
        elif not isinstance(self._loss, nn.Module) and not _of_torch(self._loss):
            raise _Refused(f"the loss is {type(self._loss).__name__}, no function whose source can be read")

    def _method(self, owner: Any, name: str) -> None:
        """Read a method of a module, and what it may call as that of a parent."""
        for kind in own_classes(type(owner)):
            found = vars(kind).get(name)
            found = found.__func__ if isinstance(found, staticmethod | classmethod) else found
            if isinstance(found, FunctionType):
                self._function(found, owner)
            elif found is not None:
                raise _Refused(f"{kind.__name__}.{name} is a {type(found).__name__}")

    def _function(self, function: FunctionType, owner: Any) -> None:
        if (function.__code__, id(owner)) in self._seen or _foreign(function.__module__):
            return
        self._seen.add((function.__code__, id(owner)))
        read = _Function(function, owner)
        self.used.add((function.__code__, repr(function.__defaults__), repr(function.__kwdefaults__)))
        nodes = list(read.nodes())
        statement = next((STATEMENTS[type(node)] for node in nodes if type(node) in STATEMENTS), None)
        if statement is not None:  # told first: whatever else is read may be for its sake
            raise _Refused(f"{read.name} has {statement} in it")
        for node in nodes:
            self._node(node, read)

    def _node(self, node: ast.AST, read: _Function) -> None:
        if isinstance(node, ast.With) and not all(_context(item) for item in node.items):
            raise _Refused(f"{read.name} has with in it")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLED:
            raise _Refused(f"{read.name} calls .{node.func.attr}")
        if isinstance(node, ast.Attribute):
            self._attribute(node, read)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and _root(node) not in read.local:
            raise _Refused(f"{read.name} changes {ast.unparse(node)}")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in {*read.local, read.me}:
            self._name(node.id, read)

    def _name(self, name: str, read: _Function) -> None:
        if name in read.closure or name in read.globals:
            inside = read.closure if name in read.closure else read.globals
            value = inside[name]
            if isinstance(value, FunctionType):
                self._function(value, None)
            elif isinstance(value, type) and issubclass(value, torch.autograd.Function):
                for method in ("forward", "backward"):
                    self._function(getattr(value, method), value)
            elif _plain(value):
                self.constants.append((inside, name))
                self.used.add((name, repr(value)))
            elif _of_torch(value):
                self.used.add((name, id(value)))
            elif not (isinstance(value, type) and value in map(type, self._modules)):
                raise _Refused(f"{read.name} uses {name}, {_kind(value)} from outside")
        elif name not in BUILTINS:
            raise _Refused(f"{read.name} {'calls' if hasattr(builtins, name) else 'reads'} {name}")

    def _attribute(self, node: ast.Attribute, read: _Function) -> None:
        root = _root(node)
        if isinstance(read.owner, type) and root == read.me and isinstance(node.value, ast.Name):
            return  # the context of one call of an autograd function
        if isinstance(node.ctx, ast.Store):
            raise _Refused(f"{read.name} changes {ast.unparse(node)}")
        if node.attr in REFUSED and not (isinstance(read.owner, type) or _is_function(node, read)):
            raise _Refused(f"{read.name} uses .{node.attr}")
        if isinstance(node.value, ast.Name) and node.value.id == read.me and read.owner is not None:
            self._of(read.owner, node.attr, read.name)
        elif isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name) and node.value.func.id == "super":
            self._method(read.owner, node.attr)
        elif isinstance(node.value, ast.Name) and node.value.id not in read.local:
            value = read.closure.get(node.value.id, read.globals.get(node.value.id))
            if isinstance(value, type) and value in map(type, self._modules) and not _foreign(value.__module__):
                raise _Refused(f"{read.name} uses {ast.unparse(node)}")
        else:  # of a layer, a tensor or a local: whatever own layers have by that name is read
            for module in self._modules:
                if node.attr in vars(module) or any(node.attr in vars(kind) for kind in own_classes(type(module))):
                    self._of(module, node.attr, read.name)

    def _of(self, owner: Any, name: str, where: str) -> None:
        """Read an attribute of a module."""
        held = vars(owner)
        if name in held:
            value = held[name]
            inside = isinstance(value, nn.Module) and id(value) in self._known
            if not inside and not _plain(value) and not _of_torch(value):
                raise _Refused(f"{where} reads self.{name}, {_kind(value)}, which may change")
            return
        if any(name in held.get(part, {}) for part in ("_parameters", "_buffers", "_modules")):
            return
        for kind in own_classes(type(owner)):
            found = vars(kind).get(name)
            if found is None:
                continue
            if isinstance(found, FunctionType | staticmethod | classmethod):
                self._method(owner, name)
                return
            raise _Refused(f"{where} reads self.{name}, {_kind(found)} of its class, which may change")


def _foreign(module: str | None) -> bool:
    """Tell whether code is torch's, ours, or of Python's mathematics."""
    return module is not None and module.split(".")[0] in (*FOREIGN, "typing", "abc")


def _plain(value: Any) -> bool:
    return type(value) in PLAIN or (type(value) is tuple and all(map(_plain, value)))


def _of_torch(value: Any) -> bool:
    """Tell whether a value is a module, class or function of torch, or of Python's mathematics; a tensor or layer is not."""
    if isinstance(value, ModuleType):
        return _foreign(value.__name__)
    if isinstance(value, Tensor | nn.Module):
        return False
    return callable(value) and (_foreign(getattr(value, "__module__", None)) or _foreign(type(value).__module__))


def _is_function(node: ast.Attribute, read: _Function) -> bool:
    """Tell whether an attribute is that of an autograd function, which is called by ``apply``."""
    value = read.globals.get(node.value.id) if isinstance(node.value, ast.Name) else None
    return node.attr == "apply" and isinstance(value, type) and issubclass(value, torch.autograd.Function)


def _context(item: ast.withitem) -> bool:
    call = item.context_expr
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in CONTEXTS


def _root(node: ast.AST) -> str | None:
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _kind(value: Any) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
