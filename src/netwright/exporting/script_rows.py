"""The parts of an ejected script that read rows: tables, arrays, rows of steps, and what is to be predicted. Floor 10."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from netwright.exporting.printing import literal
from netwright.exporting.recipe import Page, Recipe, Source
from netwright.sources.cells import FALSE_WORDS, TRUE_WORDS

CLEAN = '''def clean(cell):
    """Return a cell with text trimmed, None where one is missing."""
    if isinstance(cell, str):
        cell = cell.strip()
    return None if cell is None or cell in MISSING else cell'''
TOGETHER = """parts = [read_table(path) for path in DATA]
table = {name: [cell for part in parts for cell in part[name]] for name in parts[0]}"""


def text_table(
    paths: Sequence[str],
    delimiter: str,
    encoding: str,
    columns: Sequence[str] | None,
    headed: bool,
    missing: Sequence[str],
) -> dict[str, Any]:
    """Return how delimited text files are read.

    Args:
        paths: The files, one below the other.
        delimiter: One character, or "whitespace".
        encoding: Of the text.
        columns: Names to use instead of those of the first line.
        headed: Whether the first line holds names.
        missing: Texts that mean missing.
    """
    imports = ["from pathlib import Path"]
    opened = f'open(path, encoding={encoding!r}, newline="")'
    if any(path.endswith(".gz") for path in paths):
        imports.append("import gzip")
        opened = f'gzip.open(path, "rt", encoding={encoding!r}, newline="")'
    if delimiter == "whitespace":
        lines = "[line.split() for line in stream if line.strip()]"
    else:
        imports.append("import csv")
        lines = f"[line for line in csv.reader(stream, delimiter={delimiter!r}) if line]"
    names = "COLUMNS" if columns is not None else "[name.strip() for name in lines[0]]"
    text = f'''def read_table(path):
    """Return the columns of a text file by name; a cell is a text, or None where one is missing."""
    with {opened} as stream:
        lines = {lines}
    names = {names}
    cells = [[cell.strip() for cell in column] for column in zip(*lines{"[1:]" if headed else ""})]
    return {{name: [None if cell in MISSING else cell for cell in column] for name, column in zip(names, cells)}}'''
    constants = f"{_paths(paths)}\nMISSING = {literal(list(missing), 10)}"
    if columns is not None:
        constants += f"\nCOLUMNS = {literal(list(columns), 10)}"
    return {"imports": tuple(imports), "constants": constants, "text": f"{text}\n\n\n{_all_files(paths)}"}


def arrow_table(
    paths: Sequence[str], kind: str, dates: Sequence[str], texts: bool, missing: Sequence[str]
) -> dict[str, Any]:
    """Return how Parquet and Arrow files are read.

    Args:
        paths: The files, one below the other.
        kind: parquet or feather.
        dates: Columns that hold dates or times.
        texts: Whether a column holds texts.
        missing: Texts that mean missing.
    """
    module, name = ("pyarrow.parquet", "pq") if kind == "parquet" else ("pyarrow.feather", "feather")
    imports = ["from pathlib import Path", f"import {module} as {name}"]
    cells = "[clean(cell) for cell in columns[name].to_pylist()]" if texts else "columns[name].to_pylist()"
    moments = ""
    if dates:
        imports.append("import pyarrow as pa")
        moments = (
            f"    for name in {literal(list(dates))}:\n"
            '        moments = columns[name].cast(pa.timestamp("us"), safe=False)\n'
            "        columns = columns.set_column(columns.column_names.index(name), name, moments)\n"
        )
    text = f'''def read_table(path):
    """Return the columns of a file by name; None where a cell is missing."""
    columns = {name}.read_table(path)
{moments}    return {{name: {cells} for name in columns.column_names}}'''
    constants = _paths(paths) + (f"\nMISSING = {literal(list(missing), 10)}" if texts else "")
    return {
        "imports": tuple(imports),
        "constants": constants,
        "text": f"{CLEAN}\n\n\n{text}\n\n\n{_all_files(paths)}" if texts else f"{text}\n\n\n{_all_files(paths)}",
    }


def bundled_table(name: str, labels: str, targets: Sequence[str]) -> dict[str, Any]:
    """Return how a table that comes with scikit-learn is read.

    Args:
        name: Of the set.
        labels: names, values or several, what the target holds.
        targets: Its columns.
    """
    call = "load_diabetes(scaled=False)" if name == "diabetes" else f"load_{name}()"
    text = f"data = {call}\ntable = dict(zip(data.feature_names, data.data.T))\n"
    if labels == "several":
        text += "table |= dict(zip(data.target_names, data.target.T))"
    else:
        text += f'table["target"] = {"data.target_names[data.target]" if labels == "names" else "data.target"}'
    return {"imports": (f"from sklearn.datasets import load_{name}",), "constants": "", "text": text}


DIGITS: dict[str, Any] = {
    "imports": ("from sklearn.datasets import load_digits",),
    "constants": "",
    "text": "data = load_digits()\nraw, labels = data.images.astype(np.uint8), data.target",
}
IDX = '''def read_idx(path):
    """Return the array of an idx file (the format of MNIST): type and number of axes, their lengths, the numbers."""
    with {opened} as stream:
        content = stream.read()
    dtype = {{8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}}[content[2]]
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], ">u4").astype(int)
    values = np.frombuffer(content[start:], dtype).reshape(shape)
    return values.astype(values.dtype.newbyteorder("="))'''


def npz_arrays(path: str, parts: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return how an .npz file is read.

    Args:
        path: The file.
        parts: Names of input and target; several pairs are put one below the other.
    """
    keys = [[f"file[{pair[place]!r}]" for pair in parts] for place in range(2)]
    one, other = (part[0] if len(part) == 1 else f"np.concatenate([{', '.join(part)}])" for part in keys)
    text = f"with np.load(DATA) as file:\n    raw = {one}\n    labels = {other}"
    return {"imports": ("from pathlib import Path",), "constants": _paths([path]), "text": text}


def hdf5_arrays(path: str, pair: tuple[str, str]) -> dict[str, Any]:
    """Return how an HDF5 file is read: the names of input and target."""
    text = f"with h5py.File(DATA) as file:\n    raw, labels = file[{pair[0]!r}][:], file[{pair[1]!r}][:]"
    return {"imports": ("from pathlib import Path", "import h5py"), "constants": _paths([path]), "text": text}


def single_arrays(path: str, labels: str) -> dict[str, Any]:
    """Return how an .npy or idx file is read, with that of its labels."""
    packed = any(name.endswith(".gz") for name in (path, labels))
    imports = ["from pathlib import Path", *(["import gzip"] if packed else [])]
    constants = f"{_paths([path])}\nLABELS = Path({labels!r})"
    if path.endswith(".npy"):
        return {
            "imports": tuple(imports),
            "constants": constants,
            "text": "raw, labels = np.load(DATA), np.load(LABELS)",
        }
    text = IDX.format(opened='gzip.open(path, "rb")' if packed else 'open(path, "rb")')
    return {
        "imports": tuple(imports),
        "constants": constants,
        "text": f"{text}\n\n\nraw, labels = read_idx(DATA), read_idx(LABELS)",
    }


def _paths(paths: Sequence[str]) -> str:
    if len(paths) == 1:
        return f"DATA = Path({paths[0]!r})"
    return "DATA = [\n" + "".join(f"    Path({path!r}),\n" for path in paths) + "]"


def _all_files(paths: Sequence[str]) -> str:
    return "table = read_table(DATA)" if len(paths) == 1 else TOGETHER


def sequences_by_column(name: str) -> str:
    """Return code for rows whose steps have one value in a column."""
    return f"""keys = table[{name!r}]  # rows of one value, one below the other, are a sequence
starts = np.array([row for row in range(len(keys)) if row == 0 or keys[row] != keys[row - 1]])
lengths = np.diff([*starts, len(keys)])"""


def sequences_in_files(pattern: str, names: Sequence[str], columns: Sequence[str] | None) -> str:
    """Return code for rows whose steps lie in files that a table names.

    Args:
        pattern: With the names of columns in braces.
        names: Those columns.
        columns: The step files' columns.
    """
    values = ", ".join(f"table[{name!r}]" for name in names)
    path = pattern
    for name in names:
        path = path.replace("{" + name + "}", "{}")
    return f"""about = table  # a row per sequence; its steps are in a file
pieces = [read_table(DATA.parent / {path!r}.format(*key)) for key in zip({values})]
table = {{name: [cell for piece in pieces for cell in piece[name]] for name in {literal(list(columns or []))}}}
lengths = np.array([len(piece[{(columns or [""])[0]!r}]) for piece in pieces])
starts = np.cumsum(lengths) - lengths"""


def windows_over(segments: Sequence[tuple[int, int]], window: int, horizon: int, stride: int) -> str:
    """Return code for windows over steps, none of which leaves its segment."""
    reach = window + horizon
    each = f"range(begin, end - {reach - 1}, {stride})" if stride != 1 else f"range(begin, end - {reach - 1})"
    return f"""SEGMENTS = {literal([tuple(pair) for pair in segments], 11)}  # steps of one part each: no window crosses a border
WINDOW, HORIZON = {window}, {horizon}  # steps of a window; how many steps after its last one the target lies
starts = np.array([start for begin, end in SEGMENTS for start in {each}])
lengths = np.full(len(starts), WINDOW)"""


def write_rows(page: Page, recipe: Recipe) -> None:
    """Write the section that reads the rows, and the target of all of them."""
    source, steps = recipe.source, recipe.steps
    page.need(*source.imports, "import numpy as np")
    parts = [*source.text.split("\n\n\n"), *([] if steps is None else [steps.text])]
    page.section("Reading the data", [*parts, *_target(recipe)])


def _target(recipe: Recipe) -> list[str]:
    """Return code for ``truth``, what is true of each row or step, in NumPy."""
    target, source = recipe.target, recipe.source
    maker = _table_target if source.table else _array_target
    code = maker(target.task, target.names, target.classes, source)
    if recipe.steps is not None and recipe.steps.horizon:
        code.append("truth = truth[starts + WINDOW - 1 + HORIZON]")
    return ["# What is to be predicted.\n" + "\n".join(code)]


def _array_target(task: str, names: Sequence[str], classes: Sequence[Any], source: Source) -> list[str]:
    if task == "regression":
        return ["truth = labels.reshape(len(labels), -1).astype(np.float64)"]
    if task == "multilabel":
        yes = f"(labels == 1) | np.isin(np.char.lower(labels.astype(str)), {YES!r})"
        return [f"truth = ({yes}).astype(np.int64)  # (rows, labels)"]
    if list(classes) == list(range(len(classes))) and type(classes[0]) is int:
        return [f"CLASSES = list(range({len(classes)}))", "truth = labels.reshape(-1).astype(np.int64)"]
    whole = ".astype(np.int64)" if type(classes[0]) is int else ""
    return [
        f"CLASSES, truth = np.unique(labels.reshape(-1){whole}, return_inverse=True)",
        "CLASSES = CLASSES.tolist()",
    ]


def _table_target(task: str, names: Sequence[str], classes: Sequence[Any], source: Source) -> list[str]:
    columns = [source.answer.format(literal(name)) for name in names]
    number = number_code(source)
    if task == "regression":
        if len(columns) == 1:
            return [f"truth = np.array([[{number}] for cell in {columns[0]}])"]
        listed = f"[{', '.join(columns)}]" if source.answer != "table[{}]" else f"[table[name] for name in {list(names)!r}]"
        return [f"truth = np.array([[{number} for cell in column] for column in {listed}]).T.copy()"]
    if task == "multilabel":
        yes = f"cell == 1 or str(cell).lower() in {YES!r}" if source.typed else f"cell.lower() in {YES!r}"
        return [
            f"LABELS = {literal(list(names), 9)}",
            f"truth = np.array([[{yes} for cell in {source.answer.format('name')}] for name in LABELS]).T.astype(np.int64)",
        ]
    cell = class_code(classes, source)
    return [
        f"CLASSES = {literal([_written(label) for label in classes], 10)}",
        "number_of = {label: number for number, label in enumerate(CLASSES)}",
        f"truth = np.array([number_of[{cell}] for cell in {columns[0]}])",
    ]


def number_code(source: Source) -> str:
    """Return code for a cell as a number."""
    return f"float({pointed_code(source)})"


def pointed_code(source: Source) -> str:
    """Return code for a cell with a decimal point and without thousands marks."""
    mark = source.marks.grouping
    if source.typed or mark is None:
        return "cell"
    spellings = {" ": '"".join(cell.split())', "'": 'cell.replace("\'", "").replace("\u2019", "")'}
    code = spellings.get(mark, f'cell.replace("{mark}", "")')
    return code if source.marks.decimal == "." else f'{code}.replace(",", ".")'


def _written(label: Any) -> Any:
    """Return a class as a script holds it: dates and times, those of a zone in UTC, as the texts of `class_code`."""
    if isinstance(label, datetime) and label.tzinfo is not None:
        label = label.astimezone(UTC).replace(tzinfo=None)
    return label.isoformat() if isinstance(label, date) else label


def class_code(classes: Sequence[Any], source: Source) -> str:
    """Return code for a cell as the class it names."""
    kind = type(classes[0])
    if issubclass(kind, date):  # of midnights alone days are left, as of a column of days
        return "cell.isoformat()" if kind is datetime else "cell.isoformat()[:10]"
    exact = kind is int and max(map(abs, classes)) > 2**53  # which a float does not hold
    whole = "int({})" if exact else "int(float({}))"
    pointed = pointed_code(source)
    if source.renamed:
        renamed: Mapping[str, str] = dict(source.renamed)
        inner = f"{literal(renamed)}.get(cell, cell)"
        return inner if kind is str else whole.format(inner) if kind is int else f"float({inner})"
    if kind is str or kind is bool:
        return "str(cell)" if kind is str and source.typed else "cell"
    return ("int(cell)" if source.typed else whole.format(pointed)) if kind is int else f"float({pointed})"


YES = (*TRUE_WORDS, "1")
WORDS = {**dict.fromkeys(YES, 1.0), **dict.fromkeys((*FALSE_WORDS, "0"), 0.0)}
