"""What a run gets when the config describes no network: layers for each shape of data, as the texts a user would write. Floor 4."""

from __future__ import annotations

from netwright.model.defaults_images import SPACES, picture_layers
from netwright.model.defaults_series import convolutions
from netwright.model.layers import Form
from netwright.model.recipes import MANY_ROWS, Recipe, table_recipe

MOST_NUMBERS = 64  # columns that get an embedding; more would make the layer after it large


def default_layers(
    form: Form,
    categories: bool,
    per_step: bool = False,
    padded: bool = False,
    numbers: int = 0,
    recipe: Recipe | None = None,
) -> list[str]:
    """Return layer texts for a form of data.

    Args:
        form: The shape of one prepared row.
        categories: Whether category columns stay codes for `EmbedColumns`.
        per_step: Whether each step of a row gets an output.
        padded: Whether sequences differ in length.
        numbers: How many of the first features of a table are numbers.
        recipe: Of a table, images or volumes; None for a table of many rows and classes, and for images that stay where they are.

    Returns:
        For tables periodic embeddings of the numbers and a multilayer perceptron; a small residual network for images and
        volumes; for series convolutions of several lengths side by side; a GRU for answers per step and for symbols.

    Example:
        >>> default_layers(Form((10,), "NC"), categories=False, numbers=10)[:2]
        ['PeriodicEmbeddings(16, frequencies=32, sigma=0.3)', 'Linear(128)']
    """
    last = [] if per_step else ["LastStep()"]
    if form.codes and len(form.shape) == 1:
        return ["Embedding(32)", "GRU(128)", *last, "Linear()"]
    if form.layout in ("NCT", "NTC"):
        first = ["Transpose()"] if form.layout == "NCT" else []
        if recipe is not None and recipe.layers is not None:
            return [*first, *recipe.layers]
        if per_step or len(form.shape) < 2:
            return [*first, "GRU(64)", *last, "Linear()"]
        return convolutions(form.shape[form.layout.index("T") - 1], padded, form.layout == "NTC")
    if form.layout == "NC" and not form.codes:
        return _table_layers(categories, numbers, recipe or table_recipe(MANY_ROWS, amounts=False))
    if form.layout in SPACES:
        return picture_layers(form) if recipe is None else picture_layers(form, recipe.shift, recipe.stretch)
    return ["Flatten()", "Linear(128)", "ReLU()", "Linear()"]


def _table_layers(categories: bool, numbers: int, recipe: Recipe) -> list[str]:
    """Return a multilayer perceptron of embedded columns."""
    first = ["EmbedColumns()"] if categories else []
    if 0 < numbers <= MOST_NUMBERS:
        first.append(f"PeriodicEmbeddings(16, frequencies=32, sigma={recipe.sigma})")
    hidden = ["Linear(128)", *recipe.between]
    return [*first, *hidden, *hidden, "Linear()"]
