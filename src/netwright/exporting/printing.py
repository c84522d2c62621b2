"""The source of functions and classes as a script for readers prints it, and values as Python literals.

Annotations and all but the first sentence of a docstring are left out, and so is what serves an argument that the script
never gives. Only files that say "Printed by eject." are printed: they import torch and numpy alone. Floor 10.
"""

from __future__ import annotations

import ast
import copy
import inspect
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pprint import pformat
from typing import Any

MARK = "Printed by eject."
WIDTH = 116


def printed(thing: Any, without: Sequence[str] = (), renamed: Mapping[str, str] | None = None) -> str:
    """Return the source of a function or class.

    Args:
        thing: Of a file that says `MARK`.
        without: Arguments that the script never gives: they, and the code for them, are left out.
        renamed: Names to replace, such as those of modules.

    Raises:
        ValueError: The file does not say that its code may be printed.
    """
    module = sys.modules[thing.__module__]
    if MARK not in " ".join((module.__doc__ or "").split()):
        raise ValueError(f"{thing.__module__} came; expected a file that says {MARK!r}; write it there, or print another")
    source = textwrap.dedent(inspect.getsource(thing))
    return _plain(source, without, renamed or {})


def _plain(source: str, without: Sequence[str], renamed: Mapping[str, str]) -> str:
    tree = ast.parse(source)
    changed = _Plainer(without, renamed).visit(copy.deepcopy(tree))
    text = ast.unparse(ast.fix_missing_locations(changed))
    comments = _comments(source)
    lines = []
    for line in text.splitlines():
        comment = comments.get("".join(line.split()))
        lines.append(f"{line}  {comment}" if comment and len(line) + len(comment) + 2 <= WIDTH else line)
    return _spaced(lines)


def _comments(source: str) -> dict[str, str]:
    """Return the comments behind lines of code, by the code without its spaces."""
    found = {}
    for line in source.splitlines():
        code, mark, comment = line.partition("  # ")
        if mark and not comment.startswith(("type:", "noqa")):
            found["".join(code.split())] = f"# {comment}"
    return found


def _spaced(lines: list[str]) -> str:
    """Return lines with quotes as in the project, and an empty one between the methods of a class."""
    found: list[str] = []
    for line in lines:
        if line.startswith("    def ") and found and found[-1]:
            found.append("")
        found.append(_without_brackets(_quoted(line)))
    return "\n".join(found)


def _quoted(line: str) -> str:
    """Return a line with texts in double quotes, where no other quote comes."""
    return re.sub(r"'([^'\"\\]*)'", r'"\1"', line) if '"' not in line else line


def _without_brackets(line: str) -> str:
    """Return ``return (a, b)`` and ``x, y = (a, b)`` without the brackets."""
    found = re.fullmatch(r"(\s*)((?:return|[\w, ]+ =) )\((.*)\)", line)
    if found is None:
        return line
    whole, bare = (ast.parse(text, mode="eval").body if _reads(text) else None for text in (f"({found[3]})", found[3]))
    same = isinstance(whole, ast.Tuple) and bare is not None and ast.unparse(whole) == ast.unparse(bare)
    return f"{found[1]}{found[2]}{found[3]}" if same else line


def _reads(text: str) -> bool:
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return True


class _Plainer(ast.NodeTransformer):
    """Leaves out annotations, long docstrings, decorators of typing, and what serves arguments that are never given."""

    def __init__(self, without: Sequence[str], renamed: Mapping[str, str]) -> None:
        self.without, self.renamed = set(without), renamed

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        node.returns = None
        node.decorator_list = [item for item in node.decorator_list if ast.unparse(item) != "final"]
        kept = [argument for argument in node.args.args if argument.arg not in self.without]
        dropped = len(node.args.args) - len(kept)
        node.args.args = kept
        if dropped:
            node.args.defaults = node.args.defaults[: len(node.args.defaults) - dropped]
        for argument in [*node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]:
            if argument is not None:
                argument.annotation = None
        self._shorten(node)
        self.generic_visit(node)
        node.body = _settled(node.body)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        node.decorator_list = [item for item in node.decorator_list if ast.unparse(item) != "final"]
        self._shorten(node)
        data = any("dataclass" in ast.unparse(item) for item in node.decorator_list)
        node.body = [item for item in node.body if data or not isinstance(item, ast.AnnAssign)]
        for item in node.body:
            if not isinstance(item, ast.AnnAssign):
                self.visit(item)
        node.bases = [self.visit(base) for base in node.bases]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        self.generic_visit(node)
        if node.value is None:
            return None
        return ast.Assign(targets=[node.target], value=node.value)

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        self.generic_visit(node)
        return node.body if self._never_given(node.test) else node

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        return node.body if self._never_given(node.test) else node

    def visit_keyword(self, node: ast.keyword) -> Any:
        if isinstance(node.value, ast.Name) and node.value.id in self.without:
            return None
        self.generic_visit(node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        if ast.unparse(node) in self.renamed:
            return ast.Name(self.renamed[ast.unparse(node)], ast.Load())
        self.generic_visit(node)
        return node

    def _never_given(self, test: ast.expr) -> bool:
        return ast.unparse(test) in {f"{name} is None" for name in self.without}

    def _shorten(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        """Keep the first sentence of a docstring."""
        text = ast.get_docstring(node)
        if text:
            first = text.splitlines()[0].replace("``", "").split("; ")[0].rstrip(".;:") + "."
            node.body[0] = ast.Expr(ast.Constant(first))


def _settled(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return statements up to the first return, with ``x = value; return x`` as ``return value``."""
    ends = next((place for place, item in enumerate(body) if isinstance(item, ast.Return)), len(body) - 1)
    body = body[: ends + 1]
    if len(body) > 1 and isinstance(body[-1], ast.Return) and isinstance(body[-1].value, ast.Name):
        before = body[-2]
        if isinstance(before, ast.Assign) and ast.unparse(before.targets[0]) == body[-1].value.id:
            return [*body[:-2], ast.Return(before.value)]
    return body


def literal(value: Any, indent: int = 0) -> str:
    """Return a value as Python writes it, folded to the width of a page.

    Args:
        value: Texts, numbers, lists and dictionaries of them.
        indent: Columns that stand before its first line.
    """
    text = pformat(value, width=WIDTH - indent, compact=True, sort_dicts=False)
    text = "\n".join(map(_quoted, text.splitlines()))
    return text.replace("\n", "\n" + " " * indent)
