"""Settings that go with a default network, chosen by measurement (docs/tables.md, docs/series.md, docs/images.md). Floor 4."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

FEWEST_EPOCHS, MOST_EPOCHS, PATIENT_STEPS = 8, 100, 700  # without a gain after which a run ends
MANY_ROWS = 1_000
FALLING = "WarmupCosine(warmup=0.1)"
WINDOWS = "windows of a series"
RECURRENT = ("GRU(64)", "LastStep()", "Linear()")


@final
@dataclass(frozen=True)
class Recipe:
    """What a default network is made of, and settings that it is trained with where the user has written no others.

    Without ``epochs`` and ``steps`` a run has ``epochs`` at most, and ends early when the valid rows gain nothing for ``patience``
    of them; without ``patience`` it has all of them, which a ``schedule`` asks for. ``schedule`` goes with the optimizer. A
    table: ``numbers`` is how columns of numbers are scaled, None for the usual way; ``sigma`` is that of
    `PeriodicEmbeddings`; after each hidden layer come ``between``. Images and volumes: ``shift`` is how many places train
    rows are moved by at most; ``stretch`` is the factor they are stretched by at most. ``layers`` are a whole network.
    Where fewer than ``few`` rows would train and validate no rows are set apart to validate (``all_train``).
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
    stretch: float = 1.0
    layers: tuple[str, ...] | None = None
    few: int = 0
    all_train: bool = False
    of: str = "tables"

    @property
    def fixed(self) -> bool:
        """Whether its epochs are all taken, so that no valid rows need to tell when to end."""
        return self.patience is None


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
STRETCH = 1.2  # of volumes


def image_recipe(rows: int, shape: tuple[int, ...]) -> Recipe:
    """Return the settings for images, chosen by measurement on valid rows (docs/images.md).

    Args:
        rows: Train rows.
        shape: Channels, height and width.

    Example:
        >>> image_recipe(5_000, (1, 28, 28)).batch_size, image_recipe(5_000, (1, 28, 28)).epochs
        (64, 12)
    """
    return _picture_recipe(rows, IMAGE_STEPS, 2 if min(shape[1:], default=0) >= SHIFTED_SIDE else 0, "images")


def volume_recipe(rows: int, shape: tuple[int, ...]) -> Recipe:
    """Return the settings for volumes, chosen by measurement on valid rows (docs/images.md).

    Args:
        rows: Train rows.
        shape: Channels, depth, height and width.

    Example:
        >>> volume_recipe(3_000, (1, 32, 32, 32)).shift, volume_recipe(3_000, (1, 32, 32, 32)).stretch
        (1, 1.2)
    """
    recipe = _picture_recipe(rows, VOLUME_STEPS, 1 if min(shape[1:], default=0) >= SHIFTED_SIDE else 0, "volumes")
    return replace(recipe, stretch=STRETCH) if recipe.shift else recipe


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


SERIES_SEEN, WINDOW_STEPS = 200_000, 1_000  # series in all epochs together, steps of training: few rows are seen often
FEWEST_SERIES_EPOCHS, MOST_SERIES_EPOCHS, MOST_WINDOW_EPOCHS = 10, 300, 200
FEW_SERIES = 100  # rows, of which a fifth would be too few to choose an epoch by
FEW_WINDOWS = 1_000


def series_recipe(rows: int) -> Recipe:
    """Return the settings for series with one answer each, chosen by measurement on folds of train rows (docs/series.md).

    The learning rate falls to nothing in a fixed number of epochs, so that a run needs no valid rows to know when to end.

    Args:
        rows: Train rows.

    Example:
        >>> series_recipe(50).batch_size, series_recipe(50).epochs, series_recipe(100_000).epochs
        (16, 300, 10)
    """
    batch_size = next(size for size in (16, 32, 64, 128, 256) if rows <= 32 * size or size == 256)
    epochs = min(MOST_SERIES_EPOCHS, max(FEWEST_SERIES_EPOCHS, SERIES_SEEN // max(rows, 1)))
    return Recipe("AdamW(lr=0.003)", batch_size, epochs, None, schedule=FALLING, few=FEW_SERIES, of="series")


def window_recipe(rows: int, amounts: bool) -> Recipe:
    """Return the settings for windows of a series, of which the next value is asked.

    A linear layer reads all steps, so that a series may go on to where it never was; with many windows a recurrent layer beside
    it adds what is not linear. Few windows lead that astray (docs/series.md).

    Source: Zeng et al., Are Transformers Effective for Time Series Forecasting?, 2023 (arXiv:2205.13504), for the linear layer.

    Args:
        rows: Train windows.
        amounts: Whether the target is amounts; classes keep a recurrent layer, which nothing was measured against.
    """
    if not amounts:
        return Recipe("Adam(lr=0.001)", 64, 200, 20, layers=RECURRENT, of=WINDOWS)
    batch_size = next(size for size in (16, 32, 64, 128, 256) if rows <= 64 * size or size == 256)
    epochs = min(MOST_WINDOW_EPOCHS, max(FEWEST_SERIES_EPOCHS, WINDOW_STEPS * batch_size // max(rows, 1)))
    if rows < FEW_WINDOWS:
        layers = ("Flatten()", "Linear()")
        return Recipe("AdamW(lr=0.01)", batch_size, epochs, None, schedule=FALLING, layers=layers, of=WINDOWS)
    layers = ("Parallel([Flatten(), Sequential([GRU(64), LastStep()])])", "Linear()")
    return Recipe("AdamW(lr=0.003)", batch_size, epochs, None, schedule=FALLING, layers=layers, of=WINDOWS)
