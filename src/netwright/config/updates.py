"""Settings of a training step that must go together: groups of parameters and their optimizer, what is done to gradients.

Floor 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from netwright.config import signatures
from netwright.config.calls import OBJECT, Call, parse_call
from netwright.config.values import shown

FOR_ALL = ("fused", "foreach", "capturable", "differentiable")  # how the update is computed, whatever the group
GROUP_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["parameters"],
    "properties": {"parameters": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
}
GRADIENTS = ("clip_grad_norm", "clip_grad_value", "l1", "sharpness")
EXAMPLE = '{ parameters = ["biases", "norms"], weight_decay = 0.0 }'


def group_problems(groups: Sequence[Mapping[str, Any]], optimizer: str) -> list[str]:
    """Return what is wrong with groups of parameters, all of it.

    Args:
        groups: As they are written in training.parameter_groups.
        optimizer: Its text, whose name is known; that of a Python object is passed over.

    Example:
        >>> group_problems([{"parameters": ["biases"], "weight_dekay": 0.0}], "SGD(lr=0.1)")
        ["training.parameter_groups.0: SGD has no argument 'weight_dekay'; did you mean weight_decay?"]
    """
    found: list[str] = []
    for number, group in enumerate(groups):
        where = f"training.parameter_groups.{number}"
        patterns = group.get("parameters")
        named = isinstance(patterns, list) and patterns and all(isinstance(pattern, str) for pattern in patterns)
        if not named:
            came = "no parameters" if patterns is None else f"parameters = {shown(patterns)}"
            found.append(f"{where}: {came} came; expected a list of layers or names; write {EXAMPLE}")
            continue
        if not optimizer.startswith(OBJECT):
            found += _argument_problems(group, parse_call(optimizer, "training.optimizer").name, where)
    return found


def _argument_problems(group: Mapping[str, Any], name: str, where: str) -> list[str]:
    """Return what is wrong with the arguments of one group."""
    given = {key: value for key, value in group.items() if key != "parameters"}
    if name == "LBFGS":
        return [f"{where}: it came with LBFGS, which has one group; expected another optimizer; leave the groups out"]
    if not given:
        return [f"{where}: {shown(dict(group))} came; expected an argument of {name} for it; write {EXAMPLE}"]
    problem = signatures.optimizers().problem(Call(name, (), tuple(given.items())), where)
    if problem:
        return [problem]
    for key, value in given.items():
        if key in FOR_ALL:
            return [
                f"{where}: {key} = {shown(value)} came; expected it for all groups at once; write it in training.optimizer"
            ]
        if isinstance(value, str) and key != "adjust_lr_fn":
            return [f"{where}: {key} = {shown(value)} came; expected a number; write for instance {key} = 0.001"]
    return []


def step_problems(training: Any) -> list[str]:
    """Return what of a step does not go together, by the settings of the section training."""
    asked = [name for name in GRADIENTS if getattr(training, name)]
    half = training.precision == "float16"
    own = training.optimizer.startswith(OBJECT)
    if not own and parse_call(training.optimizer, "training.optimizer").name == "LBFGS":
        setting = [f"{name} = {getattr(training, name)}" for name in asked] + (['precision = "float16"'] if half else [])
        if setting:
            return [
                f"training: {setting[0]} came with LBFGS, which searches along the gradient of the loss itself; expected another "
                "optimizer, such as Adam(); leave one of them out"
            ]
    if half and training.sharpness:
        return [
            f'training: sharpness = {training.sharpness} came with precision = "float16"; expected one of them: a gradient uphill '
            'has no scale that is known; write precision = "bfloat16"'
        ]
    return []
