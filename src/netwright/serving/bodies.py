"""From the body of a request to raw rows: strict JSON, CSV, images. What does not fit is one line and a status. Floor 17."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from netwright.data.array_preparation import ArrayPreparation
from netwright.data.column import Column
from netwright.errors import did_you_mean
from netwright.rows import pictures
from netwright.rows.reading import reading_of
from netwright.sources import image_files
from netwright.sources.arrays import Arrays
from netwright.sources.cells import DATE
from netwright.sources.places import Place, held
from netwright.sources.tables import Origin, Table, repeated
from netwright.sources.texts import MOST_COLUMNS, count_fields, read_text
from netwright.trained.predicting import Predictor

MOST_ROWS = 10_000  # of one request
MOST_IMAGES = 256
MOST_MEANT = 1000  # keys of a row that a missing one is compared with
IMAGE_ENDINGS = {  # by content type
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/bmp": ".bmp",
    "image/tiff": ".tiff",
    "image/gif": ".gif",
}
BODY = "body"  # what messages call what was sent


class RefusedError(Exception):
    """A request that cannot be answered.

    Args:
        status: The HTTP status, 4xx or 503.
        message: One line: what came, what was expected, what to do.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _refuse(status: int, message: str) -> NoReturn:
    raise RefusedError(status, message)


def read_json(body: bytes) -> Any:
    """Return the value of a JSON body, read strictly.

    Args:
        body: UTF-8.

    Raises:
        RefusedError: 400 for no JSON: a syntax error, NaN or Infinity, a key twice, too many digits or levels.

    Example:
        >>> read_json(b'{"rows": [{"age": 3}]}')
        {'rows': [{'age': 3}]}
        >>> read_json(b"[NaN]")
        Traceback (most recent call last):
        netwright.serving.bodies.RefusedError: body: NaN is no JSON; expected a number or null; write null for a missing value
    """
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        reason = f"byte {error.start + 1} is no UTF-8"
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at line {error.lineno} column {error.colno}"
    except RecursionError:
        reason = "values are nested too deeply"
    except ValueError:  # the digits of an integer, which Python limits
        reason = "a number has too many digits"
    _refuse(400, f"{BODY}: {reason}; expected JSON; check what was sent")


def _no_constant(name: str) -> NoReturn:
    _refuse(400, f"{BODY}: {name} is no JSON; expected a number or null; write null for a missing value")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _refuse(
            400, f"{BODY}: key {repeated(key for key, _ in pairs)!r} came twice in an object; expected each once; remove one"
        )
    return found


def only_value(tree: Any, key: str) -> Any:
    """Return the value of an object that holds one key.

    Raises:
        RefusedError: 422 for something else.
    """
    if not isinstance(tree, dict):
        _refuse(422, f"{BODY}: {_kind(tree)} came; expected an object with the key {key!r}; see /openapi.json")
    for name in tree:
        if name != key:
            near = did_you_mean(name, [key])
            row = f'expected rows in a list, {{"{key}": [{{"{name}": ...}}]}}; see /openapi.json'
            _refuse(
                422, f"{BODY}: key {name!r} is not known; {row if key not in tree and near.startswith('known') else near}"
            )
    if key not in tree:
        _refuse(422, f"{BODY}: key {key!r} is missing; expected it; see /openapi.json")
    return tree[key]


def _rows(value: Any, key: str, most: int = MOST_ROWS) -> list[Any]:
    """Return a list of rows, at least one and not too many."""
    if not isinstance(value, list):
        _refuse(422, f"{BODY}: {key}: {_kind(value)} came; expected a list of rows; see /openapi.json")
    refuse_many(len(value), most)
    return value


def refuse_many(count: int, most: int = MOST_ROWS) -> None:
    """Refuse no rows, and more than one request may hold.

    Raises:
        RefusedError: 422.
    """
    if not count:
        _refuse(422, f"{BODY}: no rows; expected at least one row; check what was sent")
    if count > most:
        _refuse(422, f"{BODY}: {count} rows came; expected at most {most} in one request; send them in parts")


def _meant(missing: str, came: Iterable[str]) -> str:
    """Return which key of a row a missing one may be; only the first are looked at, as a client writes as many as it likes."""
    return did_you_mean(missing, islice(came, MOST_MEANT))


def _kind(value: Any) -> str:
    """Return what a JSON value is, in words."""
    if value is None:
        return "null"
    names = ((bool, "a boolean"), (int | float, "a number"), (str, "a text"), (list, "a list"), (dict, "an object"))
    return next(word for kind, word in names if isinstance(value, kind))


def table_of(value: Any, columns: Sequence[Column]) -> tuple[Table, list[str]]:
    """Return JSON rows as a table of the columns that the network reads.

    Args:
        value: A list of objects; null is a missing value.
        columns: What the network reads.

    Returns:
        The table, and the names that it does not read.

    Raises:
        RefusedError: 422 for a row that is no object, lacks a column, or holds another kind of value.
    """
    rows = _rows(value, "rows")
    names = [column.name for column in columns]
    wanted = set(names)
    more: dict[str, None] = {}
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            _refuse(422, f"{BODY}: row {place + 1}: {_kind(row)} came; expected an object of columns; see /openapi.json")
        if row.keys() != wanted:
            missing = next((name for name in names if name not in row), None)
            if missing is not None:
                _refuse(
                    422,
                    f"{BODY}: row {place + 1}: column {missing!r} is missing; the network reads it; {_meant(missing, row)}; "
                    "write null where the value is not known",
                )
            more |= dict.fromkeys(name for name in row if name not in wanted)
    arrays = {column.name: _cells(column, [row[column.name] for row in rows]) for column in columns}
    return Table(pa.table(arrays), (Origin(BODY, len(rows)),)), list(more)


ACCEPTED = {
    "number": ((int, float), "a number or null"),
    "boolean": ((bool,), "true, false or null"),
    "date": ((str,), "a text such as 2024-01-31, or null"),
    "category": ((str, int, float, bool), "a text, a number, true, false or null"),
}


def _cells(column: Column, values: Sequence[Any]) -> pa.Array:
    """Return the cells of one column as Arrow's type of its kind."""
    kinds, wanted = ACCEPTED[column.kind]
    if not {type(value) for value in values} <= {*kinds, type(None)}:
        row = next(place for place, value in enumerate(values) if value is not None and type(value) not in kinds)
        _refuse(
            422,
            f"{BODY}: row {row + 1}: column {column.name!r}: {shortened(values[row])} is {_kind(values[row])}; expected {wanted}; "
            "mend the cell",
        )
    if column.kind == "number":
        return pa.array([_double(value) for value in values], pa.float64())
    if column.kind == "boolean":
        return pa.array(values, pa.bool_())
    if column.kind == "date":
        wrong = next((place for place, value in enumerate(values) if value is not None and not re.match(DATE, value)), None)
        if wrong is not None:
            what = f"{BODY}: row {wrong + 1}: column {column.name!r}: {values[wrong][:40]!r} is no date"
            _refuse(422, f"{what}; expected 2024-01-31 or 2024-01-31T12:00:00; mend the cell")
    texts = [value if value is None or type(value) is str else json.dumps(value) for value in values]
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:
        _refuse(422, f"{BODY}: column {column.name!r}: half of a surrogate pair came; expected a text; mend the cell")


def _double(value: float | None) -> float | None:
    """Return a number as a double; whole numbers beyond it are infinite, which the preparation refuses."""
    try:
        return None if value is None else float(value)
    except OverflowError:
        return math.inf


def shortened(value: Any) -> str:
    """Return a value as a message shows it, in at most some dozen characters."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def arrays_of(value: Any, modules: Mapping[str, ArrayPreparation]) -> Arrays:
    """Return nested lists as the arrays that the network reads.

    Args:
        value: Lists ``(rows, ...)``, or an object of such by the name of the input where there are several; null is missing.
        modules: How each input is prepared, which tells its shape.

    Raises:
        RefusedError: 422 for another shape or something else than numbers.
    """
    if len(modules) == 1:
        value = {next(iter(modules)): value}
    elif not isinstance(value, dict) or set(value) != set(modules):
        _refuse(422, f"{BODY}: inputs: {_kind(value)} came; expected an object with the inputs {', '.join(modules)}")
    found = {}
    for name, module in modules.items():
        rows = _rows(value[name], "inputs")
        for place, row in enumerate(rows):
            _check_shape(row, module.shape, f"{BODY}: row {place + 1}")
        try:
            found[name] = np.array(rows, dtype=np.float64).reshape(len(rows), *module.shape)
        except OverflowError:
            _refuse(422, f"{BODY}: array {name!r} holds a number beyond float32; expected finite numbers; mend it")
    counts = {len(part) for part in found.values()}
    if len(counts) > 1:
        _refuse(422, f"{BODY}: inputs of {', '.join(map(str, sorted(counts)))} rows came; expected equally many; check them")
    return Arrays(found, None, (Origin(BODY, counts.pop()),))


def _check_shape(value: Any, shape: Sequence[int], where: str) -> None:
    """Refuse what is no nested list of numbers of a shape."""
    if not shape:
        if value is not None and type(value) not in (int, float):
            _refuse(422, f"{where}: {_kind(value)} came; expected a number or null; see /openapi.json")
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        came = f"a list of {len(value)}" if isinstance(value, list) else _kind(value)
        _refuse(422, f"{where}: {came} came; expected lists of shape {tuple(shape)}; see /openapi.json")
    if len(shape) > 1 or not {type(part) for part in value} <= {int, float, type(None)}:
        for part in value:
            _check_shape(part, shape[1:], where)


def steps_of(tree: Any, columns: Sequence[Column] = ()) -> Any:
    """Return JSON rows of steps as what `netwright.rows.new_rows.read` takes: a frame of columns, or arrays.

    Args:
        tree: ``{"rows": [objects]}``, or ``{"inputs": [a list of steps for each row]}``; null is a missing value.
        columns: What the network reads of a table; other columns, such as the name of a sequence, hold values of one kind.

    Raises:
        RefusedError: 422 for neither, rows of different columns, and something else than numbers where those are read.
    """
    key = "inputs" if isinstance(tree, dict) and "inputs" in tree else "rows"
    rows = _rows(only_value(tree, key), key)
    if key == "inputs":
        for place, row in enumerate(rows):
            _check_numbers(row, f"{BODY}: row {place + 1}")
        try:
            found = [np.array(row, dtype=np.float64) for row in rows]
        except (TypeError, ValueError, OverflowError):
            _refuse(422, f"{BODY}: inputs hold something else than numbers; expected a list of steps for each row; mend it")
        return np.stack(found) if len({part.shape for part in found}) == 1 else found
    for place, row in enumerate(rows):
        if not isinstance(row, dict) or any(isinstance(cell, list | dict) for cell in row.values()):
            _refuse(422, f"{BODY}: row {place + 1}: expected an object of columns with a value each; see /openapi.json")
        if row.keys() != rows[0].keys():
            _refuse_uneven(row, rows[0], place + 1)
    if len(rows[0]) > MOST_COLUMNS:
        _refuse(
            422, f"{BODY}: {len(rows[0])} columns came; expected at most {MOST_COLUMNS}; leave out those that are not read"
        )
    known = {column.name: column for column in columns if column.kind != "category"}  # of categories Arrow tells the type
    try:
        cells = {name: [row[name] for row in rows] for name in rows[0]}
        return pa.table(
            {name: _cells(known[name], part) if name in known else pa.array(part) for name, part in cells.items()}
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        _refuse(422, f"{BODY}: a column holds values of different kinds; expected one kind each; mend it")


def _check_numbers(value: Any, where: str) -> None:
    """Refuse what is no nested list of numbers and nulls, of any shape."""
    if isinstance(value, list):
        if not {type(part) for part in value} <= {int, float, type(None)}:
            for part in value:
                _check_numbers(part, where)
    elif value is not None and type(value) not in (int, float):
        _refuse(422, f"{where}: {shortened(value)} is {_kind(value)}; expected numbers and nulls; mend it")


def _refuse_uneven(row: dict[str, Any], first: dict[str, Any], number: int) -> NoReturn:
    """Refuse a row that has other columns than the first."""
    lacking, known = (row, first) if len(row) < len(first) else (first, row)
    name = next(name for name in known if name not in lacking)
    came = f"column {name!r} of row 1 is missing" if lacking is row else f"column {name!r} came, which row 1 lacks"
    _refuse(
        422,
        f"{BODY}: row {number}: {came}; expected the same columns in each; {_meant(name, lacking)}; write null where a value is "
        "not known",
    )


def csv_of(body: bytes, run: Predictor) -> Table:
    """Return a CSV body as `predict` would read it from a file; the target may be left out.

    Raises:
        DataError: See `netwright.sources.texts.read_text`; lines are named.
        RefusedError: Too many rows.
    """
    options = reading_of(run.config.data).text
    place = held(f"{BODY}.csv", body)
    if options.columns is not None:
        features = tuple(name for name in options.columns if name not in run.program.outcome.names)
        if count_fields(place, options) == len(features):
            options = replace(options, columns=features)
    found = read_text(place, options)
    refuse_many(found.rows)
    return found


def images_of(body: bytes, content_type: str, run: Predictor) -> Arrays:
    """Return one image, or the files of a form, as `predict` would read them from files.

    Raises:
        DataError, SafetyError: See `netwright.sources.images.decode`.
        RefusedError: A form that cannot be read, or holds no images.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind in IMAGE_ENDINGS:
        found = [held(f"image{IMAGE_ENDINGS[kind]}", body)]
    else:
        found = list(_files(body, content_type))
        refuse_many(len(found), MOST_IMAGES)
    return pictures.decoded(image_files.of_paths(found), run.config.data)


def _files(body: bytes, content_type: str) -> Iterable[Place]:
    """Return the files of a form, named by their order; names that clients write are not used."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import FormParser, parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        _refuse(400, f"{BODY}: the form has no boundary; expected one in Content-Type; let the client write the header")
    found: list[Any] = []
    settings = {"MAX_MEMORY_FILE_SIZE": len(body) + 1, "UPLOAD_DELETE_TMP": True}  # nothing is put on the disk
    parser = FormParser("multipart/form-data", lambda field: None, found.append, boundary=boundary, config=settings)
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError:
        _refuse(400, f"{BODY}: no form that can be read; expected multipart/form-data with files; check the client")
    for place, file in enumerate(found):
        content = file.file_object.getvalue()
        yield held(f"image {place + 1}{_ending(content)}", content)


def _ending(content: bytes) -> str:
    """Return the ending of an image by its first bytes; Pillow decides what it holds."""
    heads = ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"RIFF", ".webp"), (b"BM", ".bmp"), (b"GIF8", ".gif"))
    found = next((ending for head, ending in heads if content.startswith(head)), None)
    return found or (".tiff" if content[:4] in (b"II*\x00", b"MM\x00*") else ".png")
