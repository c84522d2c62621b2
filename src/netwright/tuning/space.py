"""From what a search may try to the settings of one trial, and which spaces are refused. Floor 17."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from netwright.config.spaces import Parameter, points, settings_of
from netwright.config.values import shown
from netwright.errors import ConfigError, NetwrightError
from netwright.pipeline.asking import Asked
from netwright.pipeline.bench import Bench
from netwright.rows.fetching import fetched

MOST_TRIED = 60  # values of one setting that are tried before a search begins
SHAPING = ("model.", "training.optimizer", "training.parameter_groups")  # what a step is tried with before
APART = {  # what no trial may change, and why
    "data.split": "trials on other validation rows cannot be compared",
    "data.source": "trials on other rows cannot be compared",
    "data.train": "trials on other rows cannot be compared",
    "data.valid": "trials on other validation rows cannot be compared",
    "data.test": "a search never sees the test rows",
    "data.window": "trials on other steps of a series cannot be compared",
    "data.horizon": "trials with another target cannot be compared",
    "data.stride": "trials on other steps of a series cannot be compared",
    "data.sequences": "trials on other rows cannot be compared",
    "data.join": "trials on other rows cannot be compared",
    "data.target": "trials with another target cannot be compared",
    "data.task": "trials of another task cannot be compared",
    "data.labels": "trials with another target cannot be compared",
    "training.seed": "the best of many seeds is luck; tune.trial_seeds = 3 takes the mean over seeds",
    "training.metrics": "it does not change the network",
    "tune": "it is about the search itself",
    "checkpoint": "it does not change the network",
    "checks": "it does not change the network",
    "evaluation": "it does not change the network",
}


def refuse_space(parameters: Mapping[str, Parameter]) -> None:
    """Refuse a space with nothing to search, or with settings that no search may change.

    Raises:
        ConfigError: What came and what to do.
    """
    if not parameters:
        raise ConfigError(
            'tune.space: it is empty; expected settings to try; write for instance space = { "training.optimizer.lr" = '
            '"log 1e-5..1e-1" } under [tune]'
        )
    for path in parameters:
        found = next((one for one in APART if path == one or path.startswith(f"{one}.")), None)
        if found is not None:
            raise ConfigError(
                f"tune.space: {path} came; {APART[found]}; expected settings that shape the training; leave it out"
            )
        if "." not in path:
            raise ConfigError(
                f"tune.space: {shown(path)} came; expected a whole path such as training.optimizer.lr; mend it"
            )
    if points(list(parameters.values())) < 2:
        raise ConfigError("tune.space: it holds a single point; expected at least two to choose from; widen a range")


def middle(parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return a point in the middle of a space."""
    return {path: (ends := parameter.ends())[(len(ends) - 1) // 2] for path, parameter in parameters.items()}


def try_settings(asked: Asked, parameters: Mapping[str, Parameter]) -> None:
    """Read the settings of every end and choice of a space, so that a mistake is found before anything is trained.

    Args:
        asked: What is trained.
        parameters: What each setting may be.

    Raises:
        ConfigError: A path is no setting, or a value does not fit.
    """
    asked.refuse_fixed(list(parameters), "tune.space")
    for point in _corners(parameters):
        with _told(point):
            asked.with_settings(settings_of(point))


def bench_in_the_middle(asked: Asked, parameters: Mapping[str, Parameter]) -> Bench:
    """Prepare the point in the middle of a space; nothing is written but the cache of the rows.

    Raises:
        NetwrightError: Data or network cannot be used.
    """
    point = middle(parameters)
    with _told(point), fetched(asked.config.data):
        return asked.with_settings(settings_of(point)).bench()


def try_networks(asked: Asked, parameters: Mapping[str, Parameter], bench: Bench) -> None:
    """Build the network of every end and choice that shapes it, on rows that were read once.

    Args:
        asked: What is trained.
        parameters: What each setting may be.
        bench: Of the point in the middle.

    Raises:
        ConfigError: A network or optimizer cannot be.
    """
    shaping = {path: found for path, found in parameters.items() if path.startswith(SHAPING)}
    centre = middle(parameters)
    for point in _corners(shaping):
        whole = {**centre, **point}
        with _told(whole):
            asked.with_settings(settings_of(whole)).try_on(bench)


def _corners(parameters: Mapping[str, Parameter]) -> Iterator[dict[str, Any]]:
    """Yield points that differ from the middle in one setting; with every whole list, those inside it."""
    centre = middle(parameters)
    for path, parameter in parameters.items():
        for value in parameter.ends()[:MOST_TRIED]:
            yield {**centre, path: value}


@contextmanager
def _told(point: Mapping[str, Any]) -> Iterator[None]:
    """Say with an error which point was tried.

    Raises:
        NetwrightError: As it came.
    """
    try:
        yield
    except NetwrightError as error:
        if not any(".".join(path.split(".")[:2]) in str(error) for path in point):
            raise  # it is not about the space
        text = str(error).replace("--set ", "", 1)
        told = ", ".join(f"{path} = {shown(value)}" for path, value in point.items())
        raise type(error)(f"tune.space: {text} (tried with {told})") from error
