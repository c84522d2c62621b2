"""Several networks as one: the mean of what they give, how far they are apart, and what the mean gains on them. Floor 8.

Lakshminarayanan, Pritzel and Blundell, Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright.evaluation.testing import Verdict, bounds_told

Floats = npt.NDArray[np.float64]


def mean_of(each: Floats) -> Floats:
    """Return the mean of what the members give; of one member the very numbers.

    Args:
        each: ``(members, rows, ...)``.
    """
    return each[0] if len(each) == 1 else np.asarray(each.mean(axis=0))


def entropies(probabilities: Floats) -> Floats:
    """Return the entropy of each distribution over the last axis, in nats.

    Example:
        >>> entropies(np.array([[1.0, 0.0], [0.5, 0.5]])).round(4).tolist()
        [0.0, 0.6931]
    """
    logarithms = np.log(np.where(probabilities > 0, probabilities, 1.0))
    return np.asarray(np.abs((probabilities * logarithms).sum(axis=-1)))  # abs: no row has -0


def disagreement_columns(
    kind: str, each: Floats, names: Sequence[str], classes: Sequence[Any], probabilities: bool
) -> dict[str, Floats]:
    """Return how far the members are apart for each row.

    Args:
        kind: The task.
        each: What they give, ``(members, rows, ...)``.
        names: Target columns.
        classes: The user's classes or labels; empty for a regression.
        probabilities: Whether they give probabilities.

    Returns:
        Of numbers ``disagreement``, the standard deviation over the members in the user's units (divided by their number),
        ``disagreement_<name>`` for several. Of classes ``entropy``, that of the mean, and ``disagreement``, the part of it that
        the members are apart: entropy of the mean less the mean entropy, the mutual information between class and member, in
        nats (Depeweg and others, Decomposition of Uncertainty in Bayesian Deep Learning, 2018). Of labels both for each label.
        Of scores the standard deviation of each class.
    """
    if not classes or not probabilities:
        spread = each.std(axis=0)
        words = [str(name) for name in (classes or names)]
        if spread.shape[1] == 1:
            return {"disagreement": spread[:, 0]}
        return {f"disagreement_{word}": spread[:, place] for place, word in enumerate(words)}
    if kind != "multilabel":
        whole = entropies(mean_of(each))
        return {"entropy": whole, "disagreement": np.maximum(whole - entropies(each).mean(axis=0), 0.0)}
    pairs = np.stack([each, 1 - each], axis=-1)
    whole = entropies(pairs.mean(axis=0))
    apart = np.maximum(whole - entropies(pairs).mean(axis=0), 0.0)
    found = {f"entropy_{label}": whole[:, place] for place, label in enumerate(classes)}
    return found | {f"disagreement_{label}": apart[:, place] for place, label in enumerate(classes)}


def against_members(verdict: Verdict, each: Floats) -> dict[str, Any]:
    """Return the figures of each member on the rows of an ensemble, and what the ensemble gains on their mean.

    Args:
        verdict: The rows and the mean of what the members gave.
        each: What each gave, ``(members, rows, ...)``.

    Returns:
        ``each``, figures by name for each member; ``mean``, theirs; ``difference``, the ensemble's figure less that mean,
        with a 95 % interval over rows that are drawn for all at once.
    """
    figures = [verdict.figures(decoded) for decoded in each]
    shared = [name for name in verdict.own if all(name in one for one in figures)]
    mean = {name: float(np.mean([one[name] for one in figures])) for name in shared}
    bounds = verdict.paired(list(each))
    return {
        "each": [{name: one[name] for name in shared} for one in figures],
        "mean": mean,
        "difference": {name: {"value": verdict.own[name] - mean[name], **bounds_told(bounds.get(name))} for name in shared},
    }
