"""What an ejected script is written from: how rows are read, prepared and answered, the network, and how it learns. Floor 10."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import final

from netwright.config.backbones import Backbone
from netwright.config.calls import Call
from netwright.data.preparation import Preparation
from netwright.data.targets import Target
from netwright.engine.update import Update
from netwright.model.task import Decoding
from netwright.sources.marks import Markers
from netwright.training.groups import Group


@dataclass(frozen=True)
class Source:
    """How rows are read.

    Args:
        imports: Lines of imports.
        constants: What a reader may change: where the file lies, what counts as missing.
        text: Code that makes ``table`` (a dictionary of columns), or ``raw`` and ``labels`` (arrays).
        table: Whether a table comes.
        typed: Whether the cells of the table are numbers and truth values already, not texts.
        answer: Code for the cells of a target column, with ``{}`` where its name stands.
        dtype: Of ``raw``.
        gaps: Whether cells or numbers are missing.
        marks: How numbers are written in texts.
        renamed: Target values to rename.
    """

    imports: tuple[str, ...]
    constants: str
    text: str
    table: bool
    typed: bool = False
    answer: str = "table[{}]"
    dtype: str = ""
    gaps: bool = False
    marks: Markers = Markers()
    renamed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Steps:
    """How rows are made of steps.

    Args:
        text: Code that makes ``starts`` and ``lengths`` of the rows.
        width: The steps of every row, where all have as many; 0 where they differ.
        stacked: Whether rows of one width follow one another, so that they are an array of their own.
        horizon: How many steps after a window its target lies; 0 where rows have targets of their own.
        rungs: The lengths that rows are padded to.
    """

    text: str
    width: int
    stacked: bool
    horizon: int
    rungs: tuple[int, ...]

    @property
    def form(self) -> str:
        """How a batch is gathered: ``rows``, ``windows`` or ``padded``."""
        return "padded" if not self.width else "rows" if self.stacked else "windows"


@dataclass(frozen=True)
class OwnClass:
    """A network of the user's own: the imports and code it needs, its name and arguments, and whether its layers are lazy.

    ``squeezed`` tells that it gives one number a row as ``(rows,)``.
    """

    imports: tuple[str, ...]
    text: str
    name: str
    arguments: dict[str, object]
    lazy: bool
    squeezed: bool = False


@dataclass(frozen=True)
class Learning:
    """How the network learns; see the settings of the same names. ``scored`` rows are scored at a time.

    ``update`` is what a step does beside forward, backward and the optimizer's step. ``per_step`` tells whether the schedule
    goes on after every step, ``short`` whether it ends before the run.
    """

    seed: int
    epochs: int
    steps: int | None
    batch_size: int
    scored: int
    last_batch: str
    monitor: str
    mode: str
    patience: int | None
    update: Update
    precision: str
    threads: int | None
    channels_last: bool
    balanced: bool = False  # each class is drawn as often as any other
    schedule: Call | None = None
    per_step: bool = False
    short: bool = False
    average: Call | None = None


@dataclass(frozen=True)
class Recipe:
    """Everything an ejected script says.

    ``layers`` are resolved; None for an own class and for a ``backbone`` of a library. ``valid`` and ``test`` tell whether
    there are such rows. ``start`` says in words which weights of elsewhere lie beside the script; ``stages`` are epochs from which
    on parameters are frozen, and batch norm layers rest. ``groups`` are those of the optimizer, the rest first; none
    where all parameters are in one.
    """

    name: str
    source: Source
    steps: Steps | None
    preparation: Preparation
    target: Target
    decoding: Decoding
    class_target: bool
    layers: tuple[Call, ...] | None
    own: OwnClass | None
    loss: Call
    optimizer: Call
    learning: Learning
    rare: int
    valid: bool
    test: bool
    temperature: float | None = None
    groups: tuple[Group, ...] = ()
    start: str = ""
    stages: tuple[tuple[int, tuple[str, ...], tuple[str, ...]], ...] = ()
    backbone: Backbone | None = None

    @property
    def gathered(self) -> str:
        """How a batch is gathered."""
        return "rows" if self.steps is None else self.steps.form

    def called(self, arguments: str) -> str:
        """Return code that calls the network."""
        squeezed = self.own is not None and self.own.squeezed
        return f"model({arguments})" + (".reshape(-1, 1)" if squeezed else "")

    @property
    def probabilistic(self) -> bool:
        """Whether classes are predicted, one a row or a step."""
        return self.target.task in ("binary", "multiclass")


@final
@dataclass
class Page:
    """A script that grows: its imports and its sections."""

    imports: set[str] = field(default_factory=set)
    sections: list[str] = field(default_factory=list)

    def need(self, *lines: str) -> None:
        """Add imports."""
        self.imports.update(lines)

    def section(self, title: str, parts: Iterable[str]) -> None:
        """Add a section of paragraphs; functions stand between two empty lines."""
        number = len(self.sections) + 1
        text = f"# ---- {number}. {title} ".ljust(100, "-") + "\n"
        after = False
        for part in (part.strip("\n") for part in parts if part.strip()):
            block = part.startswith(("def ", "class ", "@"))
            first = text.count("\n") == 1
            text += ("" if first else "\n\n" if block or after else "") + part + "\n"
            after = block
        self.sections.append(text)

    def __str__(self) -> str:
        """Return imports and sections."""
        sections = "\n\n\n".join(text.rstrip("\n") for text in self.sections)
        return "\n".join(sorted_imports(self.imports)) + f"\n\n{sections}\n"


STANDARD = (
    "__future__",
    "typing",
    "functools",
    "itertools",
    "csv",
    "gzip",
    "math",
    "random",
    "struct",
    "json",
    "dataclasses",
    "datetime",
    "pathlib",
    "collections",
    "contextlib",
    "io",
)


def sorted_imports(lines: Iterable[str]) -> list[str]:
    """Return lines of imports: Python's own, an empty line, all others; ``from a import b`` of one module joined."""
    joined: dict[str, set[str]] = {}
    plain = set()
    for line in lines:
        if line.startswith("from "):
            module, _, names = line[5:].partition(" import ")
            joined.setdefault(module, set()).update(name.strip() for name in names.split(","))
        else:
            plain.add(line)
    every = [*plain, *(f"from {module} import {', '.join(sorted(names))}" for module, names in joined.items())]
    own = [line for line in every if line.split()[1].split(".")[0] in STANDARD]
    other = [line for line in every if line not in own]
    ordered = [
        sorted(part, key=lambda line: ("__future__" not in line, line.startswith("from "), line)) for part in (own, other)
    ]
    return [*ordered[0], *([""] if own else []), *ordered[1]]
