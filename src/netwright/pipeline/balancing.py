"""From the settings of a run to what its test tells of rare classes: how they were answered, and what that changed. Floor 12."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.config.calls import OBJECT, Call, parse_call
from netwright.config.schema import RunConfig
from netwright.evaluation import balance
from netwright.evaluation.testing import Verdict
from netwright.model.task import Decoding
from netwright.model.weighing import FOCAL

Floats = npt.NDArray[np.float64]
CLASSES = ("binary", "multiclass")
NO_CHANCES = "the probabilities of a network trained with FocalLoss are pulled towards even ones; read them as scores"


def ways_of(config: RunConfig) -> list[str]:
    """Return how a run answers rare classes: ``class_weight``, ``sampling``, ``focal``; empty where it does not."""
    call = _loss(config)
    weighed = call is not None and bool({"weight", "pos_weight"} & set(call.keywords))
    focal = call is not None and call.name == FOCAL
    named = (("class_weight", weighed), ("sampling", config.data.sampling is not None), ("focal", focal))
    return [name for name, used in named if used]


def balance_told(
    config: RunConfig, verdict: Verdict, decoding: Decoding, classes: Sequence[str], counts: Sequence[int] | None
) -> dict[str, Any]:
    """Return what test.json holds under ``balance``: empty where no class is rare and nothing was done about it.

    Args:
        config: Resolved.
        verdict: What is true of the test rows, and what the network gave for them.
        decoding: How outputs became probabilities.
        classes: In words.
        counts: The train rows of each class; None where nobody wrote them down.
    """
    ways = ways_of(config)
    rare = counts is not None and balance.is_imbalanced(counts)
    if verdict.kind not in CLASSES or not (ways or rare):
        return {}
    true, decoded = verdict.true, verdict.decoded
    told: dict[str, Any] = {"by": ways}
    told["classes"] = balance.class_shares(true, decoded, classes, decoding.probabilistic)
    if counts is not None:
        shares = dict(zip(classes, (count / sum(counts) for count in counts), strict=True))
        told["classes"] = [{**entry, "train_share": shares[entry["class"]]} for entry in told["classes"]]
    factors = factors_of(config, len(classes), counts)
    if factors is not None and decoding.probabilistic and "focal" not in ways:
        told["undone"] = balance.prior_undone(true, decoded, factors ** (1 / decoding.temperature), classes)
    if "focal" in ways:
        told["remark"] = NO_CHANCES
    return told


def headline_told(task: Mapping[str, Any], figures: Collection[str]) -> dict[str, Any]:
    """Return what test.json holds under ``headline``: the figure to read first and why; empty where no class has most rows.

    Args:
        task: Of run.json, with the train rows of each class.
        figures: The names of the test's.
    """
    counts = task.get("train_rows")
    name = balance.headline(counts, figures) if counts else None
    if not counts or name is None:
        return {}
    place = int(np.argmax(counts))
    return {"headline": {"metric": name, "class": str(task["classes"][place]), "train_share": counts[place] / sum(counts)}}


def _loss(config: RunConfig) -> Call | None:
    text = config.training.loss
    return None if text is None or text.startswith(OBJECT) else parse_call(text, "training.loss")


def factors_of(config: RunConfig, classes: int, counts: Sequence[int] | None) -> Floats | None:
    """Return by what the odds of each class were raised in training, float64 ``(classes,)``; None where by nothing, or unknown."""
    call, factors = _loss(config), np.ones(classes)
    given = {} if call is None else call.keywords
    if isinstance(given.get("weight"), list):
        factors = factors * np.asarray(given["weight"], dtype=np.float64)
    if isinstance(given.get("pos_weight"), list) and classes == 2:
        factors = factors * np.asarray([1.0, *given["pos_weight"]], dtype=np.float64)
    if config.data.sampling is not None:
        if counts is None:
            return None
        factors = factors / np.maximum(np.asarray(counts, dtype=np.float64), 1.0)
    even = bool((factors == factors[0]).all())
    return None if even or not bool((factors > 0).all()) else factors
