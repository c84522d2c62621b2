"""The user's own class in a file of their own: run only if the file was named on the command line. Floor 4."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from netwright.config.calls import OWN_CODE
from netwright.errors import ConfigError, SafetyError, did_you_mean


def load_class(file: Path, name: str) -> type[nn.Module]:
    """Run a file the user named on the command line and return one of its classes.

    Args:
        file: The Python file.
        name: A subclass of ``torch.nn.Module`` in it.

    Raises:
        ConfigError: No such file or class, or the file fails.
    """
    if not file.is_file():
        raise ConfigError(f"model.module: {file}: no such file; expected FILE.py:ClassName; check the path")
    spec = importlib.util.spec_from_file_location(f"{OWN_CODE}{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"model.module: {file}: no Python file; expected FILE.py:ClassName; check the path")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise ConfigError(f"model.module: {file}: {type(error).__name__}: {error}; mend the file") from error
    finally:
        sys.path.remove(str(file.parent))
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        classes = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, nn.Module)]
        raise ConfigError(f"model.module: {file} has no torch.nn.Module {name!r}; {did_you_mean(name, classes)}")
    return found


def make_own(kind: type[nn.Module], arguments: Mapping[str, Any], name: str) -> nn.Module:
    """Build the user's own class.

    Raises:
        ConfigError: The arguments do not fit its constructor, or the constructor fails.
    """
    try:
        inspect.signature(kind).bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"model.arguments: {name}{inspect.signature(kind)}: {error}; mend model.arguments") from None
    try:
        return kind(**arguments)
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise ConfigError(f"model.module: {name} cannot be built: {type(error).__name__}: {error}; mend it") from error


def refuse_extra_state(module: nn.Module) -> None:
    """Refuse a module of which the state holds more than tensors.

    Raises:
        ConfigError: Its ``get_extra_state`` gives something else, which files without pickle cannot keep.
    """
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise ConfigError(
                f"model: get_extra_state of {type(module).__name__} gives {type(value).__name__} ({name}); expected a tensor, as "
                "weights and checkpoints hold nothing else; return one, or keep it in a buffer"
            )


def refuse_no_code(code: Sequence[Path]) -> None:
    """Refuse a file of code that is not there.

    Raises:
        ConfigError: Naming it.
    """
    for named in code:
        if not named.is_file():
            raise ConfigError(f"--code {named}: no such file; expected the Python file to run; check the path")


def refuse_unnamed(module: str, code: Sequence[Path], command: str, other: str = "") -> Path:
    """Return the file of ``FILE.py:Class`` if the command line named it.

    Raises:
        ConfigError: A file named on the command line is not there.
        SafetyError: It did not; a config alone never runs code.
    """
    file = Path(module.rpartition(":")[0])
    refuse_no_code(code)
    if not any(named.resolve() == file.resolve() for named in code):
        also = f" (or name {other} instead)" if other else ""
        raise SafetyError(
            f"model.module: {module} is Python code, and a config alone never runs code; if you trust it, type: "
            f"{command} --code {file}{also}"
        )
    return file
