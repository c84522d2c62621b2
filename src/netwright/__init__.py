"""netwright: from a data file to a trained, tested and usable neural network, in PyTorch's own words.

Importing does nothing: the verbs are looked up when they are first used, and only then is torch imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netwright.data.batches import Batch as Batch
    from netwright.errors import FindingWarning as FindingWarning
    from netwright.errors import NetwrightError as NetwrightError
    from netwright.estimators.classifier import NetClassifier as NetClassifier
    from netwright.estimators.regressor import NetRegressor as NetRegressor
    from netwright.foresight.foreseeing import find_batch_size as find_batch_size
    from netwright.foresight.foreseeing import find_learning_rate as find_learning_rate
    from netwright.foresight.foreseeing import plan as plan
    from netwright.lifecycle.run import Run as Run
    from netwright.proofs.ejecting import eject as eject
    from netwright.studies.continuing import replay as replay
    from netwright.studies.continuing import resume as resume
    from netwright.studies.ensembles import Ensemble as Ensemble
    from netwright.tuning.searching import tune as tune
    from netwright.verbs import check as check
    from netwright.verbs import compare as compare
    from netwright.verbs import cross_validate as cross_validate
    from netwright.verbs import draft as draft
    from netwright.verbs import ensemble as ensemble
    from netwright.verbs import export as export
    from netwright.verbs import load as load
    from netwright.verbs import repeat as repeat
    from netwright.verbs import runs as runs
    from netwright.verbs import show as show
    from netwright.verbs import split as split
    from netwright.verbs import train as train

_WHERE = {
    "NetClassifier": "netwright.estimators.classifier",
    "NetRegressor": "netwright.estimators.regressor",
    "Batch": "netwright.data.batches",
    "Ensemble": "netwright.studies.ensembles",
    "FindingWarning": "netwright.errors",
    "NetwrightError": "netwright.errors",
    "Run": "netwright.lifecycle.run",
    "check": "netwright.verbs",
    "compare": "netwright.verbs",
    "cross_validate": "netwright.verbs",
    "draft": "netwright.verbs",
    "eject": "netwright.proofs.ejecting",
    "ensemble": "netwright.verbs",
    "export": "netwright.verbs",
    "find_batch_size": "netwright.foresight.foreseeing",
    "find_learning_rate": "netwright.foresight.foreseeing",
    "load": "netwright.verbs",
    "plan": "netwright.foresight.foreseeing",
    "repeat": "netwright.verbs",
    "replay": "netwright.studies.continuing",
    "resume": "netwright.studies.continuing",
    "runs": "netwright.verbs",
    "show": "netwright.verbs",
    "split": "netwright.verbs",
    "train": "netwright.verbs",
    "tune": "netwright.tuning.searching",
}
__all__ = [
    "NetClassifier",
    "NetRegressor",
    "Batch",
    "Ensemble",
    "FindingWarning",
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
