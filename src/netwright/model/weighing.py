"""Weights of rare classes in a loss, from the counts of the train rows. Floor 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from netwright.config.calls import Call, parse_call
from netwright.config.values import shown
from netwright.errors import ConfigError, did_you_mean

BALANCED = "balanced"
OF_CLASSES = ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss")  # losses with a weight of each class
OF_LABELS = ("BCEWithLogitsLoss",)  # with one of each output that says yes
FOCAL = "FocalLoss"  # with either, as the target asks


def with_class_weight(
    loss: str, kind: str, given: str | Sequence[float] | Mapping[str, float], classes: Sequence[str]
) -> str:
    """Return the text of a loss with the class weights that the setting ``class_weight`` asks for.

    Args:
        loss: torch's text.
        kind: The task.
        given: ``balanced``, a weight of each class, or weights by class.
        classes: The classes or labels in words, in their order.

    Raises:
        ConfigError: The task has no classes, or not these, or the loss no weights, or some already.

    Example:
        >>> with_class_weight("CrossEntropyLoss()", "multiclass", "balanced", ["a", "b", "c"])
        "CrossEntropyLoss(weight='balanced')"
        >>> with_class_weight("BCEWithLogitsLoss()", "binary", {"yes": 5.0}, ["no", "yes"])
        'BCEWithLogitsLoss(pos_weight=[5.0])'
    """
    came = (
        f'training.class_weight: "{BALANCED}" came' if given == BALANCED else f"training.class_weight: {shown(given)} came"
    )
    if kind == "regression":
        raise ConfigError(f"{came}; the task is regression, which has no classes; leave it out")
    call = parse_call(loss, "training.loss")
    labels = call.name in OF_LABELS or (call.name == FOCAL and kind != "multiclass")
    if not labels and call.name not in (*OF_CLASSES, FOCAL):
        advice = "BCEWithLogitsLoss() or FocalLoss()" if kind != "multiclass" else "CrossEntropyLoss() or FocalLoss()"
        raise ConfigError(f"{came} with {call}; expected a loss with weights of classes; write {advice}")
    argument = "pos_weight" if labels else "weight"
    if argument in call.keywords:
        raise ConfigError(f"{came} with {call}, which has a {argument} already; expected one of the two; leave one out")
    return str(call.with_keyword(argument, _weights(given, classes, kind, labels, came)))


def _weights(
    given: str | Sequence[float] | Mapping[str, float], classes: Sequence[str], kind: str, labels: bool, came: str
) -> str | list[float]:
    """Return what stands in the loss: for one output that says yes or no the weight of the second class over the first's."""
    if isinstance(given, str):
        return given
    if isinstance(given, Mapping):
        if unknown := [name for name in given if name not in classes]:
            raise ConfigError(f"{came}; {unknown[0]!r} is no class; {did_you_mean(unknown[0], classes)}")
        given = [given.get(name, 1.0) for name in classes]
    if len(given) != len(classes):
        raise ConfigError(f"{came}; expected {len(classes)} numbers, of {', '.join(classes)[:80]}; write one for each")
    weights = [float(weight) for weight in given]
    return [weights[1] / weights[0]] if labels and kind == "binary" else weights


def refuse_unread(call: Call, class_target: bool) -> None:
    """Refuse a weight that a loss would not read.

    Raises:
        ConfigError: ``weight`` for outputs that say yes or no, or ``pos_weight`` for class numbers.
    """
    if "weight" in call.keywords and not class_target and (call.name == FOCAL or call.keywords["weight"] == BALANCED):
        name = FOCAL if call.name == FOCAL else "BCEWithLogitsLoss"
        raise ConfigError(
            f"training.loss: {call} came; an output that says yes or no has no class weights; write "
            f'{name}(pos_weight="{BALANCED}")'
        )
    if call.name == FOCAL and "pos_weight" in call.keywords and class_target:
        raise ConfigError(
            f'training.loss: {call} came; class numbers have a weight of each class; write {FOCAL}(weight="{BALANCED}")'
        )


def balanced(call: Call, values: npt.NDArray[np.int64], classes: int, kind: str) -> Call:
    """Replace ``weight="balanced"`` by rows / (classes * rows of the class), as scikit-learn's ``class_weight`` does.

    ``pos_weight="balanced"`` becomes rows without / rows with the second class, or each label: the same odds.

    Args:
        call: The loss with its arguments by keyword.
        values: Of the train rows, class numbers ``(rows,)`` or 0 and 1 ``(rows, labels)``.
        classes: The number of classes or labels.
        kind: The task.
    """
    if call.keywords.get("pos_weight") == BALANCED:
        positive = (values if kind == "multilabel" else values[:, None]).sum(axis=0)
        weights = (np.maximum(len(values) - positive, 1) / np.maximum(positive, 1)).tolist()
        call = call.with_keyword("pos_weight", weights)
    if call.keywords.get("weight") == BALANCED:
        counts = np.maximum(np.bincount(values, minlength=classes), 1)
        call = call.with_keyword("weight", (len(values) / (classes * counts)).tolist())
    return call
