"""From settings to the augmentation of train rows: what may change which kind of rows, under which loss. Floor 12."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from netwright.config.schema import RunConfig
from netwright.data import mixing, transforms
from netwright.data.augmentation import Augmentation
from netwright.data.batches import Batch
from netwright.data.mixing import Mixing
from netwright.data.preparation import TABLE
from netwright.data.transforms import Transform
from netwright.errors import ConfigError
from netwright.model.task import Task
from netwright.rows.inputs import Inputs
from netwright.sources.arrays import Array

# transforms of torchvision that take floats as 0 to 1 and whole numbers as 0 to the largest of their dtype
RANGED = (
    "AugMix", "AutoAugment", "ColorJitter", "GaussianNoise", "JPEG", "RandAugment", "RandomAutocontrast", "RandomEqualize",
    "RandomInvert", "RandomPhotometricDistort", "RandomPosterize", "RandomSolarize", "TrivialAugmentWide",
    "RandomAdjustSharpness",
)  # fmt: skip
OURS = "Noise, Scale, TimeShift, TimeMask and MixUp"


@dataclass(frozen=True)
class Changes:
    """The transforms of ``data.augmentation`` by what they change: raw images, prepared rows, batches."""

    images: tuple[Transform, ...] = ()
    values: tuple[Transform, ...] = ()
    mixing: tuple[Mixing, ...] = ()
    image_names: tuple[str, ...] = ()
    timed: str | None = None


def read_changes(config: RunConfig) -> Changes:
    """Build the transforms.

    Raises:
        ConfigError: torchvision is missing, or an argument cannot be used.
    """
    images: list[Transform] = []
    values: list[Transform] = []
    mixed: list[Mixing] = []
    names: list[str] = []
    timed = None
    for place, call in enumerate(config.transform_calls()):
        if call.name in mixing.OWN:
            mixed.append(mixing.OWN[call.name](**call.keywords))
        elif call.name in transforms.OWN:
            made = transforms.own_transform(call)
            values.append(made)
            timed = call.name if made.timed else timed
        else:
            images.append(transforms.image_transform(call, f"data.augmentation.{place}"))
            names.append(call.name)
    return Changes(tuple(images), tuple(values), tuple(mixed), tuple(names), timed)


def make_augmentation(config: RunConfig, changes: Changes, inputs: Inputs, sample: Batch, task: Task) -> Augmentation | None:
    """Return how train rows are changed, or None where nothing is.

    Args:
        config: The settings.
        changes: What `read_changes` gave.
        inputs: Rows, target and split.
        sample: Two prepared rows.
        task: With the loss.

    Raises:
        ConfigError: A transform does not fit the rows or the loss.
    """
    if not config.data.augmentation and inputs.reread is None:
        return None
    name = next(iter(sample.inputs))
    layout = inputs.preparation.layout(name)
    if config.data.augmentation:
        _refuse_rows(config, inputs, sample)
        _refuse_images(changes, inputs, name, layout)
        _refuse_steps(changes, task, layout)
        _refuse_mixing(changes, task, sample, layout)
    return Augmentation(
        name,
        config.training.seed,
        changes.images,
        changes.values,
        changes.mixing,
        task.outputs,
        layout == "NCT",
        inputs.reread,
        config.data.workers,
        repeated=config.data.sampling is not None,
    )


def _refuse_rows(config: RunConfig, inputs: Inputs, sample: Batch) -> None:
    """Refuse rows that no transform may change."""
    name, values = next(iter(sample.inputs.items()))
    written = config.data.augmentation[0]
    if len(sample.inputs) > 1:
        raise ConfigError(
            f"data.augmentation: {written} came, and {len(sample.inputs)} inputs ({', '.join(sample.inputs)}); expected one "
            "input; leave it out"
        )
    if name == TABLE and inputs.preparation.steps is None:
        raise ConfigError(
            f"data.augmentation: {written} came, and the rows are those of a table; expected images or sequences; leave it out"
        )
    if not values.is_floating_point():
        raise ConfigError(
            f"data.augmentation: {written} came, and the rows are codes (text or categories), which are no amounts; expected "
            "images or sequences of numbers; leave it out"
        )


def _refuse_images(changes: Changes, inputs: Inputs, name: str, layout: str | None) -> None:
    """Refuse torchvision's transforms of what is no image, and of a range they would misread."""
    if not changes.images:
        return
    arrays = getattr(inputs.raw, "inputs", None)
    if layout != "NCHW" or arrays is None:
        raise ConfigError(
            f"data.augmentation: {changes.image_names[0]} came, a transform of images; the rows are "
            f"{layout or 'of unknown axes'}; expected NCHW; write {OURS}, or set data.layout"
        )
    ranged = next((known for known in changes.image_names if known in RANGED), None)
    values = arrays[name] if name in arrays else next(iter(arrays.values()))
    if ranged is not None and values.dtype != np.uint8:
        low, high = _range(values)
        if values.dtype.kind != "f" or low < 0 or high > 1:
            raise ConfigError(
                f"data.augmentation: {ranged} came; the images are {values.dtype} from {low:g} to {high:g}; expected uint8, or "
                "floats from 0 to 1, as torchvision reads them; convert the images"
            )


def _range(values: Array) -> tuple[float, float]:
    return float(np.nanmin(values)), float(np.nanmax(values))


def _refuse_steps(changes: Changes, task: Task, layout: str | None) -> None:
    """Refuse transforms of time where there is none, or where the target has the same steps."""
    if changes.timed is not None and layout not in ("NTC", "NCT"):
        raise ConfigError(
            f"data.augmentation: {changes.timed} came, a transform of sequences; the rows are {layout or 'of unknown axes'}; "
            "expected NTC or NCT; leave it out, or set data.layout"
        )
    if task.per_step and any(isinstance(change, transforms.TimeShift) for change in changes.values):
        raise ConfigError(
            "data.augmentation: TimeShift came, and each step has a target, which would stay behind; write Noise, Scale or TimeMask"
        )


def _refuse_mixing(changes: Changes, task: Task, sample: Batch, layout: str | None) -> None:
    """Refuse mixing under a loss that reads no shares of classes, and of rows that do not lie on one another."""
    for change in changes.mixing:
        name = type(change).__name__
        loss = task.loss.removeprefix("object:").partition("(")[0]
        if task.per_step or sample.lengths is not None:
            raise ConfigError(
                f"data.augmentation: {name} came, and rows differ in length or have a target per step; expected rows of one "
                "form with one target each; leave it out"
            )
        if task.class_target and (loss != "CrossEntropyLoss" or "ignore_index" in task.loss):
            raise ConfigError(
                f"data.augmentation: {name} came with {task.loss}; it gives each row shares of two classes, which "
                "CrossEntropyLoss() reads and this loss does not; change the loss or leave it out"
            )
        if isinstance(change, mixing.CutMix) and (layout != "NCHW" or task.kind == "regression"):
            raise ConfigError(
                f"data.augmentation: CutMix came; the rows are {layout or 'of unknown axes'} and the task is {task.kind}; expected "
                "images (NCHW) with classes; write MixUp(alpha=0.2)"
            )
