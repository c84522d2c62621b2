"""The parts of an ejected script that divide rows and prepare them: what it takes is learned on the train rows. Floor 10."""

from __future__ import annotations

from collections.abc import Sequence

from netwright.data import features, moments
from netwright.data.array_preparation import ADDED_CHANNEL, CHUNK, MOVED_CHANNEL, ArrayPreparation
from netwright.data.batches import PADDED_CLASS
from netwright.data.columns import MISSING_LEVEL
from netwright.data.preparation import TablePreparation
from netwright.errors import ConfigError
from netwright.exporting.printing import literal, printed
from netwright.exporting.recipe import Page, Recipe
from netwright.exporting.script_rows import WORDS, number_code
from netwright.model.task import ROUNDING

STEPS_OF = '''def steps_of(rows):
    """Return the numbers of the steps of some rows, row after row."""
    return np.concatenate([np.arange(starts[row], starts[row] + lengths[row]) for row in rows])'''
EPOCH = "datetime(1970, 1, 1)"
AS_FLOAT = (
    "float64",
    "int32",
    "int64",
    "uint16",
    "uint32",
    "uint64",
)  # scaled as float64; float32 would lose their last digits


def write_split(page: Page, recipe: Recipe) -> None:
    """Write the section that loads the split."""
    page.need("import numpy as np", "from pathlib import Path")
    names = ["train", *(["valid"] if recipe.valid else []), *(["test"] if recipe.test else [])]
    read = ", ".join(f'split["{name}"]' for name in names)
    text = f"""# Row numbers, saved once, so that every script and every network is judged on the same rows.
with np.load(HERE / "split.npz") as split:
    {", ".join(f"{name}_rows" for name in names)} = {read}"""
    page.section("Who trains, who validates, who tests", [text])


def write_preparation(page: Page, recipe: Recipe) -> None:
    """Write the section that prepares inputs and target."""
    page.need("import torch")
    module = next(iter(recipe.preparation.modules.values()))
    parts: list[str] = []
    of_steps = recipe.steps is not None
    if of_steps:
        parts.append(STEPS_OF)
    fitted = "fitted_rows" if of_steps else "train_rows"
    if isinstance(module, TablePreparation):
        if of_steps:
            parts.append("fitted_rows = np.unique(steps_of(train_rows))  # the steps of the train rows, each once")
        parts += _table(page, recipe, module, fitted)
        made = "X = prepare(table)"
    elif isinstance(module, ArrayPreparation):
        if of_steps and module.mode == "standardize":
            parts.append("fitted_rows = np.unique(steps_of(train_rows))  # the steps of the train rows, each once")
        parts += _array(recipe, module, fitted)
        made = "X = prepare(raw)"
    else:
        raise ConfigError(f"eject: {type(module).__name__} came; expected the preparation of a table or of arrays")
    if recipe.steps is not None and recipe.steps.stacked:
        made += f"\nX = X.reshape(len(starts), {recipe.steps.width}, *X.shape[1:])  # (rows, time, features)"
        channels_first = recipe.preparation.steps is not None and recipe.preparation.steps.channels_first
        made += "\nX = X.transpose(1, 2).contiguous()  # (rows, channels, time)" if channels_first else ""
    page.section(
        "Preparation: learned on the train rows only, applied to all", [*parts, made, *_target_of_loss(page, recipe)]
    )


def _table(page: Page, recipe: Recipe, module: TablePreparation, fitted: str) -> list[str]:
    """Return the paragraphs that prepare a table."""
    encoder = recipe.preparation.encoder
    used = [] if encoder is None else encoder.used
    places = module.plain + module.dates
    parts, features_of = [], []
    gaps = bool(module.flagged) or recipe.source.gaps
    if places:
        readers = _readers(page, recipe, [used[place].kind for place in places], gaps)
        kinds = [(used[place].name, READER[used[place].kind]) for place in places]
        if len({reader for _, reader in kinds}) == 1:
            parts.append(f"NUMBERS = {literal([name for name, _ in kinds], 10)}")
            each = f"[[{kinds[0][1]}(cell) for cell in table[name]] for name in NUMBERS]"
        else:
            listed = "".join(f"    {name!r}: {reader},\n" for name, reader in kinds)
            parts += [*readers, f"READERS = {{\n{listed}}}"]
            each = "[[read(cell) for cell in table[name]] for name, read in READERS.items()]"
        if len({reader for _, reader in kinds}) == 1:
            parts[:0] = readers
        parts.append(f'''def cells_of(table):
    """Return the columns of amounts as float64 (rows, columns){", NaN where one is missing" if gaps else ""}."""
    return np.stack({each}, axis=1)''')
        parts += _fitted(module, fitted, page)
        features_of = _scaled(page, module, gaps, parts)
    if module.categories:
        names = [used[place].name for place in module.categories]
        parts += _categories(page, recipe, names, fitted)
        features_of.append("*(codes(table, name) for name in CATEGORIES)")
    body = ["    cells = torch.from_numpy(cells_of(table))"] if places else []
    if places:
        filled = gaps and not (module.numbers == "none" and not module.dates and not gaps)
        body += ["    filled = torch.where(cells.isnan(), fill, cells)"] if filled else ["    filled = cells"]
        body = body if filled else ["    filled = torch.from_numpy(cells_of(table))"]
        scaled = "    scaled = filled" if _unscaled(module) else "    scaled = (filled - mean) / scale"
        body.append(scaled)
        count = len(module.plain)
        if module.numbers == "quantile" and count:
            body.append(f"    ranked = normal_scores(filled[:, :{count}], points, shares)")
    joined = f"torch.cat([{', '.join(features_of)}], dim=1)" if len(features_of) != 1 or "*" in features_of[0] else None
    result = joined or features_of[0]
    parts.append(
        'def prepare(table):\n    """Return the features of a table, float32 (rows, features)."""\n'
        + "\n".join(body)
        + ("\n" if body else "")
        + f"    return {result}.float()"
    )
    return parts


READER = {"number": "number", "boolean": "truth_of", "date": "days"}


GAP = "    if cell is None:\n        return np.nan\n"
DAYS_OF_TEXT = """{gap}    cell = datetime.fromisoformat(cell.removesuffix("Z"))
    return ({since} - (cell.utcoffset() or timedelta())) / timedelta(microseconds=1) / 86_400e6"""


def _unscaled(module: TablePreparation) -> bool:
    return module.numbers == "none" and not module.dates


def _readers(page: Page, recipe: Recipe, kinds: Sequence[str], gaps: bool) -> list[str]:
    """Return the functions that read a cell."""
    source, found = recipe.source, []
    nan = "np.nan if cell is None else " if gaps else ""
    if "number" in kinds or ("boolean" in kinds and source.typed):
        found.append(
            f'def number(cell):\n    """Return a cell as a number."""\n    return {nan}{number_code(source)}'
            if nan or number_code(source) != "float(cell)"
            else "number = float"
        )
    if "boolean" in kinds:
        code = "float(cell)" if source.typed else "WORDS[cell.lower()]"
        text = f'def truth_of(cell):\n    """Return yes as 1, no as 0."""\n    return {nan}{code}'
        found += [text] if source.typed else [f"WORDS = {literal(WORDS, 8)}", text]
    if "date" in kinds:
        page.need("from datetime import datetime, timedelta")
        days = f"(cell - {EPOCH}) / timedelta(microseconds=1) / 86_400e6"
        since = f"cell.replace(tzinfo=None) - {EPOCH}"
        body = f"    return {nan}{days}" if source.typed else DAYS_OF_TEXT.format(gap=GAP if gaps else "", since=since)
        found.append(
            f'def days(cell):\n    """Return a date as days since 1970{"" if source.typed else ", of UTC"}."""\n{body}'
        )
    return found


def _fitted(module: TablePreparation, fitted: str, page: Page) -> list[str]:
    """Return the code that learns fills, means and deviations."""
    page.need("import numpy as np")
    if _unscaled(module) and module.numbers == "none":
        learned = "_, fill, _, _ = measured(cells_of(table)[{}])\nfill = torch.from_numpy(fill)"
        return [printed(moments.measured), learned.format(fitted)]
    parts = [f"SMALLEST = {moments.SMALLEST}  # deviations below this share of the mean are rounding"]
    parts += [printed(moments.measured), printed(moments.scale_of)]
    text = f"""cells = cells_of(table)[{fitted}]
_, fill, mean, squares = measured(cells)
fill, mean, scale = (torch.from_numpy(found) for found in (fill, mean, scale_of(mean, np.sqrt(squares / len(cells)))))"""
    count = len(module.plain)
    if module.numbers == "none":
        text += f"\nmean[:{count}], scale[:{count}] = 0.0, 1.0  # only dates are scaled"
    parts.append(text)
    if module.numbers == "quantile" and count:
        parts += [f"QUANTILES = {features.QUANTILES}", printed(features.ranks), printed(features.normal_scores)]
        parts.append(f"""filled = np.where(np.isnan(cells), fill.numpy(), cells)
known = [ranks(torch.from_numpy(np.ascontiguousarray(filled[:, place]))) for place in range({count})]
points, shares = (torch.stack(found) for found in zip(*known))""")
    return parts


def _scaled(page: Page, module: TablePreparation, gaps: bool, parts: list[str]) -> list[str]:
    """Return the code of the features made of amounts."""
    count = len(module.plain)
    numbers = "ranked" if module.numbers == "quantile" else f"scaled[:, :{count}]" if module.dates else "scaled"
    found = [numbers] if count else []
    if module.dates:
        page.need("import math")
        parts.append(printed(features.phases))
    for place in range(count, count + len(module.dates)):
        found += [f"scaled[:, [{place}]]", f"phases(filled[:, {place}])"]
    if module.flagged:
        order = module.plain + module.dates
        parts.append(
            f"FLAGGED = {[order.index(place) for place in module.flagged]}  # columns with gaps among the train rows"
        )
        found.append("cells[:, FLAGGED].isnan()")
    return found


def _categories(page: Page, recipe: Recipe, names: Sequence[str], fitted: str) -> list[str]:
    """Return the code that turns categories into whole codes or one column each."""
    module = next(iter(recipe.preparation.modules.values()))
    codes = isinstance(module, TablePreparation) and module.codes
    text = "str(cell).lower() if isinstance(cell, bool) else str(cell)" if recipe.source.typed else "cell"
    text = f"{MISSING_LEVEL!r} if cell is None else {text}".replace("'", '"') if recipe.source.gaps else text
    seen = "table[name][row]"
    level = f'''def level_of(cell):
    """Return the name of a category."""
    return {text}'''
    cell = "cell" if text == "cell" else "level_of(cell)"
    where = "level_of(" + seen + ")" if text != "cell" else seen
    if recipe.rare > 1:
        page.need("from collections import Counter")
        learned = f"""counts = {{name: Counter({where} for row in {fitted}) for name in CATEGORIES}}
levels = {{name: sorted(level for level in counts[name] if counts[name][level] >= {recipe.rare}) for name in CATEGORIES}}"""
    else:
        learned = f"levels = {{name: sorted({{{where} for row in {fitted}}}) for name in CATEGORIES}}"
    result = "numbers.double().unsqueeze(1)" if codes else "nn.functional.one_hot(numbers, len(known) + 1)[:, 1:].double()"
    page.need(*([] if codes else ["from torch import nn"]))
    said = "as whole numbers, 0 for one not seen in train, (rows, 1)" if codes else "as a column of 0 and 1 for each level"
    return [
        f"CATEGORIES = {literal(list(names), 13)}",
        *([] if text == "cell" else [level]),
        learned,
        f'''def codes(table, name):
    """Return a category {said}."""
    known = {{level: number for number, level in enumerate(levels[name], 1)}}
    numbers = torch.tensor([known.get({cell}, 0) for cell in table[name]])
    return {result}''',
    ]


def _array(recipe: Recipe, module: ArrayPreparation, fitted: str) -> list[str]:
    """Return the paragraphs that prepare an array."""
    dtype = recipe.source.dtype
    widened = {"uint16": "int64", "uint32": "int64", "uint64": "float64", "float16": "float32"}.get(dtype)
    tensor = f"torch.from_numpy(raw.astype(np.{widened}))" if widened else "torch.from_numpy(raw)"
    moved = (
        ".movedim(-1, 1)" if module.layout in MOVED_CHANNEL else ".unsqueeze(1)" if module.layout in ADDED_CHANNEL else ""
    )
    shape = ", ".join(("rows", *map(str, module.output_shape)))
    if module.mode == "codes":
        return [
            f'def prepare(raw):\n    """Return whole codes, int64 ({shape})."""\n    return {tensor}{moved}.long().contiguous()'
        ]
    parts: list[str] = []
    wide = dtype in AS_FLOAT
    result = f"{tensor}{moved}.float()"
    if module.mode == "standardize":
        parts = _channels(module, fitted, tensor + moved)
        result = (
            f"(({tensor}{moved} - mean) / scale).float()"
            if wide
            else f"(({tensor}{moved}.float() - mean.float()) / scale.float())"
        )
    if recipe.source.gaps:
        result += ".nan_to_num(nan=0.0)  # a missing number becomes the mean"
    elif moved:
        result += ".contiguous()"
    if recipe.source.gaps and moved:
        result = result.replace(".nan_to_num(nan=0.0)", ".nan_to_num(nan=0.0).contiguous()")
    return [*parts, f'def prepare(raw):\n    """Return rows as float32 ({shape})."""\n    return {result}']


def _channels(module: ArrayPreparation, fitted: str, tensor: str) -> list[str]:
    """Return the code that learns a mean and a deviation per channel or column."""
    smallest = f"SMALLEST = {moments.SMALLEST}  # deviations below this share of the mean are rounding"
    if module.output_layout == "NC":
        cells = tensor.replace("(raw", f"(raw[{fitted}]", 1)
        text = f"""cells = {cells}.double().numpy()
_, _, mean, squares = measured(cells)
mean, scale = torch.from_numpy(mean), torch.from_numpy(scale_of(mean, np.sqrt(squares / len(cells))))"""
        return [smallest, printed(moments.measured), printed(moments.scale_of), text]
    axis, shape = module.channel_axis, tuple(module.mean.shape)
    if axis is None:
        each, what = "part.reshape(1, -1)", "(1, numbers)"
    else:
        each, what = f"np.moveaxis(part, {axis}, 0).reshape(part.shape[{axis}], -1)", "(channels, numbers)"
    part = tensor.replace("(raw", f"(raw[{fitted}[start : start + {CHUNK}]]", 1)
    return [
        smallest,
        printed(moments.scale_of),
        printed(moments.channel_moments),
        f'''def blocks():
    """Yield the train rows, {CHUNK:,} at a time, as {what}."""
    for start in range(0, len({fitted}), {CHUNK}):
        part = {part}.double().numpy()
        yield np.ascontiguousarray({each})''',
        f"mean, scale = (torch.from_numpy(found).reshape({', '.join(map(str, shape))}) for found in channel_moments(blocks()))",
    ]


def _target_of_loss(page: Page, recipe: Recipe) -> list[str]:
    """Return the code of ``y``, the target as the loss reads it."""
    per_step = recipe.target.per_step
    known = "truth[steps_of(train_rows)]" if per_step else "truth[train_rows]"
    if recipe.target.task == "regression":
        if bool((recipe.decoding.mean == 0).all()) and bool((recipe.decoding.scale == 1).all()):
            code = "y = torch.from_numpy(truth).float()"
        else:
            code = f"""# The network learns a target of mean 0 and deviation 1; figures are in the units of the data.
average, deviation = {known}.mean(axis=0), {known}.std(axis=0)
target_mean = torch.from_numpy(average)
target_scale = torch.from_numpy(np.where(deviation > {ROUNDING} * np.abs(average), deviation, 1.0))
y = ((torch.from_numpy(truth) - target_mean) / target_scale).float()"""
    elif recipe.target.task == "multilabel":
        code = "y = torch.from_numpy(truth).float()"
    else:
        code = "y = torch.from_numpy(truth)" if recipe.class_target else "y = torch.from_numpy(truth).float().unsqueeze(1)"
    if per_step and recipe.steps is not None and recipe.steps.stacked:
        code += f"\ny = y.reshape(len(starts), {recipe.steps.width}, *y.shape[1:])"
    return [code, *_gather(recipe)]


def _gather(recipe: Recipe) -> list[str]:
    """Return the function that gathers rows of steps; rows that are no steps need none."""
    if recipe.gathered == "rows":
        return []
    steps = recipe.steps
    assert steps is not None  # noqa: S101 - gathered says so
    channels_first = recipe.preparation.steps is not None and recipe.preparation.steps.channels_first
    turned = ".transpose(1, 2).contiguous()" if channels_first else ""
    per_step = recipe.target.per_step
    known = "first_of, size_of = torch.from_numpy(starts), torch.from_numpy(lengths)  # of the steps of each row"
    if steps.form == "windows":
        answer = "y[steps]" if per_step else "y[rows]"
        return [
            known.replace(", size_of", "").replace(", torch.from_numpy(lengths)", ""),
            f'''def gather(rows):
    """Return the steps of some rows, (rows, time, features), and their target."""
    steps = first_of[rows].unsqueeze(1) + torch.arange({steps.width})
    return X[steps]{turned}, {answer}''',
        ]
    fill = f"{PADDED_CLASS}" if recipe.class_target else 'float("nan")'
    deep = "padding" if recipe.target.task in ("binary", "multiclass") and recipe.class_target else "padding.unsqueeze(2)"
    answer = f"y[steps].masked_fill({deep}, {fill})" if per_step else "y[rows]"
    return [
        known,
        f"RUNGS = {list(steps.rungs)}  # sequences of a batch are padded up to one of these lengths",
        f'''def gather(rows):
    """Return the steps of some rows, padded with 0 to one length, their target, and their lengths."""
    longest = size_of[rows].max()
    width = next(rung for rung in RUNGS if rung >= longest)
    padding = torch.arange(width) >= size_of[rows].unsqueeze(1)
    steps = (first_of[rows].unsqueeze(1) + torch.arange(width)).masked_fill(padding, 0)
    return X[steps].masked_fill(padding.unsqueeze(2), 0){turned}, {answer}, size_of[rows]''',
    ]
