"""netwright: from a data file to a trained, tested and usable neural network, in PyTorch's own words.

Importing does nothing: the verbs are looked up when they are first used, and only then is torch imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netwright.data.batches import Batch as Batch
    from netwright.errors import NetwrightError as NetwrightError
    from netwright.estimators.classifier import NetClassifier as NetClassifier
    from netwright.estimators.regressor import NetRegressor as NetRegressor
    from netwright.pipeline.continuing import replay as replay
    from netwright.pipeline.continuing import resume as resume
    from netwright.pipeline.ejecting import eject as eject
    from netwright.pipeline.ensembles import Ensemble as Ensemble
    from netwright.pipeline.foreseeing import find_batch_size as find_batch_size
    from netwright.pipeline.foreseeing import find_learning_rate as find_learning_rate
    from netwright.pipeline.foreseeing import plan as plan
    from netwright.pipeline.run import Run as Run
    from netwright.pipeline.verbs import check as check
    from netwright.pipeline.verbs import compare as compare
    from netwright.pipeline.verbs import cross_validate as cross_validate
    from netwright.pipeline.verbs import draft as draft
    from netwright.pipeline.verbs import ensemble as ensemble
    from netwright.pipeline.verbs import export as export
    from netwright.pipeline.verbs import load as load
    from netwright.pipeline.verbs import repeat as repeat
    from netwright.pipeline.verbs import runs as runs
    from netwright.pipeline.verbs import show as show
    from netwright.pipeline.verbs import split as split
    from netwright.pipeline.verbs import train as train
    from netwright.tuning.searching import tune as tune

_WHERE = {
    "NetClassifier": "netwright.estimators.classifier",
    "NetRegressor": "netwright.estimators.regressor",
    "Batch": "netwright.data.batches",
    "Ensemble": "netwright.pipeline.ensembles",
    "NetwrightError": "netwright.errors",
    "Run": "netwright.pipeline.run",
    "check": "netwright.pipeline.verbs",
    "compare": "netwright.pipeline.verbs",
    "cross_validate": "netwright.pipeline.verbs",
    "draft": "netwright.pipeline.verbs",
    "eject": "netwright.pipeline.ejecting",
    "ensemble": "netwright.pipeline.verbs",
    "export": "netwright.pipeline.verbs",
    "find_batch_size": "netwright.pipeline.foreseeing",
    "find_learning_rate": "netwright.pipeline.foreseeing",
    "load": "netwright.pipeline.verbs",
    "plan": "netwright.pipeline.foreseeing",
    "repeat": "netwright.pipeline.verbs",
    "replay": "netwright.pipeline.continuing",
    "resume": "netwright.pipeline.continuing",
    "runs": "netwright.pipeline.verbs",
    "show": "netwright.pipeline.verbs",
    "split": "netwright.pipeline.verbs",
    "train": "netwright.pipeline.verbs",
    "tune": "netwright.tuning.searching",
}
__all__ = [
    "NetClassifier",
    "NetRegressor",
    "Batch",
    "Ensemble",
    "NetwrightError",
    "Run",
    "check",
    "compare",
    "cross_validate",
    "draft",
    "eject",
    "ensemble",
    "export",
    "find_batch_size",
    "find_learning_rate",
    "load",
    "plan",
    "repeat",
    "replay",
    "resume",
    "runs",
    "show",
    "split",
    "train",
    "tune",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("netwright")
    if name == "tracking":
        return import_module("netwright.tracking")
    if name not in _WHERE:
        raise AttributeError(f"module 'netwright' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_WHERE[name]), name)
