"""Layer calls in, a plain ``nn.Sequential`` out: sizes worked out on the meta device, then built for real.

`resolve` fills in what was left out and names both layers and both shapes where they do not meet; `construct` makes the
modules from the resolved calls, in order, so that the same seed gives the weights of the hand-written
``nn.Sequential``. Floor 4.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from netwright.config import signatures
from netwright.config.calls import CONTAINERS, Call
from netwright.errors import ConfigError, first_line
from netwright.model import modules, numeric
from netwright.model.layers import (
    AXES,
    CODE_LAYERS,
    Form,
    follow,
    layouts_read,
    mismatch_advice,
    wanted_size,
)
from netwright.model.measuring import two_rows, without_weights

OWN: dict[str, type[nn.Module]] = {
    name: getattr(numeric if hasattr(numeric, name) else modules, name)
    for name in (*signatures.OWN_LAYERS, "RNN", "LSTM", "GRU", "MultiheadAttention")
}
BATCH_FIRST = ("RNN", "LSTM", "GRU", "MultiheadAttention", "TransformerEncoderLayer")
NEEDS_DIM = ("Softmax", "LogSoftmax", "Softmin")
COUNTS = (
    "in_features", "out_features", "in_channels", "out_channels", "num_features", "num_channels", "num_groups", "input_size",
    "hidden_size", "num_layers", "num_embeddings", "embedding_dim", "embed_dim", "num_heads", "d_model", "nhead", "groups",
    "dimension", "frequencies", "most",
)  # fmt: skip
SIZE_WORD = {"in_features": "features", "input_size": "features", "embed_dim": "features", "d_model": "features"}


@dataclass(frozen=True)
class Layer:
    """One resolved layer: its path such as ``2.0``, its call with every argument, and the form it gives.

    A container stands before the layers inside it, without arguments.
    """

    path: str
    call: Call
    form: Form


@dataclass
class Resolved:
    """A resolved list: the calls as they build, every layer in order of execution, and torch's own warnings."""

    calls: list[Call] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    form: Form = Form((), None)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sizes:
    """Sizes that do not come from the layer before.

    ``outputs`` of the task, codes of the first Embedding, codes of each column for EmbedColumns; how many of the first
    features are ``numbers`` of a table, for PeriodicEmbeddings; None for all of them.
    """

    outputs: int
    codes: int | None = None
    code_levels: tuple[int, ...] = ()
    numbers: int | None = None


def resolve(calls: Sequence[Call], form: Form, sizes: Sizes) -> Resolved:
    """Work out every size of a list of layers without making a weight.

    Args:
        calls: The layers as written.
        form: The shape of one row that comes in.
        sizes: Sizes from task and data.

    Returns:
        The resolved calls and the form after each layer.

    Raises:
        ConfigError: Two layers do not meet, or an argument is missing.

    Example:
        >>> from netwright.config.calls import parse_call
        >>> resolved = resolve([parse_call("Linear(8)", "0"), parse_call("Linear()", "1")], Form((4,), "NC"), Sizes(3))
        >>> [str(call) for call in resolved.calls]
        ['Linear(in_features=4, out_features=8)', 'Linear(in_features=8, out_features=3)']
    """
    resolved = Resolved()
    last = max((place for place, call in enumerate(calls) if _holds_linear(call)), default=-1)
    before = "the data give"
    for place, call in enumerate(calls):
        whole = sizes if place == last else replace(sizes, outputs=0)
        made, form = _resolve(call, str(place), form, before, whole, resolved)
        resolved.calls.append(made)
        before = f"layer {place} {call} gives"
    resolved.form = form
    return resolved


def _holds_linear(call: Call) -> bool:
    return call.name == "Linear" or any(_holds_linear(child) for child in call.children())


def _resolve(call: Call, path: str, form: Form, before: str, sizes: Sizes, resolved: Resolved) -> tuple[Call, Form]:
    where = f"model.layers.{path}"
    problem = signatures.layers().problem(call, where)
    if problem:
        raise ConfigError(problem)
    if call.name in CONTAINERS:
        return _resolve_container(call, path, form, before, sizes, resolved)
    shown = f"layer {path} {call}"
    named = signatures.named(call, signatures.layers(), where)
    _refuse_misreading(named, form, f"{where}: {shown}", before)
    named = _filled(named, form, sizes, f"{where}: {shown}")
    _refuse_odd_sizes(named, f"{where}: {shown}")
    _refuse_size(named, form, f"{where}: {shown}", before)
    result = _measure(named, form, f"{where}: {shown}", before, resolved)
    resolved.layers.append(Layer(path, named, result))
    return named, result


def _resolve_container(
    call: Call, path: str, form: Form, before: str, sizes: Sizes, resolved: Resolved
) -> tuple[Call, Form]:
    where = f"model.layers.{path}"
    children = call.children()
    flat = list(call.args[0]) if len(call.args) == 1 and isinstance(call.args[0], list | tuple) else list(call.args)
    if not children or "layers" in call.keywords or not all(isinstance(value, Call) for value in flat):
        raise ConfigError(
            f"{where}: {call} came; expected layers in a list; write {call.name}([Linear(64), ReLU()]), and several "
            "layers in a branch as Sequential([...])"
        )
    made: list[Call] = []
    forms: list[Form] = []
    current, first = form, len(resolved.layers)
    last = max((place for place, child in enumerate(children) if _holds_linear(child)), default=-1)
    for place, child in enumerate(children):
        whole = sizes if place == last or call.name == "Parallel" else replace(sizes, outputs=0)
        new, after = _resolve(child, f"{path}.{place}", current, before, whole, resolved)
        made.append(new)
        forms.append(after)
        if call.name != "Parallel":
            current, before = after, f"layer {path}.{place} {child} gives"
    turned = None not in (current.layout, form.layout) and current.layout != form.layout
    if call.name == "Residual" and (current.shape != form.shape or turned):
        raise ConfigError(
            f"{where}: Residual adds its input {form} to {current} of its last layer; expected equal shapes; "
            "make the last layer give the input's size"
        )
    if call.name != "Parallel":
        resolved.layers.insert(first, Layer(path, Call(call.name), current))
        return Call(call.name, (made,)), current
    return _join(call, made, forms, form, path, first, resolved)


def _join(
    call: Call, made: list[Call], forms: list[Form], form: Form, path: str, first: int, resolved: Resolved
) -> tuple[Call, Form]:
    """Return Parallel with its axis, and the form of its joined branches."""
    where = f"model.layers.{path}"
    dim = call.keywords.get("dim", 2 if forms[0].layout == "NTC" else 1)
    rank = len(forms[0].shape) + 1
    if type(dim) is not int or dim % rank == 0 or not -rank <= dim < rank:
        raise ConfigError(
            f"{where}: Parallel came with dim={dim!r}; expected an axis from 1 to {rank - 1}; axis 0 are the rows"
        )
    try:
        joined = torch.cat([torch.empty(1, *after.shape) for after in forms], dim=dim)
    except (RuntimeError, IndexError):
        shapes = " and ".join(str(after) for after in forms)
        raise ConfigError(f"{where}: branches give {shapes}; Parallel joins axis {dim}; make the other axes equal") from None
    result = Form(tuple(joined.shape[1:]), forms[0].layout)
    resolved.layers.insert(first, Layer(path, Call(call.name), result))
    return Call("Parallel", (made,), (("dim", dim),) if dim != 1 else ()), result


def _refuse_misreading(call: Call, form: Form, shown: str, before: str) -> None:
    """Refuse a layer that would read the axes as something else, which torch may do silently."""
    if form.codes and call.name not in CODE_LAYERS and call.name not in ("Flatten", "Identity"):
        raise ConfigError(f"{shown} reads numbers but {before} whole codes {form}; put Embedding(...) first")
    if call.name in CODE_LAYERS and not form.codes:
        raise ConfigError(
            f"{shown} reads whole codes but {before} numbers {form}; put it first and give whole numbers, "
            "or use EmbedColumns() for the categories of a table"
        )
    if form.layout in ("NTC", "NCT") and len(form.shape) < 2 and not form.codes:
        raise ConfigError(
            f"{shown} reads numbers but {before} {form}, one whole number per step; put Embedding(...) first, or hand over floats"
        )
    wanted = layouts_read(call)
    ranks = {len(layout) for layout in wanted}
    rank = len(form.shape) + 1
    fits = not wanted or form.layout in wanted or (form.layout is None and rank in ranks)
    if not fits:
        axes = " or ".join(AXES[layout] for layout in wanted)
        raise ConfigError(f"{shown} reads {axes} but {before} {form}{_meaning(form)}; {mismatch_advice(call, form)}")


def _meaning(form: Form) -> str:
    return f" = {AXES[form.layout]}" if form.layout in ("NTC", "NCT") else ""


def _filled(call: Call, form: Form, sizes: Sizes, shown: str) -> Call:
    """Write the arguments that were left out: inferred sizes, batch_first, dim."""
    given = call.keywords
    name = call.name
    if name in BATCH_FIRST:
        if given.get("batch_first", True) is not True:
            raise ConfigError(f"{shown} came with batch_first=False; rows are the first axis here; leave it out")
        given["batch_first"] = True
    wanted = wanted_size(call, form)
    if wanted is not None:
        given.setdefault(wanted[0], wanted[1])
    if name in ("LayerNorm", "RMSNorm"):
        given.setdefault("normalized_shape", form.shape[-1] if form.layout in ("NC", "NTC", None) else list(form.shape))
    if name == "Linear" and "out_features" not in given:
        if not sizes.outputs:
            raise ConfigError(f"{shown} has no size; only the last Linear() takes its size from the task; write its size")
        given["out_features"] = sizes.outputs
    if name in CODE_LAYERS:
        given.setdefault("num_embeddings", sizes.codes)
    if name == "EmbedColumns":
        if not sizes.code_levels:
            raise ConfigError(f"{shown} came but the data have no category columns; leave it out")
        given.setdefault("levels", list(sizes.code_levels))
        given.setdefault("dimensions", [embedding_size(levels) for levels in given["levels"]])
        if len(given["levels"]) != len(given["dimensions"]) or given["levels"] != list(sizes.code_levels):
            raise ConfigError(f"{shown}: the data have categories of {list(sizes.code_levels)} codes; leave levels out")
    if name == "PeriodicEmbeddings":
        _fill_columns(given, form, sizes, shown)
    if name in NEEDS_DIM and given.get("dim") is not None and given["dim"] in (0, -len(form.shape) - 1):
        raise ConfigError(f"{shown} mixes the rows of a batch; axis 0 are the rows; leave dim out")
    if name in NEEDS_DIM and given.get("dim") is None:
        given["dim"] = -1 if form.layout == "NTC" else 1
    order = [parameter for parameter, _ in signatures.layers().known[name]]
    return Call(name, (), tuple((parameter, given[parameter]) for parameter in order if parameter in given))


def _fill_columns(given: dict[str, Any], form: Form, sizes: Sizes, shown: str) -> None:
    """Write how many of the first features are numbers."""
    found = form.shape[-1] if sizes.numbers is None else sizes.numbers
    if not found:
        raise ConfigError(f"{shown} came but the data have no columns of numbers; leave it out")
    columns = given.setdefault("columns", found)
    if type(columns) is not int or not 1 <= columns <= form.shape[-1]:
        raise ConfigError(f"{shown}: columns={columns!r} came; expected 1 to {form.shape[-1]}, the features; leave it out")


def embedding_size(levels: int) -> int:
    """Return a usual vector length for a category of so many codes: half of them, at most 16."""
    return max(2, min(16, (levels + 1) // 2))


def _refuse_odd_sizes(call: Call, shown: str) -> None:
    """Refuse sizes that are no whole numbers above 0, which torch tells in words of its own."""
    for name in COUNTS:
        value = call.keywords.get(name, 1)
        if type(value) is not int or value < 1:
            raise ConfigError(f"{shown}: {name}={value!r} came; expected a whole number from 1; change it")


def _refuse_size(call: Call, form: Form, shown: str, before: str) -> None:
    wanted = wanted_size(call, form)
    if wanted is None or wanted[1] == wanted[2]:
        return
    argument, size, expected = wanted
    word = SIZE_WORD.get(argument, "channels")
    advice = f"write {size} or leave {argument} out"
    if call.name == "Linear" and form.layout not in ("NC", None) and len(form.shape) > 1:
        advice = mismatch_advice(Call("Linear"), form)
    raise ConfigError(f"{shown} expects {expected} {word} but {before} {form}; {advice}")


def _measure(call: Call, form: Form, shown: str, before: str, resolved: Resolved) -> Form:
    """Run the layer without its weights and return the form it gives."""
    wanted = wanted_size(call, form)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with without_weights():
                module = _make(call)
        except (TypeError, ValueError, RuntimeError, AssertionError, ZeroDivisionError) as error:
            raise ConfigError(f"{shown} cannot be built: {first_line(error)}; mend its arguments") from None
        try:
            output = two_rows(module, form, wanted[1] if wanted is not None else None)
        except (
            TypeError,
            ValueError,
            RuntimeError,
            IndexError,
            AssertionError,
            NotImplementedError,
            ZeroDivisionError,
        ) as error:
            raise ConfigError(
                f"{shown} cannot read {form}, which {before}: {first_line(error)}; {mismatch_advice(call, form)}"
            ) from None
    if not isinstance(output, torch.Tensor) or output.shape[:1] != (2,):
        got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ConfigError(f"{shown} mixes the rows of a batch ({got} from 2 rows); a layer keeps the first axis; change it")
    resolved.notes += [f"{shown}: {warning.message}" for warning in caught if warning.category is UserWarning]
    codes = form.codes and not output.is_floating_point()
    return Form(tuple(output.shape[1:]), follow(call, form, output.dim()), codes)


def construct(calls: Sequence[Call]) -> nn.Sequential:
    """Build resolved calls, in order, from torch's global generator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # told once by resolve
        return nn.Sequential(*(_make(call) for call in calls))


def _make(call: Call) -> nn.Module:
    if call.name in CONTAINERS:
        children = [_make(child) for child in call.children()]
        kind = nn.Sequential if call.name == "Sequential" else OWN[call.name]
        made: nn.Module = kind(*children, **call.keywords)
        return made
    layer = OWN.get(call.name) or getattr(nn, call.name)
    built: nn.Module = layer(**{name: _argument(value) for name, value in call.kwargs})
    return built


def _argument(value: Any) -> Any:
    """Return a list of numbers as the tuple torch expects."""
    return tuple(value) if isinstance(value, list) else value


def check_output(form: Form, outputs: int, need: str, steps: int | None = None) -> None:
    """Raise `ConfigError` where the network does not end with ``(N, outputs)``, or ``(N, steps, outputs)`` per step."""
    if steps is not None:
        if form.shape != (steps, outputs) or form.layout == "NCT":
            advice = "end with Transpose(), Linear()" if form.layout == "NCT" else "end with Linear(), and keep every step"
            raise ConfigError(f"model: the network gives {form}; {need} per step needs (N, {steps}, {outputs}); {advice}")
        return
    if form.shape != (outputs,):
        advice = "end with Linear()" if len(form.shape) == 1 else "end with Flatten(), Linear()"
        if len(form.shape) == 1 and form.shape[0] > outputs and ("a target of" in need or "yes-no" in need):
            advice += ", or name all classes, those without a row too: data.classes"
        if form.layout == "NTC":
            advice = "end with LastStep(), Linear()"
        raise ConfigError(f"model: the network gives {form}; {need} needs (N, {outputs}); {advice}")
