"""The settings of a search for hyperparameters; its trials are told by the validation rows alone. Floor 1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from netwright.config.data_schema import Section
from netwright.config.spaces import Parameter, flattened, read_parameter
from netwright.config.values import shown

STUDIES = ("sqlite", "journal")


class TuneConfig(Section):
    """What `netwright tune` tries; `train` leaves this section alone."""

    trials: Annotated[int, Field(ge=1)] = Field(20, description="Finished or pruned trials, exactly so many.")
    space: dict[str, str | list[Any]] = Field(
        default_factory=dict,
        description='What each setting may be, by its dotted path, also inside call texts: { "training.optimizer.lr" = '
        '"log 1e-5..1e-1", "model.layers.6.p" = "0.0..0.6", "data.batch_size" = [32, 64, 128] }.',
    )
    sampler: Literal["tpe", "gp", "random"] = Field(
        "tpe", description="What proposes a trial: a Parzen estimator, a Gaussian process, or chance (Optuna's)."
    )
    pruner: Literal["asha", "none"] = Field(
        "asha",
        description="Whether trials that fall behind after a few epochs end early, by asynchronous successive halving.",
    )
    metric: str | None = Field(
        None, description="A validation column of history.csv; default the one that chooses the best epoch, valid_loss."
    )
    direction: Literal["min", "max"] | None = Field(
        None, description="Whether less or more of the metric is better; needed for figures of one's own."
    )
    processes: Annotated[int, Field(ge=1, le=256)] | None = Field(
        None, description="Worker processes on this machine; default 1. They share its cores."
    )
    time_budget: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Seconds after which the command stops its trials, with checkpoints; tune --resume goes on."
    )
    trial_seeds: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None, description="Runs of a trial with other seeds, counting up from training.seed; the figure is their mean."
    )
    trial_folds: Annotated[int, Field(ge=2, le=100)] | None = Field(
        None,
        description="Runs of a trial on folds of the train and valid rows; the figure is their mean. Test rows stay out.",
    )
    population: Annotated[int, Field(ge=2, le=256)] | None = Field(
        None,
        description="Trials that one process trains at a time, their steps taken together as one vectorised step where the space "
        "leaves the layers alone (docs/populations.md). They are proposed at a time too, without knowing of each other.",
    )
    study: str = Field(
        "sqlite",
        description="Where the trials are recorded: sqlite, a file in the folder, on one machine; journal, a file that several "
        "machines can share; or an address such as postgresql://host/database.",
    )

    @field_validator("space", mode="before")
    @classmethod
    def _dotted(cls, value: Any) -> Any:
        return flattened(value) if isinstance(value, Mapping) else value

    @field_validator("space")
    @classmethod
    def _can_be_sampled(cls, value: dict[str, Any]) -> dict[str, Any]:
        for path, written in value.items():
            try:
                read_parameter(written)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
        return value

    @field_validator("study")
    @classmethod
    def _known_study(cls, value: str) -> str:
        if value not in STUDIES and not re.match(r"[a-z][a-z0-9+]*://", value):
            raise ValueError(
                f"{shown(value)} came; expected sqlite, journal or an address; write postgresql://host/database"
            )
        return value

    def parameters(self) -> dict[str, Parameter]:
        """Return what each setting may be, by its dotted path."""
        return {path: read_parameter(written) for path, written in self.space.items()}
