"""Settings that speak of some layers of a network by name. Floor 1."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from netwright.config.data_schema import Section


def layer_names(value: Any) -> Any:
    """Read one pattern as a list of it, a number as the layer of that place, and "none" as no pattern.

    Example:
        >>> layer_names("features.*"), layer_names([0, "4"]), layer_names("none")
        (['features.*'], ['0', '4'], [])
    """
    if value == "none":
        return []
    listed = [value] if isinstance(value, str) or type(value) is int else value
    return [str(item) if type(item) is int else item for item in listed] if isinstance(listed, list) else listed


class UnfreezeConfig(Section):
    """Frozen layers that learn from an epoch on."""

    epoch: Annotated[int, Field(ge=2)] = Field(description="The first epoch, counted from 1, in which they learn.")
    parameters: list[str] = Field(min_length=1, description="Layers or parameters by name or pattern, frozen before.")

    @field_validator("parameters", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return layer_names(value)
