"""A fitted estimator as arrays and texts: for pickles of its state, and as one safetensors file without code. Floor 17."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from netwright.errors import CheckpointError
from netwright.estimators.learning import Reading
from netwright.estimators.networks import network_again
from netwright.estimators.scaling import Scaling
from netwright.estimators.settings import EstimatorError, own_name
from netwright.exporting.bundle import fill
from netwright.model.own import make_own
from netwright.model.task import Decoding
from netwright.seeding import all_forked, initialising
from netwright.sources import labels

VERSION = 1
ABOUT = "netwright"  # the name of the JSON text in the head of the file
PLAIN = (str, int, float, bool, type(None))
TUPLE = "()"  # the key of a list that was a tuple
LEARNED = ("layers_", "history_", "n_iter_", "n_outputs_", "best_epoch_", "engine_", "loss_", "n_features_in_")
OBJECTS = ("module", "loss", "observers", "random_state")  # parameters that no file can hold, where they are objects


def as_plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of an estimator with arrays and texts in place of its own objects; an own module stays one."""
    found = dict(state)
    if "_reading" not in found:
        return found
    found["_reading"], found["_decoding"] = _reading_as_plain(found["_reading"]), _decoding_as_plain(found["_decoding"])
    if _of_layers(found["model_"], found["layers_"]):
        found["model_"] = {name: value.cpu().numpy() for name, value in found["model_"].state_dict().items()}
    return found


def from_plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state that `as_plain` took apart."""
    found = dict(state)
    if "_reading" not in found:
        return found
    found["_reading"] = _reading_again(found["_reading"])
    found["_decoding"] = _decoding_again(found["_decoding"])
    if isinstance(found["model_"], dict):
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in found["model_"].items()}
        found["model_"] = _network(found["layers_"], tensors, found["_reading"].dtype)
    return found


def _of_layers(model: nn.Module, layers: tuple[str, ...] | None) -> bool:
    """Tell whether a network is still what its layer texts make."""
    if layers is None or type(model) is not nn.Sequential:
        return False
    made = network_again(layers)
    return str(made) == str(model) and list(made.state_dict()) == list(model.state_dict())


def _network(layers: Any, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> nn.Module:
    model = network_again(layers).to(dtype)
    model.load_state_dict(tensors)
    return model.eval()


def _reading_as_plain(reading: Reading) -> dict[str, Any]:
    scaling = reading.scaling
    return {
        "shape": list(reading.shape),
        "dtype": str(reading.dtype).removeprefix("torch."),
        "mean": None if scaling is None else scaling.mean,
        "scale": None if scaling is None else scaling.scale,
        "limit": reading.limit,
        "threads": reading.threads,
        "batch_size": reading.batch_size,
    }


def _reading_again(told: Mapping[str, Any]) -> Reading:
    mean, scale = told["mean"], told["scale"]
    scaling = None if mean is None else Scaling(np.asarray(mean), np.asarray(scale))
    dtype = {"float32": torch.float32, "float64": torch.float64}[told["dtype"]]
    return Reading(tuple(told["shape"]), dtype, scaling, told["limit"], told["threads"], told["batch_size"])


def _decoding_as_plain(decoding: Decoding) -> dict[str, Any]:
    return {
        "form": decoding.form,
        "outputs": decoding.outputs,
        "mean": decoding.mean.numpy(),
        "scale": decoding.scale.numpy(),
    }


def _decoding_again(told: Mapping[str, Any]) -> Decoding:
    made = Decoding(told["form"], told["outputs"])
    made.mean.copy_(torch.from_numpy(np.array(told["mean"])))
    made.scale.copy_(torch.from_numpy(np.array(told["scale"])))
    return made


def packed(kind: str, parameters: Mapping[str, Any], state: Mapping[str, Any]) -> bytes:
    """Return a fitted estimator as the bytes of a safetensors file with a JSON text in its head.

    Args:
        kind: The name of its class.
        parameters: What ``get_params`` gives.
        state: Its attributes.
    """
    plain = as_plain({**state, "model_": state["model_"]})
    arrays = {f"{part}.{name}": plain[part].pop(name) for part in ("_reading", "_decoding") for name in ("mean", "scale")}
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items() if value is not None}
    tensors |= {f"model.{name}": value.cpu().contiguous().clone() for name, value in state["model_"].state_dict().items()}
    layers = state["layers_"] if _of_layers(state["model_"], state["layers_"]) else None
    told = {
        "version": VERSION,
        "class": kind,
        "parameters": {name: _written(name, value) for name, value in parameters.items()},
        "learned": {**{name: state[name] for name in LEARNED}, "layers_": layers},
        "reading": plain["_reading"],
        "decoding": plain["_decoding"],
        "module": None if layers is not None else type(state["model_"]).__qualname__,
        "seed": state.get("_seed"),
        "multilabel": state.get("_multilabel"),
        "columns": state.get("_columns"),
        "classes": _classes_written(state.get("classes_")),
        "names": None if "feature_names_in_" not in state else list(state["feature_names_in_"]),
    }
    return safetensors.torch.save(tensors, {ABOUT: json.dumps(told, allow_nan=True)})


def _written(name: str, value: Any) -> Any:
    """Return a parameter for JSON; None in place of an object.

    Raises:
        EstimatorError: It is neither, though it should be plain.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, PLAIN):
        return value
    if name in OBJECTS:
        return {TUPLE: []} if name == "observers" else None
    if isinstance(value, list | tuple):
        values = [_written(name, part) for part in value]
        return values if isinstance(value, list) else {TUPLE: values}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _written(name, part) for key, part in value.items()}
    raise EstimatorError(f"save: {name}={value!r} came; expected numbers, texts, lists and dictionaries; change it")


def _read(value: Any) -> Any:
    """Return the parameter that `_written` wrote."""
    if isinstance(value, list):
        return [_read(part) for part in value]
    if isinstance(value, dict):
        return tuple(_read(part) for part in value[TUPLE]) if TUPLE in value else {key: _read(value[key]) for key in value}
    return value


def _classes_written(classes: Any) -> Any:
    if classes is None:
        return None
    values = [labels.to_json(labels.plain(value)) for value in classes]
    return {"dtype": "object" if classes.dtype == object else classes.dtype.str, "values": values}


def unpacked(path: Path, kind: str, module: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters and the attributes that `packed` wrote into a file.

    Args:
        path: The file.
        kind: The name of the class that reads it.
        module: The own module again, or what makes it; None for a network of layers.

    Raises:
        EstimatorError: It is damaged, or of another class or network.
        CheckpointError: The weights do not fit.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
            told = json.loads((opened.metadata() or {})[ABOUT])
        if told["class"] != kind or told["version"] > VERSION:
            raise EstimatorError(
                f"{path}: a {told['class']} of version {told['version']} came; expected a {kind} of version {VERSION}; load "
                "it by its class"
            )
        return _again(path, told, tensors, module)
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        if isinstance(error, EstimatorError):
            raise
        raise EstimatorError(
            f"{path}: cannot be read ({error!r}); expected a file of {kind}.save; check the path"
        ) from error


def _again(path: Path, told: Any, tensors: dict[str, Tensor], module: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    parameters = {name: _read(value) for name, value in told["parameters"].items()}
    learned = told["learned"]
    arrays = {name: value.numpy() for name, value in tensors.items() if not name.startswith("model.")}
    reading = _reading_again({**told["reading"], **{name: arrays.get(f"_reading.{name}") for name in ("mean", "scale")}})
    decoding = _decoding_again({**told["decoding"], **{name: arrays[f"_decoding.{name}"] for name in ("mean", "scale")}})
    weights = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    if learned["layers_"] is not None:
        learned["layers_"] = tuple(learned["layers_"])
        made: nn.Module = network_again(learned["layers_"]).to(reading.dtype)
    else:
        made = _own(path, told, module, parameters).to(reading.dtype)
        parameters["module"] = module
    fill(made, weights, path)
    state = {**learned, "model_": made.eval(), "_reading": reading, "_decoding": decoding}
    state["loss_curve_"] = learned["history_"]["train_loss"]
    if told.get("seed") is not None:
        state["_seed"] = told["seed"]
    if told["classes"] is not None:
        dtype = told["classes"]["dtype"]
        state["classes_"] = np.array([labels.from_json(value) for value in told["classes"]["values"]], dtype=dtype)
        state["_multilabel"] = told["multilabel"]
    else:
        state["_columns"] = told["columns"]
    if told["names"] is not None:
        state["feature_names_in_"] = np.array(told["names"], dtype=object)
    return parameters, state


def _own(path: Path, told: Mapping[str, Any], module: Any, parameters: Mapping[str, Any]) -> nn.Module:
    """Return an own module to fill; a class draws what it drew when it was fitted.

    Raises:
        CheckpointError: It was not given.
    """
    name, seed = told["module"], told.get("seed")
    if module is None:
        raise CheckpointError(
            f"{path}: the network was a {name}, a Python object; hand it over again: load(path, module={name})"
        )
    if isinstance(module, nn.Module):
        return copy.deepcopy(module)
    with all_forked() if seed is None else initialising(seed):
        return make_own(module, parameters["module_arguments"] or {}, own_name(module))
