"""Settings of a run that goes on: which may change, which must stay, and how each change is told. Floor 14."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netwright.config import signatures
from netwright.config.calls import OBJECT, parse_call
from netwright.config.read import apply_setting, build_config
from netwright.config.schema import EvaluationConfig, RunConfig
from netwright.config.values import shortened
from netwright.errors import CheckpointError
from netwright.pipeline.together import OF_EACH_MACHINE
from netwright.runfolder import folder as folders
from netwright.runfolder.folder import read_config
from netwright.training.optimizer import names_kernel

# settings that may be changed, and what that does
FREE = {
    "training.epochs": "the run ends after {new} epochs",
    "training.early_stopping": "it decides from now on when the run ends",
    "training.optimizer": "the steps from now on use it",
    "training.parameter_groups": "the steps from now on use it",
    "training.threads": "other threads add in another order",
    "training.device": "another device adds in another order",
    "training.engine": "eager and captured have the same bits, compiled others",
    "training.lanes": "the numbers are the same for any",
    "training.micro_batch": "gradients are added up in other parts",
    "training.strategy": "gradients are added up in other parts",
    "checkpoint.every_steps": "",
    "checkpoint.every_seconds": "",
    "checkpoint.keep": "",
    "data.workers": "the numbers are the same for any",
    **{f"evaluation.{name}": "" for name in EvaluationConfig.model_fields},
}
RATED = {  # of which only the learning rate may be changed
    "training.optimizer": "training.optimizer.lr",
    "training.parameter_groups": "training.parameter_groups.N.lr",
}
WITHOUT_EFFECT = ("evaluation.", *RATED, "training.epochs")  # where nothing is left to train


@dataclass(frozen=True)
class Change:
    """A setting that was changed on purpose."""

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        does = FREE[self.path].format(new=self.new)
        return f"{self.path} {shortened(str(self.old))} -> {shortened(str(self.new))}{': ' if does else ''}{does}"


def changed(folder: Path, settings: Sequence[str]) -> tuple[RunConfig, list[Change]]:
    """Return the settings of a run with some changed, and the changes.

    Raises:
        CheckpointError: A setting that must stay as it is; it is named with both values.
    """
    before = read_config(folder)
    if not settings:
        return before, []
    if before.training.optimizer.startswith(OBJECT) and any(text.startswith("training.optimizer") for text in settings):
        raise CheckpointError(
            f"{folder}: training.optimizer is {before.training.optimizer}, a Python object, which no setting changes; expected the "
            "same; train a new run"
        )
    tree = tomllib.loads((folder / folders.CONFIG).read_text(encoding="utf-8"))
    for setting in settings:
        apply_setting(tree, setting)
    after = build_config(tree)
    if after.training.optimizer != before.training.optimizer:
        after = _with_kernel(after, before)
    found = [Change(path, old, new) for path, old, new in differences(before, after)]
    for change in found:
        if change.path not in FREE or (change.path in RATED and not _only_rate(change)):
            what = ", ".join(RATED.get(name, name) for name in FREE)
            what = "its lr only" if change.path in RATED else f"a change of {what}"
            raise CheckpointError(
                f"{folder}: {change.path} {shortened(str(change.old))} -> {shortened(str(change.new))} came; expected {what}; "
                "train a new run from its config.toml with that setting"
            )
    return after, found


def _only_rate(change: Change) -> bool:
    """Tell whether two texts of an optimizer, or two lists of groups, differ in learning rates alone."""
    if change.path == "training.parameter_groups":
        old, new = ([{**group, "lr": None} for group in groups] for groups in (change.old, change.new))
        return old == new
    return _same_call(change.old, change.new, but="lr")


def _with_kernel(config: RunConfig, before: RunConfig) -> RunConfig:
    """Return settings whose optimizer has the kernel that was chosen for it before, where its text chooses none."""
    where = "training.optimizer"
    new, old = (parse_call(one.training.optimizer, where) for one in (config, before))
    if new.name != old.name:
        return config
    new = signatures.named(new, signatures.optimizers(), where)
    if "fused" in old.keywords and not names_kernel(new):
        new = new.with_keyword("fused", old.keywords["fused"])
    return config.model_copy(update={"training": config.training.model_copy(update={"optimizer": str(new)})})


def differences(before: RunConfig, after: RunConfig) -> list[tuple[str, Any, Any]]:
    """Return the path, the old and the new value of every setting that differs."""
    one, other = before.model_dump(), after.model_dump()
    found = []
    for section in one:
        for name in one[section] or ():
            old, new = one[section][name], other[section][name]
            if old != new:
                found.append((f"{section}.{name}", old, new))
    return found


def worked_out_otherwise(before: RunConfig, after: RunConfig) -> list[tuple[str, Any, Any]]:
    """Return the `differences` but for what is each machine's own affair: what is mapped now may have been in memory.

    Neither is it one that a schedule names its arguments in another order, nor whether more or less is better of what an early
    stopping watches that is switched on now.
    """
    found = [one for one in differences(before, after) if one[0] not in OF_EACH_MACHINE]
    found = [one for one in found if one[0] != "training.early_stopping" or not _but_for_mode(*one[1:])]
    return [one for one in found if one[0] != "training.schedule" or not _same_call(*one[1:])]


def _but_for_mode(one: Any, other: Any) -> bool:
    sections = isinstance(one, dict) and isinstance(other, dict) and one.get("mode") is None
    return sections and {**one, "mode": other.get("mode")} == other


def _same_call(one: Any, other: Any, but: str = "") -> bool:
    """Tell whether two texts are the same call with the same arguments, but for one of them."""
    if not all(isinstance(text, str) and not text.startswith(OBJECT) for text in (one, other)):
        return False
    calls = [parse_call(text, "training") for text in (one, other)]
    kept = [(call.name, call.args, {**call.keywords, but: None}) for call in calls]
    return kept[0] == kept[1]
