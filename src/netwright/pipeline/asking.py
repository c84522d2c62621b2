"""What a user asks for in Python or on the command line, sorted out before anything is prepared. Floor 12."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from torch import nn

from netwright.config.read import apply_setting, build_config, read_file, written_toml
from netwright.config.schema import RunConfig
from netwright.config.spaces import flattened
from netwright.distributed.world import ALONE, World
from netwright.errors import ConfigError
from netwright.model.own import refuse_no_code
from netwright.pipeline.bench import Bench, gather, prepare, try_network
from netwright.pipeline.custom import Custom, sorted_out, with_rows_alone
from netwright.pipeline.network import OwnModule
from netwright.rows.reading import PARTS

_AS_TEXT = {
    "data": 'a path, data="rows.csv"',
    "model": 'texts, layers=["Linear(64)", "ReLU()", "Linear()"]',
    "loss": 'a text, loss="L1Loss()"',
    "optimizer": 'a text, optimizer="Adam(lr=0.1)"',
    "schedule": 'a text, schedule="CosineAnnealingLR()"',
    "metrics": 'texts, metrics=["f1_score"]',
}

FOR_ANY_MODULE = ("model.weights", "model.head")  # where weights come from, and which layers begin new

ARGUMENTS = "model.arguments"

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Asked:
    """What a user asks for: settings and objects, read but not yet prepared."""

    config: RunConfig
    name: str
    data: Any
    module: OwnModule | None
    loss: Any
    code: tuple[Path, ...]
    command: str
    custom: Custom = Custom()

    def bench(self, world: World = ALONE) -> Bench:
        """Prepare everything, for the processes of a world; nothing is written."""
        return prepare(
            self.config,
            self.name,
            data=self.data,
            module=self.module,
            loss=self.loss,
            code=self.code,
            command=self.command,
            custom=self.custom,
            world=world,
        )

    def with_split(self, **changes: int) -> Asked:
        """Return the same with another split."""
        split = self.config.data.split.model_copy(update=changes)
        return replace(
            self, config=self.config.model_copy(update={"data": self.config.data.model_copy(update={"split": split})})
        )

    def with_settings(self, settings: Sequence[str]) -> Asked:
        """Return the same with some settings changed by texts such as ``training.epochs=50``.

        Raises:
            ConfigError: One of them cannot be.
        """
        tree = tomllib.loads(self.written())
        module, others = argued(self.module, settings)
        for setting in others:
            apply_setting(tree, setting)
        return replace(self, config=build_config(tree), module=module)

    def try_on(self, bench: Bench) -> None:
        """Build the network and try a step on the rows of a bench whose data these settings share; nothing of it is kept.

        Raises:
            ConfigError: The network or its optimizer cannot be.
        """
        try_network(bench, self.config, module=self.module, loss=self.loss, code=self.code)

    def with_file(self, path: Path) -> Asked:
        """Return the same with the settings of a file, such as the resolved ones of a run."""
        return replace(self, config=build_config(read_file(path)))

    def written(self) -> str:
        """Return the settings that the user wrote, as TOML."""
        return written_toml(self.config)

    def refuse_fixed(self, paths: Sequence[str], where: str) -> None:
        """Refuse settings that something from Python stands for: they would change nothing.

        Args:
            paths: Such as ``training.optimizer.lr``.
            where: What they are, for the message.

        Raises:
            ConfigError: Naming the first.
        """
        objects = {
            "model": ("model", self.module),
            **{f"data.{name}": ("data", self.data) for name in ("source", *PARTS)},
            "training.loss": ("loss", self.loss),
            "training.optimizer": ("optimizer", self.custom.optimizer),
            "training.parameter_groups": ("optimizer", self.custom.optimizer),
            "training.schedule": ("schedule", self.custom.schedule),
            "training.metrics": ("metrics", self.custom.metrics or None),
        }
        for path in paths:
            for name, (own, value) in objects.items():
                inside = path == name or path.startswith(f"{name}.")
                free = path.startswith(FOR_ANY_MODULE) or _is_argument(self.module, path)
                if value is not None and inside and not free:
                    raise ConfigError(
                        f"{where}: {path} came with {own}= from Python, which it cannot change; expected other settings; leave it "
                        f"out, or hand the {own} over as {_AS_TEXT[own]}"
                    )


def rows_first(function: Callable[P, R]) -> Callable[P, R]:
    """Return a verb that takes one value by its place, the rows or their settings, and says so where more come."""

    @wraps(function)
    def asked(*arguments: P.args, **keywords: P.kwargs) -> R:
        if len(arguments) > 1:
            name = f"nw.{function.__name__}"
            raise ConfigError(
                f"{name}: {len(arguments)} values without a name came; expected one, the rows or a config; rows and their target "
                f"are a pair, {name}((X, y)); all else goes by its name"
            )
        return function(*arguments, **keywords)

    return asked


def code_files(code: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    """Return files of code one by one; one alone is one."""
    return tuple(Path(file) for file in ([code] if isinstance(code, str | Path) else code))


def setting_texts(settings: str | Sequence[str]) -> list[str]:
    """Return settings one by one; a text alone is one."""
    return [settings] if isinstance(settings, str) else list(settings)


def _is_argument(module: Any, path: str) -> bool:
    """Tell whether a setting is of the arguments of a class that came from Python with these."""
    path = path.partition("=")[0].strip()
    return isinstance(module, tuple | list) and (path == ARGUMENTS or path.startswith(f"{ARGUMENTS}."))


def _argued(module: Any, text: str) -> OwnModule:
    """Return a class with its arguments, some of them changed by a text such as ``model.arguments.width=64``."""
    tree: dict[str, Any] = {"model": {"arguments": {}}}
    apply_setting(tree, text)
    return module[0], {**module[1], **tree["model"]["arguments"]}


def argued(module: Any, settings: Sequence[str]) -> tuple[Any, list[str]]:
    """Return a class from Python with the arguments that settings give it, and the other settings."""
    for text in settings:
        module = _argued(module, text) if _is_argument(module, text) else module
    return module, [text for text in settings if not _is_argument(module, text)]


def setting_paths(text: str) -> list[str]:
    """Return the dotted paths of what a setting changes; of a table those of all in it.

    Example:
        >>> setting_paths('training={optimizer="Adam(lr=0.5)", epochs=3}')
        ['training.optimizer', 'training.epochs']
    """
    path, _, raw = text.partition("=")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):  # a plain text; what is wrong with it is told where it is read
        value = raw
    return list(flattened(value, path.strip())) if isinstance(value, Mapping) else [path.strip()]


def gather_all(
    config: Any,
    model: Any,
    data: Any,
    loss: Any,
    code: Sequence[str | Path],
    settings: Sequence[str],
    keywords: Mapping[str, Any],
) -> Asked:
    """Read settings and sort out what was handed over."""
    merged, settings = dict(keywords), setting_texts(settings)
    if isinstance(merged.get("test"), bool):
        raise ConfigError(
            f"test: {merged['test']} came; expected none: only nw.train and nw.repeat are asked whether to test; leave it out"
        )
    custom = sorted_out(merged)
    module: OwnModule | None = None
    _refuse_rows_twice(config, data, merged)
    if config is not None and not isinstance(config, str | Path | Mapping):
        config, data = None, config
    if isinstance(model, nn.Module):
        module = model
    elif isinstance(model, Mapping):
        merged["model"] = model
    elif isinstance(model, Sequence) and not isinstance(model, str) and len(model) == 2 and isinstance(model[0], type):
        if not isinstance(model[1], Mapping):
            raise ConfigError(
                f"model: ({model[0].__name__}, {model[1]!r:.40}) came; expected (Class, arguments) with a dictionary of these, "
                f"such as ({model[0].__name__}, {{'hidden': 64}}); write the argument's name"
            )
        module = (model[0], dict(model[1]))
    elif model is not None:
        raise ConfigError(
            f"model: {type(model).__name__} came; expected a torch.nn.Module, (Class, arguments) or a dictionary; "
            "texts go into layers=[...]"
        )
    if isinstance(data, str | Path):
        data = {"source": str(data)}
    sections = isinstance(data, Mapping) and all(isinstance(key, str) for key in data) and "source" in data
    if sections or (isinstance(data, Mapping) and "train" in data and isinstance(data["train"], str | Path)):
        merged["data"], data = data, None
    own_loss = None if loss is None or isinstance(loss, str) else loss
    if isinstance(loss, str):
        merged["loss"] = loss
    if own_loss is not None and not callable(own_loss):
        raise ConfigError(f"loss: {type(loss).__name__} came; expected a text or a callable of output and target")
    module, others = argued(module, settings)
    read, name = gather(config, others, merged)
    if module is not None and read.model.layers is not None:
        raise ConfigError("model and layers came together; describe the network in one of them")
    command = f"netwright train {config}" if isinstance(config, str | Path) else "netwright train CONFIG"
    data = with_rows_alone(data, custom)
    files = code_files(code)
    refuse_no_code(files)
    asked = Asked(read, name, data, module, own_loss, files, command, custom)
    asked.refuse_fixed([path for text in settings for path in setting_paths(text)], "settings")
    return asked


def with_test_rows(test: Any, keywords: Mapping[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Return whether to test, and the keywords with the file of test rows where one stands beside that of train rows.

    Raises:
        ConfigError: It is neither true nor false, nor such a file.
    """
    if isinstance(test, str | Path) and isinstance(keywords.get("train"), str | Path):
        return True, {**keywords, "data": {"test": str(test)}}
    if not isinstance(test, bool):
        raise ConfigError(
            f"test: {test!r} came; expected True or False, whether to test; rows of one's own to test on go into "
            "data={'train': ..., 'test': ...}, a share of all rows into split={'test': 0.2}"
        )
    return test, dict(keywords)


def _refuse_rows_twice(config: Any, data: Any, keywords: Mapping[str, Any]) -> None:
    """Refuse rows that came in two ways, one of which would be dropped without a word.

    Raises:
        ConfigError: Naming both.
    """
    first = config is not None and not isinstance(config, Mapping)
    first = first and not (isinstance(config, str | Path) and Path(config).suffix.lower() == ".toml")
    came = [f"{config if isinstance(config, str | Path) else type(config).__name__} first"] if first else []
    came += [f"data={data if isinstance(data, str | Path) else type(data).__name__}"] if data is not None else []
    came += [f"{name}={keywords[name]}" for name in ("source", "train") if keywords.get(name) is not None][:1]
    if len(came) > 1:
        raise ConfigError(f"train: rows came as {' and as '.join(came[:2])}; expected them once; leave one out")
