"""Shows any value a caller may have handed over in a few characters on one line, and knows torch's objects by name.

Nothing is imported and nothing large is ever written out: an array is shown by its shape. Floor 1.
"""

from __future__ import annotations

import datetime
import re
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

from netwright.errors import ConfigError

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
LONGEST_SHOWN = 80
_PLAIN = (str, int, float, bool, bytes, list, tuple, dict, set, frozenset)
_LITERALS = (str, int, float, bool)
_DATES = (datetime.date, datetime.time)  # a datetime is a date
_ARGUMENT = "expected a number, a text, a truth value, a date, or lists and tables of them"


class _Short(reprlib.Repr):
    """Writes plain values in short, and everything else by its kind."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 8
        self.maxstring = self.maxother = self.maxlong = LONGEST_SHOWN

    def repr_instance(self, x: Any, level: int) -> str:
        if isinstance(x, bool | float | bytes | None):
            return repr(x)
        return str(x) if isinstance(x, _DATES) else _kind(x)


def is_address(text: str) -> bool:
    """Tell whether a text is an address, ``s3://bucket/name``, and no path."""
    return ADDRESS.match(text) is not None


def shown(value: Any) -> str:
    """Return a value as Python writes it, at most 80 characters on one line; arrays and objects by their kind.

    Example:
        >>> shown("Adam"), shown([0.2] * 100)[:20], shown(object())
        ("'Adam'", '[0.2, 0.2, 0.2, 0.2,', '<object>')
    """
    text = _Short().repr(value) if isinstance(value, _PLAIN) or value is None else _Short().repr_instance(value, 1)
    return shortened(text)


def shortened(text: str) -> str:
    """Return a text cut to 80 characters on one line."""
    line = " ".join(text.split()) if any(not letter.isprintable() for letter in text) else text
    return line if len(line) <= LONGEST_SHOWN else line[: LONGEST_SHOWN - 3] + "..."


def _kind(value: Any) -> str:
    if isinstance(value, type):
        return f"<class {value.__name__}>"
    shape = getattr(value, "shape", None)
    sized = isinstance(shape, tuple) and all(isinstance(size, int) for size in shape)
    return f"<{type(value).__name__} of shape {tuple(shape)}>" if sized and shape else f"<{type(value).__name__}>"


def _comes_from(value: Any, package: str, name: str) -> bool:
    """Whether a value is an instance or a class of ``package``'s class ``name``; the package is not imported."""
    bases = value.__mro__ if isinstance(value, type) else type(value).__mro__
    return any(base.__name__ == name and f"{base.__module__}.".startswith(f"{package}.") for base in bases)


def _called(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of class {type(value).__name__}"


def refuse_objects(tree: Mapping[str, Any]) -> None:
    """Refuse modules, optimizers and losses where a config holds texts, and what no file can hold.

    Raises:
        ConfigError: With the text to write, or the keyword that takes the object.
    """
    data = tree.get("data")
    source = data.get("source") if isinstance(data, Mapping) else data
    if hasattr(source, "shape") or isinstance(source, list | tuple):
        place = "data.source" if isinstance(data, Mapping) else "data"
        raise ConfigError(
            f"{place}: {shown(source)} came; expected a file or sklearn:NAME; hand arrays and tables over with the "
            "keyword data, such as data=(X, y)"
        )
    model, training = (found if isinstance(found := tree.get(name), Mapping) else {} for name in ("model", "training"))
    layers = model.get("layers")
    for layer in [layers, *(layers if isinstance(layers, list | tuple) else [])]:
        if _comes_from(layer, "torch.nn", "Module"):
            raise ConfigError(
                f'model.layers: {_called(layer)} came; expected texts; write texts such as "Linear(64)", '
                "or hand the module over with model=nn.Sequential(...)"
            )
    for name, package, kind, text, keyword in (
        ("optimizer", "torch.optim", "Optimizer", "Adam(lr=0.001)", ""),
        ("loss", "torch.nn", "Module", "MSELoss()", ", or hand the object over with the keyword loss"),
    ):
        value = training.get(name)
        if value is not None and (_comes_from(value, package, kind) or callable(value)):
            raise ConfigError(f'training.{name}: {_called(value)} came; expected a text; write the text "{text}"{keyword}')
    arguments = model.get("arguments")
    for path, value in _leaves(arguments, "model.arguments") if isinstance(arguments, Mapping) else ():
        if value is None:
            raise ConfigError(f"{path}: None came; a config has no None; leave it out and let the class default")
        if not (isinstance(value, (*_LITERALS, *_DATES)) or hasattr(value, "tolist") or hasattr(value, "__fspath__")):
            raise ConfigError(f"{path}: {shown(value)} came; {_ARGUMENT}; hand a finished module over with model=MODULE")


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else None
    if inner is None:
        yield path, value
        return
    for key, item in inner:
        yield from _leaves(item, f"{path}.{shortened(str(key))}")
