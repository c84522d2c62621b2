"""The site file: what a cluster wants of every job, written once by hand. Floor 1."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from netwright.config.read import read_file
from netwright.config.values import shown
from netwright.errors import ConfigError, did_you_mean

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.,:@+=/-]{0,199}$")]
Value = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.,:@+=&|*()\[\]/%-]{1,200}$")]
Line = Annotated[str, StringConstraints(pattern=r"^[^\r\n\x00]{1,1000}$")]
Option = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,40}$")]
Duration = Annotated[str, StringConstraints(pattern=r"^([0-9]{1,3}-)?[0-9]{1,5}(:[0-9]{1,2}){0,2}$")]


class Site(BaseModel):
    """What a cluster wants; every value is matched whole against a pattern before it is written into a job.

    Only ``setup`` is shell: the lines of the person who wrote the file.

    Example:
        >>> Site(account="physics", modules=["cuda/13.0"]).warning
        180
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    account: Name | None = Field(None, description="Who pays: --account.")
    partition: Name | None = Field(None, description="--partition.")
    qos: Name | None = Field(None, description="--qos.")
    constraint: Value | None = Field(None, description="--constraint, such as a100.")
    time: Duration | None = Field(None, description="The time limit where the command names none, such as 12:00:00.")
    gpus: Literal["gpus-per-node", "gres"] = Field("gpus-per-node", description="How GPUs are asked for here.")
    sbatch: dict[Option, Value | int] = Field(default_factory=dict, description="Any other option of sbatch.")
    modules: list[Name] = Field(default_factory=list, description="module load of each.")
    setup: list[Line] = Field(default_factory=list, description="Lines of bash before the training.")
    container: list[Line] = Field(default_factory=list, description="Words before python: apptainer, exec, --nv, image.sif.")
    python: Line | None = Field(None, description="The interpreter in the job; default the one that submits.")
    interface: Name | None = Field(None, description="Network interface of gloo and NCCL, such as ib0.")
    warning: int = Field(180, ge=30, le=65535, description="Seconds before the time limit at which the run saves and stops.")
    requeues: int = Field(20, ge=0, le=1000, description="How often a job goes back to the queue.")
    restarts: int = Field(3, ge=0, le=100, description="How often torchrun starts the processes of a node anew.")


def read_site(path: Path | None) -> Site:
    """Read a site file; without one nothing is asked for.

    Args:
        path: A TOML file.

    Raises:
        ConfigError: It cannot be read, or a value is none that a job may hold; all problems at once.
    """
    if path is None:
        return Site()
    tree = read_file(path)
    try:
        return Site.model_validate(tree)
    except ValidationError as error:
        found = {tuple(str(part) for part in one["loc"] if part not in KINDS): dict(one) for one in error.errors()}
        raise ConfigError(f"{path}: {'; '.join(_problem(place, one) for place, one in found.items())}") from None


def _problem(place: tuple[str, ...], found: dict[str, object]) -> str:
    """Return what pydantic found at a place, in the words of a user."""
    where = ".".join(part for part in place if part != "[key]")
    if found["type"] == "extra_forbidden":
        return f"{where} is no key of a site; {did_you_mean(place[-1], Site.model_fields)}"
    if found["type"] == "string_pattern_mismatch":
        return f"{where}: {shown(found['input'])} came; expected one line of letters, digits and . _ - / = , : only; mend it"
    return (
        f"{where}: {shown(found['input'])} came; {str(found['msg']).replace('Input should be', 'expected').lower()}; mend it"
    )


KINDS = ("constrained-str", "int", "str")  # arms of a union, which pydantic names in a path
