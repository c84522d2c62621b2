"""Random changes of one row: torchvision's of an image, ours of any prepared row or of a sequence.

All draw from torch's global generator on the CPU, which the caller seeds for each row; so a row's change is the same on
any device. Floor 3.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor

from netwright.config.calls import Call
from netwright.errors import ConfigError, first_line

Transform = Callable[[Tensor], Tensor]
LARGEST = 1_000_000  # steps, of a shift or a mask


@final
class Noise:
    """Adds normal noise to each number.

    Source: Um et al. 2017, "Data augmentation of wearable sensor data ...", jittering.

    Args:
        std: Its deviation, in deviations of the prepared numbers.

    Shape: any, float32.
    """

    timed = False

    def __init__(self, std: float = 0.1) -> None:
        self.std = _number("Noise", "std", std, 0.0)

    def __call__(self, values: Tensor) -> Tensor:
        return values + self.std * torch.randn(values.shape).to(values)


@final
class Scale:
    """Multiplies a row by one number, normal around 1.

    Source: Um et al. 2017, scaling.

    Args:
        std: Its deviation.

    Shape: any, float32.
    """

    timed = False

    def __init__(self, std: float = 0.1) -> None:
        self.std = _number("Scale", "std", std, 0.0)

    def __call__(self, values: Tensor) -> Tensor:
        return values * (1.0 + self.std * float(torch.randn(())))


@final
class TimeShift:
    """Moves a sequence by some steps, later or earlier; its first or last step fills the gap.

    Args:
        most: The steps it moves at most, either way; each number is as likely.

    Shape: ``(time, features)``, float32.
    """

    timed = True

    def __init__(self, most: int) -> None:
        self.most = _whole("TimeShift", most)

    def __call__(self, values: Tensor) -> Tensor:
        by = int(torch.randint(-self.most, self.most + 1, ()))
        places = (torch.arange(len(values)) - by).clamp(0, len(values) - 1)
        return values[places.to(values.device)]


@final
class TimeMask:
    """Sets a run of steps to 0, which is the mean of prepared numbers.

    Source: Park et al. 2019, "SpecAugment", time masking.

    Args:
        most: The steps of the run at most; each number from 0 is as likely.

    Shape: ``(time, features)``, float32.
    """

    timed = True

    def __init__(self, most: int) -> None:
        self.most = _whole("TimeMask", most)

    def __call__(self, values: Tensor) -> Tensor:
        width = int(torch.randint(0, min(self.most, len(values)) + 1, ()))
        start = int(torch.randint(0, len(values) - width + 1, ()))
        changed = values.clone()
        changed[start : start + width] = 0.0
        return changed


OWN: Mapping[str, type[Noise | Scale | TimeShift | TimeMask]] = {
    "Noise": Noise,
    "Scale": Scale,
    "TimeMask": TimeMask,
    "TimeShift": TimeShift,
}


def own_transform(call: Call) -> Noise | Scale | TimeShift | TimeMask:
    """Build a transform of prepared rows.

    Args:
        call: With a name of `OWN` and keywords.

    Raises:
        ConfigError: An argument out of range.
    """
    return OWN[call.name](**call.keywords)


def image_transform(call: Call, where: str) -> Transform:
    """Build a transform of torchvision.transforms.v2.

    Args:
        call: With keywords.
        where: The setting, for messages.

    Raises:
        ConfigError: torchvision is not there or does not fit torch, or refuses an argument.
    """
    try:
        v2 = importlib.import_module("torchvision.transforms.v2")
    except ModuleNotFoundError:
        raise ConfigError(
            f"{where}: {call.name} came, a transform of torchvision, which is not installed; expected torchvision beside "
            f"torch {torch.__version__}; pip install 'netwright[torchvision]', or leave it out"
        ) from None
    except (ImportError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"{where}: {call.name} came, and torchvision cannot be imported ({first_line(error)}); expected one built for torch "
            f"{torch.__version__}; install both from the same index"
        ) from None
    if not hasattr(v2, call.name):
        raise ConfigError(f"{where}: this torchvision has no {call.name}; expected a newer one; pip install -U torchvision")
    arguments = {name: _named_choice(v2, name, value) for name, value in call.keywords.items()}
    try:
        made: Transform = getattr(v2, call.name)(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{where}: {call} cannot be built: {first_line(error)}; mend its arguments") from None
    return made


def _named_choice(v2: Any, name: str, value: Any) -> Any:
    """Return the member of torchvision's enumerations that a text names; other values as they are."""
    kind = {"interpolation": "InterpolationMode", "policy": "AutoAugmentPolicy"}.get(name)
    return getattr(v2, kind)(value) if kind is not None and isinstance(value, str) else value


def _number(name: str, argument: str, value: Any, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
        raise ConfigError(f"data.augmentation: {name}({argument}={value!r}) came; expected a number of at least {least:g}")
    return float(value)


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
        raise ConfigError(f"data.augmentation: {name}(most={value!r}) came; expected a whole number of steps, at least 1")
    return value
