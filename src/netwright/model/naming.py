"""Parameters of a network by name: the patterns with which settings speak of some of its layers. Floor 4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from torch import nn

from netwright.errors import ConfigError, did_you_mean
from netwright.model.gradients import NORMS

WORDS = ("biases", "norms", "embeddings")


def named_parameters(model: nn.Module, patterns: Sequence[str], where: str) -> list[str]:
    """Return the names of the parameters that patterns speak of, in the order of the network.

    Args:
        model: The network.
        patterns: Each the name of a parameter (``0.weight``) or of a layer (``0``, ``encoder.2``), with ``*``, ``?`` and
            ``[0-3]`` as in file names, a layer standing for all inside it; or one of the words ``biases``, ``norms`` (all of a
            normalisation layer) and ``embeddings``. A word may match nothing where another pattern does.
        where: The setting, for the error.

    Raises:
        ConfigError: A pattern that is no word, or all of them, match nothing.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        >>> named_parameters(network, ["0", "norms"], "training.freeze")
        ['0.weight', '0.bias', '1.weight', '1.bias']
        >>> named_parameters(network, ["*.bias"], "training.freeze")
        ['0.bias', '1.bias', '2.bias']
    """
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    names = {name: first[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}
    of_words = {word: set(_of_word(model, word)) for word in WORDS}
    found: set[str] = set()
    for pattern in patterns:
        matched = of_words[pattern] if pattern in of_words else {name for name in names if matches(name, pattern)}
        if not matched and pattern not in WORDS:
            layers = [path for path, module in model.named_modules() if path and any(True for _ in module.parameters())]
            raise ConfigError(
                f"{where}: {pattern!r} matches no parameter; expected a layer or parameter of the network, or one of "
                f"{', '.join(WORDS)}; {did_you_mean(pattern, [*layers, *WORDS])}"
            )
        found |= {names.get(name, name) for name in matched}
    if not found:
        told = " and ".join(patterns)
        raise ConfigError(f"{where}: {told} came; the network has none; expected some of them; leave {told} out")
    return [name for name in first.values() if name in found]


def matches(name: str, pattern: str) -> bool:
    """Tell whether a pattern is the name of a parameter or layer, or of a layer that it is in."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:length]), pattern) for length in range(1, len(parts) + 1))


def _of_word(model: nn.Module, word: str) -> Iterator[str]:
    for path, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            inside = {
                "biases": name.startswith("bias"),
                "norms": isinstance(module, NORMS),
                "embeddings": isinstance(module, nn.Embedding | nn.EmbeddingBag),
            }
            if inside[word]:
                yield f"{path}.{name}".strip(".")
