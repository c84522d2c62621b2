"""A run as a standalone script in plain PyTorch, written from small pieces: only what the run needs is there. Floor 10."""

from __future__ import annotations

import ast

from netwright.errors import ConfigError
from netwright.exporting.recipe import Page, Recipe
from netwright.exporting.script_model import write_model
from netwright.exporting.script_preparation import write_preparation, write_split
from netwright.exporting.script_rows import write_rows
from netwright.exporting.script_schedule import write_schedule
from netwright.exporting.script_step import autocast_code
from netwright.exporting.script_training import write_figures, write_test, write_training


def write_script(recipe: Recipe) -> str:
    """Return the script.

    Raises:
        ConfigError: The own class uses a name that the script needs.
    """
    page = Page()
    _write_settings(page, recipe)
    write_rows(page, recipe)
    write_split(page, recipe)
    write_preparation(page, recipe)
    write_model(page, recipe)
    write_schedule(page, recipe)
    write_figures(page, recipe)
    write_training(page, recipe)
    write_test(page, recipe)
    text = f"{_heading(recipe)}\n\n{page}"
    if recipe.own is not None:
        _refuse_clash(text, recipe.own.text)
    return text


def _heading(recipe: Recipe) -> str:
    return f'''"""{recipe.name}: a network in plain PyTorch, from reading the data to predicting.

Run it with split.npz, the row numbers of train, valid and test, beside it. On the machine, with the torch, of the run it
was written from, it ends with the same weights and figures, bit for bit.
"""'''


def _write_settings(page: Page, recipe: Recipe) -> None:
    page.need("from pathlib import Path", "import torch")
    parts = ["HERE = Path(__file__).parent  # split.npz lies here; the weights will"]
    if recipe.source.constants:
        parts.append(recipe.source.constants)
    threads = recipe.learning.threads
    lines = (
        []
        if threads is None
        else [f"torch.set_num_threads({threads})  # sums in another number of threads differ in the last bits"]
    )
    if recipe.learning.precision == "tf32":
        lines.append('torch.set_float32_matmul_precision("high")')
    if autocast_code(recipe) and (recipe.layers is None or any("Transformer" in str(call) for call in recipe.layers)):
        lines.append("torch.backends.mha.set_fastpath_enabled(False)  # which mixes up dtypes under autocast")
    page.section("Settings", [*parts, "\n".join(lines)])


def _refuse_clash(text: str, own: str) -> None:
    """Refuse an own class that makes a name which the script makes too."""
    made: dict[str, int] = {}
    names = _names(own)
    for name in _names_in_order(text):
        made[name] = made.get(name, 0) + 1
    clash = sorted(name for name in names if made.get(name, 0) > _names_in_order(own).count(name))
    if clash:
        raise ConfigError(
            f"eject: the own module makes the name {clash[0]!r}, which the script uses for something else; expected another name; "
            "rename it and train again"
        )


def _names(text: str) -> set[str]:
    return set(_names_in_order(text))


def _names_in_order(text: str) -> list[str]:
    """Return the names that a text makes at its top level."""
    found = []
    for item in ast.parse(text).body:
        if isinstance(item, ast.FunctionDef | ast.ClassDef):
            found.append(item.name)
        else:
            found += [node.id for node in ast.walk(item) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return found
