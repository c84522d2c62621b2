"""Trackers: a run told to TensorBoard, MLflow or Weights & Biases while it trains. They watch, they cannot steer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netwright.tracking.mlflow import MLflow as MLflow
    from netwright.tracking.tensorboard import TensorBoard as TensorBoard
    from netwright.tracking.wandb import WandB as WandB

_WHERE = {"MLflow": "mlflow", "TensorBoard": "tensorboard", "WandB": "wandb"}
__all__ = ["MLflow", "TensorBoard", "WandB"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'netwright.tracking' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"netwright.tracking.{_WHERE[name]}"), name)
