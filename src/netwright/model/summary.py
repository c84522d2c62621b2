"""Per layer: output shape, parameters, multiply-adds and memory, measured on two rows of the real network. Floor 4."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from netwright.errors import ConfigError, first_line
from netwright.seeding import forked

Hook = Callable[[nn.Module, Any, Any], None]

RECURRENT = ("RNN", "LSTM", "GRU")


@dataclass(frozen=True)
class LayerSummary:
    """One layer in order of execution, per row of data.

    ``output`` is the shape without the batch axis, ``multiply_adds`` counts products of matrices and convolutions,
    ``memory_bytes`` holds the output of one row.
    """

    path: str
    text: str
    output: list[int]
    parameters: int
    multiply_adds: int
    memory_bytes: int


@dataclass(frozen=True)
class Summary:
    """All layers and the totals; ``memory_bytes`` is parameters plus the outputs of one row.

    ``squeezed`` tells that one number a row comes as ``(rows,)``.
    """

    layers: tuple[LayerSummary, ...]
    parameters: int
    trainable: int
    multiply_adds: int
    memory_bytes: int
    squeezed: bool = False

    @property
    def work(self) -> tuple[int, int]:
        """The multiply-adds of all layers, and of recurrent ones."""
        return self.multiply_adds, self.by_steps

    @property
    def by_steps(self) -> int:
        """The multiply-adds of recurrent layers, which go from step to step of a sequence."""
        return sum(layer.multiply_adds for layer in self.layers if any(f"{name}(" in layer.text for name in RECURRENT))

    def to_json(self) -> dict[str, Any]:
        """Return plain values for run.json."""
        return asdict(self)


def call_model(model: nn.Module, inputs: Mapping[str, Tensor], lengths: Tensor | None = None) -> Any:
    """Call a module with its inputs: one by position, several by the names of its forward.

    Sequences of different length come with their ``lengths``, int64 ``(batch,)``, as a further argument of that name.
    One number a row may come as ``(rows,)``; see `as_column`.
    """
    return as_column(_called(model, inputs, lengths), next(iter(inputs.values())))


def as_column(output: Any, rows: Tensor) -> Any:
    """Return one number a row, ``(rows,)``, as ``(rows, 1)``, which losses and figures read; other outputs as they are.

    Of a single row ``squeeze()`` takes the axis of rows too: what it leaves is that row.

    Args:
        output: What a module gave.
        rows: What it read, ``(rows, ...)``.
    """
    if not isinstance(output, Tensor) or output.dim() > 1:
        return output
    if torch.compiler.is_exporting():  # of any number of rows
        return output.unsqueeze(1) if output.dim() == 1 else output
    if rows.shape[0] == 1:
        return output.reshape(1, -1)
    return output.unsqueeze(1) if output.dim() == 1 and output.shape[0] == rows.shape[0] else output


def _called(model: nn.Module, inputs: Mapping[str, Tensor], lengths: Tensor | None) -> Any:
    """Return what a module gives as it is."""
    further = {} if lengths is None else {"lengths": lengths}
    if len(inputs) == 1:
        return model(next(iter(inputs.values())), **further)
    return model(**inputs, **further)


def summarize(
    model: nn.Module, inputs: Mapping[str, Tensor], texts: Mapping[str, str] | None = None, lengths: Tensor | None = None
) -> Summary:
    """Run two rows through a copy of the network and count.

    Args:
        model: Any module.
        inputs: Some prepared rows by name; two are used.
        texts: Path to layer text, for networks from a list; other networks list their leaf modules. A container
            among them counts nothing itself.
        lengths: The steps of each row where they differ.

    Returns:
        The summary; the module itself is not touched.

    Raises:
        ConfigError: The module fails on the data, or holds what torch.jit made.
    """
    if scripted := [path for path, module in model.named_modules() if isinstance(module, torch.jit.ScriptModule)]:
        where = f" ({scripted[0]})" if scripted[0] else ""
        raise ConfigError(
            f"model: a module of torch.jit{where} came, of which layers cannot be watched; expected a plain torch.nn.Module; "
            "hand it over as it was before torch.jit.script or torch.jit.trace"
        )
    model = copy.deepcopy(model).cpu().eval()
    named = dict(model.named_modules())
    units = [path for path in texts if path in named] if texts else _leaves(model)
    containers = {unit for unit in units if any(other.startswith(f"{unit}.") for other in units)}
    counted, output = _run_and_count(model, *_two(inputs, lengths), units)
    layers = tuple(
        LayerSummary(
            unit,
            texts[unit] if texts else f"{type(named[unit]).__name__}({named[unit].extra_repr()})",
            counted.get(unit, _Count()).output,
            0 if unit in containers else sum(parameter.numel() for parameter in named[unit].parameters()),
            counted.get(unit, _Count()).multiply_adds,
            counted.get(unit, _Count()).memory_bytes,
        )
        for unit in (units if texts else [unit for unit in counted if unit in units])
    )
    parameters = list(model.parameters())
    return Summary(
        layers,
        sum(parameter.numel() for parameter in parameters),
        sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        sum(count.multiply_adds for count in counted.values()),
        sum(parameter.numel() * parameter.element_size() for parameter in parameters)
        + sum(count.memory_bytes for count in counted.values()),
        isinstance(output, Tensor) and output.dim() == 1 and len(next(iter(inputs.values()))) > 1,
    )


def takes_lengths(model: nn.Module) -> bool:
    """Tell whether a module's forward reads the lengths of padded sequences."""
    return "lengths" in inspect.signature(model.forward).parameters


@dataclass
class _Count:
    """What one layer did in a forward pass, per row."""

    output: list[int] = field(default_factory=list)
    multiply_adds: int = 0
    memory_bytes: int = 0


def _run_and_count(
    model: nn.Module, inputs: Mapping[str, Tensor], lengths: Tensor | None, units: Sequence[str]
) -> tuple[dict[str, _Count], Any]:
    """Call the network once and count per unit, the innermost one a module belongs to, in the order in which they ran.

    Returns:
        The counts, and what the network gave.
    """
    owner = {path: _owner(path, units) for path, _ in model.named_modules()}
    counted: dict[str, _Count] = {}

    def watch(path: str) -> Hook:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            unit, tensor = owner[path], _first_tensor(output)
            if unit is None or tensor is None:
                return
            count = counted.setdefault(unit, _Count())
            count.multiply_adds += multiply_adds(module, _first_tensor(arguments), tensor)
            if path == unit:
                count.output = count.output or list(tensor.shape[1:])
                handed_on = type(module) is nn.Sequential  # the output of its last layer is no memory of its own
                count.memory_bytes += 0 if handed_on or not len(tensor) else tensor[0].numel() * tensor.element_size()

        return hook

    handles = [module.register_forward_hook(watch(path)) for path, module in model.named_modules()]
    try:
        output = _trial(model, inputs, lengths)
    finally:
        for handle in handles:
            handle.remove()
    return counted, output


def complete_lazy(model: nn.Module, inputs: Mapping[str, Tensor], lengths: Tensor | None = None) -> None:
    """Give the lazy layers of an own module their sizes, by a first call with two rows."""
    if any(isinstance(parameter, nn.parameter.UninitializedParameter) for parameter in model.parameters()):
        with torch.no_grad():
            call_model(model.eval(), *_two(inputs, lengths))


def output_shape(model: nn.Module, inputs: Mapping[str, Tensor], lengths: Tensor | None = None) -> tuple[int, ...]:
    """Return the shape of what a module gives for two rows, the rows included.

    Raises:
        ConfigError: The module fails on the data or does not give one tensor.
    """
    with torch.no_grad():
        few, steps = _two(inputs, lengths)
        output = as_column(_trial(copy.deepcopy(model).cpu().eval(), few, steps), next(iter(few.values())))
    if not isinstance(output, Tensor):
        raise ConfigError(f"model: the network gives {type(output).__name__}; expected one tensor; return it from forward")
    return tuple(output.shape)


def _two(inputs: Mapping[str, Tensor], lengths: Tensor | None) -> tuple[dict[str, Tensor], Tensor | None]:
    """Return two rows on the CPU, and their lengths where rows differ in length."""
    return {name: value[:2].cpu() for name, value in inputs.items()}, None if lengths is None else lengths[:2].cpu()


def _trial(model: nn.Module, inputs: Mapping[str, Tensor], lengths: Tensor | None) -> Any:
    """Call a module with two rows; what its forward raises becomes one line."""
    try:
        with forked(torch.device("cpu")):
            return _called(model, inputs, lengths)
    except Exception as error:  # the user's own module may raise anything
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in inputs.items())
        reason = f"{type(error).__name__}: {first_line(error)}"
        double = any(value.dtype == torch.float64 for value in model.parameters())
        advice = "rows are float32 and weights float64, hand over model.float()" if double else "mend its forward"
        raise ConfigError(f"model: the network fails on the data ({shapes}): {reason}; {advice}") from error


def _owner(path: str, units: Sequence[str]) -> str | None:
    """Return the innermost unit a module belongs to."""
    inside = [unit for unit in units if path == unit or path.startswith(f"{unit}.")]
    return max(inside, key=len) if inside else None


def _leaves(model: nn.Module) -> list[str]:
    """Return the paths of the modules without children, attention and such counted whole."""
    whole = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
    found: list[str] = []
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{other}.") for other in found)
        if not inside and (isinstance(module, whole) or not list(module.children())):
            found.append(path)
    return found


def _first_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Sequence) and value:
        return _first_tensor(value[0])
    return None


def multiply_adds(module: nn.Module, given: Tensor | None, output: Tensor) -> int:
    """Return the multiply-adds of one row through one leaf module; 0 for modules without products."""
    rows = max(len(output), 1)
    if isinstance(module, nn.Linear):
        return output.numel() // rows * module.in_features
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return output.numel() // rows * module.weight[0].numel()
    if given is None:
        return 0
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return given.numel() // rows * module.weight[0].numel()
    if isinstance(module, nn.RNNBase):
        weights = sum(weight.numel() for name, weight in module.named_parameters() if name.startswith("weight"))
        return given.shape[1 if module.batch_first else 0] * weights
    if isinstance(module, nn.MultiheadAttention):
        steps, width = given.shape[1 if module.batch_first else 0], module.embed_dim
        return int(4 * steps * width * width + 2 * steps * steps * width)
    return 0
