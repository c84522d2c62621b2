"""Reads texts like ``Conv2d(32, kernel_size=3)`` into plain values; nothing is ever evaluated.

Text in, `Call` out. Only literals and, in Sequential, Residual and Parallel, further calls are allowed. What looks
like code is refused with exit code 8, what is merely misspelled with exit code 2. Floor 1.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from netwright.config.values import shortened
from netwright.errors import ConfigError, SafetyError

PREFIXES = (
    *("nn", "torch.nn", "optim", "torch.optim", "v2", "transforms.v2", "torchvision.transforms.v2"),
    *(f"{above}{name}" for above in ("", "optim.", "torch.optim.") for name in ("lr_scheduler", "swa_utils")),
)
CONTAINERS = ("Sequential", "Residual", "Parallel")
SCHEDULES = ("SequentialLR", "ChainedScheduler")  # which hold schedulers
OWN_CODE = "netwright_code_"  # begins the names of modules that are files of the user's
OBJECT = "object:"  # in a resolved config: something from Python that no file can hold
LONGEST_TEXT = 20_000
DEEPEST_NESTING = 20


@dataclass(frozen=True)
class Call:
    """A constructor call as data: a name, positional and keyword arguments.

    Arguments are literals (numbers, strings, booleans, None, tuples, lists) or, in containers and schedules, lists of `Call`.
    """

    name: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()

    @property
    def keywords(self) -> dict[str, Any]:
        """The keyword arguments as a dictionary."""
        return dict(self.kwargs)

    def __str__(self) -> str:
        parts = [_render(value) for value in self.args]
        parts += [f"{name}={_render(value)}" for name, value in self.kwargs]
        return f"{self.name}({', '.join(parts)})"

    def with_keyword(self, name: str, value: Any) -> Call:
        """Return the same call with one keyword argument set."""
        keywords = self.keywords
        keywords[name] = value
        return replace(self, kwargs=tuple(keywords.items()))

    def children(self) -> list[Call]:
        """Return the calls inside a container or schedule, in order; an ordinary layer has none."""
        return list(_calls_in((*self.args, *(value for _, value in self.kwargs))))


def _calls_in(values: Any) -> Iterator[Call]:
    for value in values:
        if isinstance(value, Call):
            yield value
        elif isinstance(value, list | tuple):
            yield from _calls_in(value)


def _render(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_render(item) for item in value) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(_render(item) for item in value) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, Call):
        return str(value)
    return repr(value)


def parse_call(text: str, where: str) -> Call:
    """Read one constructor text.

    Args:
        text: For instance ``Conv2d(32, kernel_size=3)`` or ``nn.ReLU()``.
        where: The setting it stands in, for messages, such as ``model.layers.0``.

    Returns:
        The call, without the ``nn.`` prefix.

    Raises:
        ConfigError: The text is no call, or an argument is no literal.
        SafetyError: The text hides code.

    Example:
        >>> str(parse_call("nn.Conv2d(32, kernel_size=3)", "model.layers.0"))
        'Conv2d(32, kernel_size=3)'
    """
    if len(text) > LONGEST_TEXT:
        raise SafetyError(f"{where}: a text of {len(text)} characters came; at most {LONGEST_TEXT} are read; shorten it")
    shown = shortened(text)
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", text.strip()) and "__" not in text:
        name = text.strip().rpartition(".")[2]
        raise ConfigError(f"{where}: {shown!r} came; expected a call with brackets; write {name}()")
    tree = _parsed(text.strip().rstrip(","), where, shown)
    if not isinstance(tree, ast.Call):
        _refuse_code(tree, where, shown)
        raise ConfigError(f"{where}: {shown!r} came; expected a call such as Linear(64); write the name with brackets")
    return _call(tree, where, shown, 0)


def layer_texts(text: str, where: str) -> list[str]:
    """Read several constructor texts that were written as one, without evaluating anything.

    Args:
        text: ``Flatten(), Linear()``, ``[Linear(8), Linear()]`` or ``nn.Sequential(nn.Linear(8), nn.ReLU())``.
        where: The setting, for messages.

    Returns:
        One text per layer; a bare name stays as it is, for the registry to answer.

    Raises:
        ConfigError: A part is no call.
        SafetyError: The text hides code.

    Example:
        >>> layer_texts("[nn.Linear(8), ReLU()]", "model.layers")
        ['Linear(8)', 'ReLU()']
    """
    if len(text) > LONGEST_TEXT:
        raise SafetyError(f"{where}: a text of {len(text)} characters came; at most {LONGEST_TEXT} are read; shorten it")
    if not re.search(r"[()\[\],]", text):
        return [text]
    shown = shortened(text)
    found = _parsed(f"[\n{text}\n]", where, shown)
    parts = found.elts if isinstance(found, ast.List) else [found]
    if len(parts) == 1 and isinstance(parts[0], ast.List | ast.Tuple):
        parts = parts[0].elts
    if len(parts) == 1 and isinstance(parts[0], ast.Call) and _dotted(parts[0].func).rpartition(".")[2] == "Sequential":
        return [str(child) for child in _call(parts[0], where, shown, 0).children()]
    return [_layer_text(part, f"{where}.{place}", shown) for place, part in enumerate(parts)]


def _layer_text(tree: ast.expr, where: str, shown: str) -> str:
    if isinstance(tree, ast.Call):
        return str(_call(tree, where, shown, 0))
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        return tree.value
    dotted = _dotted(tree)
    if dotted and "__" not in dotted:
        return dotted
    _refuse_code(tree, where, shown)
    raise ConfigError(f"{where}: {shown!r} came; expected calls such as Linear(64), ReLU(); write each with brackets")


def _parsed(text: str, where: str, shown: str) -> ast.expr:
    """Return the syntax tree of an expression; nothing is evaluated."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it cannot be read"
        raise ConfigError(
            f"{where}: {shown!r} came ({reason}); expected a call such as Linear(64); check the brackets and quotes"
        ) from None


def _call(tree: ast.Call, where: str, shown: str, depth: int) -> Call:
    if depth > DEEPEST_NESTING:
        raise SafetyError(f"{where}: calls nested deeper than {DEEPEST_NESTING} came; they are refused; flatten them")
    name = _name(tree.func, where, shown)
    nested = name in (*CONTAINERS, *SCHEDULES)
    args = []
    for position, argument in enumerate(tree.args):
        if isinstance(argument, ast.Name) and not nested and "__" not in argument.id:
            raise ConfigError(
                f"{where}: {shown!r} came; {argument.id!r} is no literal, and a layer is not applied to its input "
                f"here (the network does that); write {name}() or give a number"
            )
        args.append(_value(argument, f"{where}: argument {position + 1}", shown, nested, depth))
    kwargs = []
    for keyword in tree.keywords:
        if keyword.arg is None:
            raise SafetyError(f"{where}: {shown!r} came; ** is refused; write each argument by keyword")
        inside = name in SCHEDULES and keyword.arg == "schedulers"
        kwargs.append((keyword.arg, _value(keyword.value, f"{where}: {keyword.arg}", shown, inside, depth)))
    return Call(name, tuple(args), tuple(kwargs))


def _name(tree: ast.expr, where: str, shown: str) -> str:
    dotted = _dotted(tree)
    prefix, _, name = dotted.rpartition(".")
    if not dotted or "__" in dotted or (prefix and prefix not in PREFIXES):
        raise SafetyError(
            f"{where}: {shown!r} came; only the name of a torch.nn or torch.optim class may be called; "
            "name the class alone, such as Linear(64); own code comes by model.module and --code FILE"
        )
    return name


def _dotted(tree: ast.expr) -> str:
    """Return ``a.b.c`` of plain names, at most one prefix deep, else an empty text."""
    parts: list[str] = []
    while isinstance(tree, ast.Attribute) and len(parts) < 3:
        parts.append(tree.attr)
        tree = tree.value
    return ".".join([tree.id, *reversed(parts)]) if isinstance(tree, ast.Name) else ""


def _value(tree: ast.expr, where: str, shown: str, nested: bool, depth: int) -> Any:
    if depth > DEEPEST_NESTING:
        raise SafetyError(f"{where}: values nested deeper than {DEEPEST_NESTING} came; they are refused; flatten them")
    if isinstance(tree, ast.Call):
        if not nested:
            raise SafetyError(
                f"{where}: {shown!r} came; an argument may not be a call (only {', '.join(CONTAINERS)} hold "
                "layers); write a literal"
            )
        return _call(tree, where, shown, depth + 1)
    if isinstance(tree, ast.List | ast.Tuple):
        items = [_value(item, where, shown, nested, depth + 1) for item in tree.elts]
        return items if isinstance(tree, ast.List) else tuple(items)
    if isinstance(tree, ast.Constant) and isinstance(tree.value, bool | int | float | str | None):
        if isinstance(tree.value, float) and not math.isfinite(tree.value):
            raise ConfigError(f"{where}: {shown!r} came; a number too large for a float; write a finite number")
        return tree.value
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub | ast.UAdd):
        value = _value(tree.operand, where, shown, False, depth + 1)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return -value if isinstance(tree.op, ast.USub) else value
    _refuse_code(tree, where, shown)
    try:
        part = ast.unparse(tree)
    except RecursionError:
        part = shown
    raise ConfigError(
        f"{where}: {shown!r} came; {part!r} is no literal; write a number, text, True, False, None, tuple or list"
    )


def _refuse_code(tree: ast.expr, where: str, shown: str) -> None:
    """Raise `SafetyError` where an expression could do something if it were evaluated."""
    plain = (ast.Constant, ast.Name, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Load, ast.Tuple, ast.List)
    for node in ast.walk(tree):
        if not isinstance(node, plain) or (isinstance(node, ast.Name) and "__" in node.id):
            raise SafetyError(f"{where}: {shown!r} came; code is never run from a setting; write a literal")
