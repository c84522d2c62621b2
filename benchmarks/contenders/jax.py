"""JAX alone: the whole epoch is one compiled call, ``lax.scan`` over its batches; Adam by optax, initialised as torch does."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import workloads
from jax import lax, nn

from contenders.child import Predictor, Trained


def linear(generator: np.random.Generator, fan_in: int, *shape: int) -> dict[str, Any]:
    """Return weights and biases uniform within 1 / sqrt(fan_in), biases along the last axis."""
    bound = fan_in**-0.5
    draw = partial(generator.uniform, -bound, bound)
    return {"w": jnp.asarray(draw(shape), jnp.float32), "b": jnp.asarray(draw(shape[-1]), jnp.float32)}


def dense(layer: Any, x: Any) -> Any:
    """Return x @ w + b."""
    return x @ layer["w"] + layer["b"]


def convolution(layer: Any, x: Any) -> Any:
    """Convolve ``(rows, ..., channels)``, then ReLU and pooling by 2.

    The windows are cut out and multiplied as one matrix: inside ``lax.scan`` XLA's own convolution is 6 to 10 times slower on
    the CPU.
    """
    weights, bias = layer["w"], layer["b"]
    *kernel, _, filters = weights.shape
    sides = [x.shape[1 + axis] - size + 1 for axis, size in enumerate(kernel)]
    windows = []
    for place in np.ndindex(*kernel):
        windows.append(x[(slice(None), *(slice(at, at + side) for at, side in zip(place, sides, strict=True)))])
    x = nn.relu(jnp.concatenate(windows, axis=-1) @ weights.reshape(-1, filters) + bias)
    whole = [side // 2 * 2 for side in sides]
    x = x[(slice(None), *(slice(side) for side in whole))]
    halves = [part for side in whole for part in (side // 2, 2)]
    return x.reshape(len(x), *halves, filters).max(axis=tuple(range(2, 2 + 2 * len(sides), 2)))


def perceptron(layers: list[Any], x: Any) -> Any:
    """Return the output of linear layers with ReLU between them."""
    for layer in layers[:-1]:
        x = nn.relu(dense(layer, x))
    return dense(layers[-1], x)


def convolutions(layers: list[Any], x: Any) -> Any:
    """Return the output of two convolutions and a linear layer."""
    for layer in layers[:-1]:
        x = convolution(layer, x)
    return dense(layers[-1], x.reshape(len(x), -1))


def recurrent(layers: list[Any], x: Any) -> Any:
    """Return what a linear layer reads from the last step of an LSTM."""
    inputs, hidden, last = layers
    ahead = jnp.swapaxes(dense(inputs, x), 0, 1)  # (steps, rows, gates): the inputs' share, all steps at once

    def step(state: Any, gates: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(gates + dense(hidden, h), 4, axis=1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        return (nn.sigmoid(o) * jnp.tanh(c), c), None

    start = jnp.zeros((len(x), 64), x.dtype)
    (h, _), _ = lax.scan(step, (start, start), ahead)
    return dense(last, h)


def embedded(layers: list[Any], numbers: Any, codes: Any) -> Any:
    """Return the output of an MLP on numbers and the vectors of categories."""
    tables, *rest = layers
    return perceptron(rest, jnp.concatenate([numbers, *(one[codes[:, at]] for at, one in enumerate(tables))], axis=1))


def network(task: SimpleNamespace) -> tuple[list[Any], Callable[..., Any]]:
    """Return the parameters of a workload's network and its function."""
    draw = partial(linear, np.random.default_rng(task.seed))
    if task.workload in ("mlp", "prediction"):
        return [draw(784, 784, 128), draw(128, 128, 64), draw(64, 64, 10)], perceptron
    if task.workload == "cnn":
        return [draw(9, 3, 3, 1, 16), draw(144, 3, 3, 16, 32), draw(800, 800, 10)], convolutions
    if task.workload == "conv1d":
        return [draw(15, 5, 3, 16), draw(80, 5, 16, 32), draw(928, 928, 6)], convolutions
    if task.workload == "lstm":
        return [draw(64, 9, 256), draw(64, 64, 256), draw(64, 64, 6)], recurrent
    if task.workload == "table":
        generator, sizes = np.random.default_rng(1), zip(workloads.LEVELS, workloads.DIMENSIONS, strict=True)
        tables = [jnp.asarray(generator.standard_normal((levels + 1, length)), jnp.float32) for levels, length in sizes]
        width = 8 + sum(workloads.DIMENSIONS)
        return [tables, draw(width, width, 128), draw(128, 128, 64), draw(64, 64, 1)], embedded
    return [draw(10, 10, 32), draw(32, 32, 1)], perceptron


def channels_last(inputs: list[Any]) -> list[Any]:
    """Return inputs with the channels of images and series last."""
    moved = [np.moveaxis(one, 1, -1) if one.ndim > 2 and one.shape[1] < 9 else one for one in inputs]
    return [np.ascontiguousarray(one) for one in moved]


def loss_of(kind: str) -> Callable[[Any, Any], Any]:
    """Return the mean loss of a kind of target."""
    if kind == "classes":
        return lambda found, target: optax.softmax_cross_entropy_with_integer_labels(found, target).mean()
    if kind == "binary":
        return lambda found, target: optax.sigmoid_binary_cross_entropy(found, target).mean()
    return lambda found, target: jnp.mean((found - target) ** 2)


def make_epoch(function: Any, loss_function: Any, optimizer: Any, rows: int, batch: int) -> Any:
    """Return one epoch as a compiled call: shuffle, scan over the full batches, then the smaller last batch."""

    def epoch(parameters: Any, state: Any, key: Any, inputs: Any, target: Any) -> Any:
        def step(carry: Any, chosen: Any) -> Any:
            parameters, state = carry

            def loss_at(parameters: Any) -> Any:
                return loss_function(function(parameters, *(one[chosen] for one in inputs)), target[chosen])

            loss, gradients = jax.value_and_grad(loss_at)(parameters)
            changes, state = optimizer.update(gradients, state)
            return (optax.apply_updates(parameters, changes), state), loss

        order = jax.random.permutation(key, rows)
        full = rows // batch * batch
        carry, losses = lax.scan(step, (parameters, state), order[:full].reshape(-1, batch))
        if full < rows:
            carry, _ = step(carry, order[full:])
        return (*carry, losses.mean())

    return jax.jit(epoch, donate_argnums=(0, 1))


def fit(task: SimpleNamespace, inputs: list[Any], target: Any, loss: str) -> tuple[Any, Any, list[float]]:
    """Train and time each epoch."""
    parameters, function = network(task)
    optimizer = optax.adam(task.rate)
    epoch = make_epoch(function, loss_of(loss), optimizer, len(target), task.batch)
    state, key = optimizer.init(parameters), jax.random.key(task.seed)
    held, target = [jnp.asarray(one) for one in inputs], jnp.asarray(target)
    seconds = []
    for _ in range(task.epochs):
        started = time.perf_counter()
        key, one = jax.random.split(key)
        parameters, state, mean = epoch(parameters, state, one, held, target)
        float(mean)
        jax.block_until_ready(parameters)
        seconds.append(time.perf_counter() - started)
    return parameters, function, seconds


def train(task: SimpleNamespace, data: Any) -> Trained:
    """Train and time each epoch."""
    parameters, function, seconds = fit(task, channels_last(data.inputs), data.target, data.loss)
    return Trained(seconds, lambda inputs: np.asarray(function(parameters, *channels_last(inputs))))


mlp = cnn = lstm = conv1d = table = train


def prediction(task: SimpleNamespace, data: Any) -> Predictor:
    """Predict by a compiled function, in slices of the batch size."""
    parameters, function, _ = fit(task, data.inputs, data.target, data.loss)
    classes = jax.jit(lambda rows: function(parameters, rows).argmax(axis=1))

    def many(rows: Any) -> Any:
        parts = [classes(rows[at : at + task.batch]) for at in range(0, len(rows), task.batch)]
        return np.concatenate([np.asarray(part) for part in parts])

    return Predictor(many, lambda rows: np.asarray(classes(rows)))


def tutorial(task: SimpleNamespace) -> float:
    """Run the tutorial from random rows to the test loss."""
    generator = np.random.default_rng(task.seed)
    inputs, target = generator.random((task.rows, 10), np.float32), generator.random((task.rows, 1), np.float32)
    cut = task.rows * 4 // 5
    parameters, function, _ = fit(task, [inputs[:cut]], target[:cut], "values")
    return float(loss_of("values")(function(parameters, inputs[cut:]), target[cut:]))
