"""What a run gets when the config describes no network: layers for each shape of data, as the texts a user would write, and for
tables, images and volumes the settings they were measured with (docs/tables.md, docs/images.md).

Floor 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from netwright.model.defaults_images import SPACES, picture_layers
from netwright.model.layers import Form

FEWEST_EPOCHS, MOST_EPOCHS, PATIENT_STEPS = 8, 100, 700  # without a gain after which a run ends
MOST_NUMBERS = 64  # columns that get an embedding; more would make the layer after it large
MANY_ROWS = 1_000


@final
@dataclass(frozen=True)
class Recipe:
    """What a default network is made of, and settings that it is trained with where the user has written no others.

    Without ``epochs`` and ``steps`` a run has ``epochs`` at most, and ends early when the valid rows gain nothing for ``patience``
    of them; None for as many as planned, which a ``schedule`` asks for. A table: ``numbers`` is how columns of numbers are
    scaled, None for the usual way; ``sigma`` is that of `PeriodicEmbeddings`; after each hidden layer come ``between``. Images
    and volumes: ``shift`` is how many places train rows are moved by at most.
    """

    optimizer: str
    batch_size: int
    epochs: int
    patience: int | None
    numbers: str | None = None
    sigma: float = 0.3
    between: tuple[str, ...] = ()
    schedule: str | None = None
    shift: int = 0
    of: str = "tables"


def table_recipe(rows: int, amounts: bool, numbers: str | None = "quantile") -> Recipe:
    """Return the settings for a table, chosen by measurement on valid rows (docs/tables.md).

    Args:
        rows: Train rows.
        amounts: Whether the target is amounts, not classes or labels: dropout costs accuracy there.
        numbers: How the numbers of such a table can be scaled; None where that is left to the settings.

    Example:
        >>> table_recipe(20_000, amounts=False).between
        ('SiLU()', 'Dropout(0.1)')
    """
    batch_size = next(size for size in (32, 64, 128, 256) if rows <= 32 * size or size == 256)
    patience = min(MOST_EPOCHS, max(FEWEST_EPOCHS, PATIENT_STEPS * batch_size // max(rows, 1)))
    sigma = 0.3 if rows >= MANY_ROWS else 0.1  # few rows are learned by heart where they are seen too finely
    between: tuple[str, ...] = ("SiLU()", "Dropout(0.1)")
    if amounts:
        between = ("ReLU()",) if rows >= MANY_ROWS else ("SiLU()",)
    return Recipe("AdamW(lr=0.001)", batch_size, max(200, 10 * patience), patience, numbers, sigma, between)


IMAGE_STEPS, VOLUME_STEPS = 1_000, 2_250  # of training a small residual network; more rows are seen ten times all the same
FEWEST_PICTURE_EPOCHS, MOST_PICTURE_EPOCHS = 10, 60
SHIFTED_SIDE = 16  # of smaller ones a place is too much


def image_recipe(rows: int, shape: tuple[int, ...]) -> Recipe:
    """Return the settings for images, chosen by measurement on valid rows (docs/images.md).

    Args:
        rows: Train rows.
        shape: Channels, height and width.

    Example:
        >>> image_recipe(5_000, (1, 28, 28)).batch_size, image_recipe(5_000, (1, 28, 28)).epochs
        (64, 13)
    """
    return _picture_recipe(rows, IMAGE_STEPS, 2 if min(shape[1:], default=0) >= SHIFTED_SIDE else 0, "images")


def volume_recipe(rows: int, shape: tuple[int, ...]) -> Recipe:
    """Return the settings for volumes, chosen by measurement on valid rows (docs/images.md).

    Args:
        rows: Train rows.
        shape: Channels, depth, height and width.
    """
    return _picture_recipe(rows, VOLUME_STEPS, 1 if min(shape[1:], default=0) >= SHIFTED_SIDE else 0, "volumes")


def _picture_recipe(rows: int, steps: int, shift: int, of: str) -> Recipe:
    """Return the settings of a residual network: so many epochs with a rate that falls to nothing."""
    batch_size = next(size for size in (16, 32, 64, 128) if rows <= 120 * size or size == 128)
    epochs = steps * batch_size // max(rows, 1)
    epochs = min(MOST_PICTURE_EPOCHS, max(FEWEST_PICTURE_EPOCHS, epochs))
    return Recipe(
        "AdamW(lr=0.003, weight_decay=0.05)",
        batch_size,
        epochs,
        None,
        schedule="WarmupCosine(warmup=0.1)",
        shift=shift,
        of=of,
    )


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
        volumes; a small convolutional network for channel-first sequences; a GRU for time-first sequences, for symbols, and
        where the convolutions would read padding.

    Example:
        >>> default_layers(Form((10,), "NC"), categories=False, numbers=10)[:2]
        ['PeriodicEmbeddings(16, frequencies=32, sigma=0.3)', 'Linear(128)']
    """
    last = [] if per_step else ["LastStep()"]
    if form.layout == "NTC":
        return ["GRU(64)", *last, "Linear()"]
    if form.layout == "NCT" and (per_step or padded):
        return ["Transpose()", "GRU(64)", *last, "Linear()"]
    if form.codes and len(form.shape) == 1:
        return ["Embedding(32)", "GRU(128)", *last, "Linear()"]
    if form.layout == "NC" and not form.codes:
        return _table_layers(categories, numbers, recipe or table_recipe(MANY_ROWS, amounts=False))
    if form.layout in SPACES:
        return picture_layers(form, recipe.shift if recipe is not None else 0)
    if form.layout == "NCT":
        return _convolutions(form)
    return ["Flatten()", "Linear(128)", "ReLU()", "Linear()"]


def _table_layers(categories: bool, numbers: int, recipe: Recipe) -> list[str]:
    """Return a multilayer perceptron of embedded columns."""
    first = ["EmbedColumns()"] if categories else []
    if 0 < numbers <= MOST_NUMBERS:
        first.append(f"PeriodicEmbeddings(16, frequencies=32, sigma={recipe.sigma})")
    hidden = ["Linear(128)", *recipe.between]
    return [*first, *hidden, *hidden, "Linear()"]


LARGE_SIDE = 512  # steps from which the first convolution takes every second one: it would cost most of the time


def _convolutions(form: Form) -> list[str]:
    """Return blocks of convolution, normalisation and pooling until few steps are left, then a mean."""
    layers: list[str] = []
    channels, side = 64, form.shape[-1]
    for block in range(3):
        convolution = f"Conv1d({channels}, kernel_size=5, padding=2)"
        if block == 0 and side >= LARGE_SIDE:
            convolution = f"Conv1d({channels}, kernel_size=5, stride=2, padding=2)"
            side = (side + 1) // 2
        layers += [convolution, "BatchNorm1d()", "ReLU()"]
        if side < 4:
            break
        layers.append("MaxPool1d(2)")
        side //= 2
        channels = 128
    return [*layers, "AdaptiveAvgPool1d(1)", "Flatten()", "Dropout(0.2)", "Linear()"]
