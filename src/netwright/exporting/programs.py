"""A program as a file that other programs run: ``torch.export`` (.pt2) and ONNX. Floor 10."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from netwright.engine.own_code import own_code
from netwright.errors import CheckpointError, ConfigError, first_line
from netwright.exporting.averaged import Averaged
from netwright.exporting.described import DESCRIPTION, OPSET, Call, without
from netwright.exporting.whole import Whole

Exportable = Whole | Averaged
RATIO = (  # numerators and denominators of Wichura's two ranges, from the highest power down
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457, 13731.693765509461125,
     1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867, 5394.1960214247511077,
     687.1870074920579083, 42.313330701600911252, 1.0),
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
     3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
     0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0),
)  # fmt: skip

SCALED: dict[Any, Any] = {  # operations on a number, and what does the same with a tensor
    torch.ops.aten.add.Tensor: torch.ops.aten.add.Tensor,
    torch.ops.aten.sub.Tensor: torch.ops.aten.sub.Tensor,
    torch.ops.aten.mul.Tensor: torch.ops.aten.mul.Tensor,
    torch.ops.aten.div.Tensor: torch.ops.aten.div.Tensor,
    torch.ops.aten.rsub.Scalar: torch.ops.aten.sub.Tensor,
    torch.ops.aten.clamp.default: torch.ops.aten.clamp.Tensor,
}


def traced(whole: Exportable) -> ExportedProgram:
    """Return the program as a graph with a free number of rows.

    Raises:
        ConfigError: ``torch.export`` cannot take the network.
    """
    own = bool(own_code(whole.network, torch.nn.Identity()))
    with _quiet(), torch.no_grad():
        try:
            return torch.export.export(whole, whole.example(), dynamic_shapes={"inputs": _free(whole)}, strict=own)
        except Exception as error:  # what torch.export raises has no common class
            raise ConfigError(_refusal("torch.export", error)) from error


def _free(whole: Exportable) -> tuple[dict[int, Any], ...]:
    """Return the free axes of each input as torch.export reads them."""
    dims = {"rows": Dim("rows", min=1), "time": Dim("time", min=1)}
    return tuple({axis: dims[name] for axis, name in axes.items()} for axes in whole.dynamic())


def torch_bytes(whole: Exportable, description: str) -> bytes:
    """Return a program as a ``.pt2`` file, its description within."""
    sink = io.BytesIO()
    with _quiet():
        torch.export.save(traced(whole), sink, extra_files={DESCRIPTION: description})
    return sink.getvalue()


def onnx_bytes(whole: Exportable, description: str) -> bytes:
    """Return a program as an ``.onnx`` file, its description among the metadata.

    Raises:
        ConfigError: onnx and onnxscript are missing, or ONNX has not all that the network does.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise ConfigError(without("onnx and onnxscript", "to export")) from None
    graph = traced(whole)
    names = ["location_" if name == "location" else name for name in whole.input_names]  # `described.ELSEWHERE` is that word
    with _quiet(), torch.no_grad():
        try:
            table = {
                torch.ops.aten.searchsorted.Tensor: _places,
                torch.ops.aten.special_ndtri.default: _normal_quantiles,
            }
            graph = _exact(graph.run_decompositions(table), whole)
            found = torch.onnx.export(
                graph, (), input_names=names, output_names=["prediction"], opset_version=OPSET, dynamo=True,
                verbose=False,
            )  # fmt: skip
            assert found is not None  # noqa: S101 - dynamo=True gives a program
            found.model.metadata_props[DESCRIPTION] = description
            return bytes(found.model_proto.SerializeToString())
        except Exception as error:  # the exporter's errors have no common class
            raise ConfigError(_refusal("ONNX", error)) from error


def _exact(graph: ExportedProgram, whole: Exportable) -> ExportedProgram:
    """Return the same graph with float64 tensors in place of Python's numbers, which the ONNX exporter makes float32."""
    module, count = graph.module(), 0
    for node in list(module.graph.nodes):
        value = node.meta.get("val")
        plain = isinstance(value, Tensor) and value.dtype == torch.float64
        if node.op != "call_function" or not plain or node.target not in SCALED:
            continue
        numbers = [argument for argument in node.args if isinstance(argument, float)]
        held = {}
        for number in numbers:
            name, count = f"number_{count}", count + 1
            module.register_buffer(name, torch.tensor(number, dtype=torch.float64))
            with module.graph.inserting_before(node):
                held[number] = module.graph.get_attr(name)
        if numbers:
            arguments = tuple(held[one] if isinstance(one, float) else one for one in node.args)
            turned = node.target is torch.ops.aten.rsub.Scalar
            node.args = arguments[::-1] if turned else arguments
            node.target = SCALED[node.target]
    if not count:
        return graph
    module.recompile()
    return torch.export.export(module, whole.example(), dynamic_shapes=_free(whole), strict=False)


def _refusal(what: str, error: Exception) -> str:
    causes = [error]
    while (cause := causes[-1].__cause__) is not None and isinstance(cause, Exception):
        causes.append(cause)
    return (
        f"export: {what} cannot take this network ({first_line(causes[-1])[:200]}); expected layers and operations that it has; "
        "use --format bundle, which takes every network"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporters print and warn of to themselves, and torch's fused attention, which they lack, off."""
    level, fused = logging.root.manager.disable, torch.backends.mha.get_fastpath_enabled()
    logging.disable(logging.WARNING)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        logging.disable(level)


def _places(points: Tensor, values: Tensor, **_: Any) -> Tensor:
    """Return what ``torch.searchsorted`` does, by comparing each value ``(columns, rows)`` with all points."""
    return (points.unsqueeze(-2) < values.unsqueeze(-1)).sum(-1)


def _normal_quantiles(shares: Tensor) -> Tensor:
    """Return the normal quantile of shares from 0.001 to 0.999, right to 16 digits.

    Source: Wichura, Algorithm AS 241: The Percentage Points of the Normal Distribution, 1988.
    """
    centred = shares - 0.5
    inner = 0.180625 - centred * centred
    outer = (-torch.minimum(shares, 1.0 - shares).log()).sqrt() - 1.6
    middle = centred * _power_sum(RATIO[0], inner) / _power_sum(RATIO[1], inner)
    tail = torch.sign(centred) * _power_sum(RATIO[2], outer) / _power_sum(RATIO[3], outer)
    return torch.where(centred.abs() <= 0.425, middle, tail)


def _power_sum(factors: tuple[float, ...], value: Tensor) -> Tensor:
    found = factors[0] * value + factors[1]
    for factor in factors[2:]:
        found = found * value + factor
    return found


def open_torch(path: Path) -> Call:
    """Read a ``.pt2`` file, which may run code: only of one that the user trusts.

    Raises:
        CheckpointError: It cannot be read, or by no torch of this version.
    """
    with _quiet():
        try:
            program = torch.export.load(path)
            module = program.module()
        except Exception as error:  # whatever a damaged file raises
            raise CheckpointError(
                f"{path}: cannot be read by torch {torch.__version__} ({first_line(error)[:200]}); expected a program of "
                "netwright export --format torch; export it again with this version of torch"
            ) from error

    def call(inputs: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        with torch.no_grad():
            return np.asarray(module(*(torch.from_numpy(np.ascontiguousarray(value)) for value in inputs)))

    return call
