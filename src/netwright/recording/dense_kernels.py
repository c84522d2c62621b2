"""The kernels of a step of dense layers on a GPU, in Triton: one a layer forward, one a layer back, one for all updates. Floor 6.

Every sum is added up in one order, so that the same step gives the same bits. Products of float32 are made of three of TF32
each (``tf32x3``), whose error is that of float32. `netwright.recording.dense` calls them and says what they get.
"""

# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def _begin(overlaps: tl.constexpr):
    """Wait for the kernel before, beside which this one was started, and let the next one be started (from Hopper on)."""
    if overlaps:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def _activated(z, kind: tl.constexpr, slope):
    """Return the values of an activation, and its derivatives."""
    if kind == "relu":
        value = tl.where(z <= 0, 0.0, z)  # what is no number stays so
        derivative = tl.where(z > 0, 1.0, 0.0)
    elif kind == "leaky_relu":
        value = tl.where(z > 0, z, z * slope)
        derivative = tl.where(z > 0, 1.0, slope)
    elif kind == "tanh":
        value = 2.0 * tl.sigmoid(2.0 * z) - 1.0
        derivative = 1.0 - value * value
    elif kind == "sigmoid":
        value = tl.sigmoid(z)
        derivative = value * (1.0 - value)
    elif kind == "silu":
        share = tl.sigmoid(z)
        value = z * share
        derivative = share * (1.0 + z * (1.0 - share))
    elif kind == "gelu":
        share = 0.5 * (1.0 + tl.math.erf(z * 0.7071067811865476))
        value = z * share
        derivative = share + z * 0.3989422804014327 * tl.exp(-0.5 * z * z)
    else:
        value = z
        derivative = tl.full(z.shape, 1.0, tl.float32)
    return value, derivative


@triton.jit
def _chosen(numbers, places, inside, gathers: tl.constexpr):
    """Return the numbers of rows at some places, or the places where rows are not chosen by number."""
    if gathers:
        found = tl.load(numbers + places, mask=inside, other=0)
    else:
        found = places
    return found


@triton.jit
def _product(
    left, left_row, left_inner, right, right_inner, right_column, m, places, n, rows, columns, inner,
    by_place_of_inner: tl.constexpr, places_of_inner,
    bm: tl.constexpr, bn: tl.constexpr, bk: tl.constexpr, parts: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """Return a tile of a product of matrices, whose inner numbers are added up in parts side by side, and the parts then.

    Rows of the left matrix lie at ``places``; with ``by_place_of_inner`` those of the right one at ``places_of_inner``.
    """
    if parts == 1:
        total = tl.zeros((bm, bn), tl.float32)
        for start in range(0, inner, bk):
            here = start + tl.arange(0, bk)
            there = here < inner
            at = _chosen(places_of_inner, here, there, by_place_of_inner)
            some = tl.load(
                left + places[:, None] * left_row + here[None, :] * left_inner,
                mask=(m[:, None] < rows) & there[None, :],
                other=0.0,
            )
            others = tl.load(
                right + at[:, None] * right_inner + n[None, :] * right_column,
                mask=there[:, None] & (n[None, :] < columns),
                other=0.0,
            )
            total = tl.dot(some, others, total, input_precision=precision)
        found = total
    else:
        totals = tl.zeros((parts, bm, bn), tl.float32)
        within = tl.arange(0, parts)[:, None] * bk + tl.arange(0, bk)[None, :]
        for start in range(0, inner, parts * bk):
            here = start + within
            there = here < inner
            at = _chosen(places_of_inner, here, there, by_place_of_inner)
            some = tl.load(
                left + places[None, :, None] * left_row + here[:, None, :] * left_inner,
                mask=(m[None, :, None] < rows) & there[:, None, :],
                other=0.0,
            )
            others = tl.load(
                right + at[:, :, None] * right_inner + n[None, None, :] * right_column,
                mask=there[:, :, None] & (n[None, None, :] < columns),
                other=0.0,
            )
            totals = tl.dot(some, others, totals, input_precision=precision)
        found = tl.sum(totals, axis=0)
    return found


@triton.jit
def _count(steps, betas, corrections):
    """Add 1 to the number of the step, which is the same everywhere, and write ``1 - beta ** step`` of both betas."""
    step = tl.load(steps[0]) + 1.0
    for i in tl.static_range(len(steps)):
        tl.store(steps[i], step)
    for which in tl.static_range(2):
        base = tl.load(betas + which)
        power = base * 0.0 + 1.0
        left = step.to(tl.int32)
        while left > 0:
            power = tl.where(left % 2 == 1, power * base, power)
            base = base * base
            left = left // 2
        tl.store(corrections + which, 1.0 - power)


@triton.jit
def forward(
    x, numbers, weight, bias, kept, value, slopes, steps, betas, corrections, rows, width, outputs, slope, scale,
    counts: tl.constexpr, gathers: tl.constexpr, kind: tl.constexpr, has_bias: tl.constexpr, drops: tl.constexpr,
    bm: tl.constexpr, bn: tl.constexpr, bk: tl.constexpr, parts: tl.constexpr, precision: tl.constexpr, overlaps: tl.constexpr,
):  # fmt: skip
    """Write ``value = dropout(activation(x W^T + b))`` and its derivatives by what the activation gets.

    With ``counts`` one program counts the step.
    """
    _begin(overlaps)
    if counts:
        if tl.program_id(0) + tl.program_id(1) == 0:
            _count(steps, betas, corrections)
    m = tl.program_id(0) * bm + tl.arange(0, bm)
    n = tl.program_id(1) * bn + tl.arange(0, bn)
    places = _chosen(numbers, m, m < rows, gathers)
    z = _product(
        x, width, 1, weight, 1, width, m, places, n, rows, outputs, width, False, numbers, bm, bn, bk, parts, precision
    )
    if has_bias:
        z += tl.load(bias + n, mask=n < outputs, other=0.0)[None, :]
    found, derivative = _activated(z, kind, slope)
    place = m[:, None] * outputs + n[None, :]
    inside = (m[:, None] < rows) & (n[None, :] < outputs)
    if drops:
        factor = tl.load(kept + place, mask=inside, other=0).to(tl.float32) * scale
        found *= factor
        derivative *= factor
    tl.store(value + place, found, mask=inside)
    tl.store(slopes + place, derivative, mask=inside)


@triton.jit
def head(
    x, numbers, weight, bias, target, class_weight, gradient, losses, steps, betas, corrections, rows, width, outputs, smoothing,
    counts: tl.constexpr, gathers: tl.constexpr, gathers_target: tl.constexpr,
    loss: tl.constexpr, weighted: tl.constexpr, has_bias: tl.constexpr,
    bm: tl.constexpr, bn: tl.constexpr, bk: tl.constexpr, block: tl.constexpr, precision: tl.constexpr, overlaps: tl.constexpr,
):  # fmt: skip
    """Write what each row adds to the mean loss, and the gradient of the outputs ``x W^T + b``; with ``counts``, count the step."""
    _begin(overlaps)
    if counts:
        if tl.program_id(0) == 0:
            _count(steps, betas, corrections)
    m = tl.program_id(0) * bm + tl.arange(0, bm)
    n = tl.arange(0, bn)
    chosen = _chosen(numbers, m, m < rows, gathers_target)
    if gathers:
        places = chosen
    else:
        places = m
    z = _product(x, width, 1, weight, 1, width, m, places, n, rows, outputs, width, False, numbers, bm, bn, bk, 1, precision)
    if has_bias:
        z += tl.load(bias + n, mask=n < outputs, other=0.0)[None, :]
    inside = (m[:, None] < rows) & (n[None, :] < outputs)
    if loss == "classes":
        wanted = tl.load(target + chosen, mask=m < rows, other=0)
        if weighted:
            each_weight = tl.zeros((block,), tl.float32)
            for start in range(0, rows, block):
                each = start + tl.arange(0, block)
                where = _chosen(numbers, each, each < rows, gathers_target)
                label = tl.load(target + where, mask=each < rows, other=0)
                each_weight += tl.load(class_weight + label, mask=each < rows, other=0.0)
            share = tl.load(class_weight + wanted, mask=m < rows, other=0.0) / tl.sum(each_weight)
        else:
            share = tl.where(m < rows, 1.0 / rows, 0.0)
        z = tl.where(n[None, :] < outputs, z, float("-inf"))
        z = z - tl.max(z, axis=1)[:, None]
        powers = tl.exp(z)
        norm = tl.sum(powers, axis=1)
        rest = smoothing / outputs
        aim = tl.where(n[None, :] == wanted[:, None], 1.0 - smoothing + rest, rest)
        each_loss = (tl.log(norm) - tl.sum(aim * tl.where(inside, z, 0.0), axis=1)) * share
        gradients = (powers / norm[:, None] - aim) * share[:, None]
    else:
        wanted = tl.load(target + chosen[:, None] * outputs + n[None, :], mask=inside, other=0.0)
        share = 1.0 / (rows * outputs)
        if loss == "squares":
            gradients = 2.0 * (z - wanted) * share
            each = (z - wanted) * (z - wanted)
        else:
            gradients = (tl.sigmoid(z) - wanted) * share
            each = tl.maximum(z, 0.0) - z * wanted + tl.log(1.0 + tl.exp(-tl.abs(z)))
        each_loss = tl.sum(tl.where(inside, each, 0.0), axis=1) * share
    tl.store(losses + m, each_loss, mask=m < rows)
    tl.store(gradient + m[:, None] * outputs + n[None, :], gradients, mask=inside)


@triton.jit
def backward(
    gradient, weight, slopes, into, rows, width, outputs,
    bm: tl.constexpr, bn: tl.constexpr, bk: tl.constexpr, parts: tl.constexpr, precision: tl.constexpr, overlaps: tl.constexpr,
):  # fmt: skip
    """Write ``(gradient W) * slopes``, the gradient of what the activation before a layer gets ``(rows, width)``."""
    _begin(overlaps)
    m = tl.program_id(0) * bm + tl.arange(0, bm)
    n = tl.program_id(1) * bn + tl.arange(0, bn)
    found = _product(
        gradient, outputs, 1, weight, width, 1, m, m, n, rows, width, outputs, False, slopes, bm, bn, bk, parts, precision
    )  # fmt: skip
    place = m[:, None] * width + n[None, :]
    inside = (m[:, None] < rows) & (n[None, :] < width)
    tl.store(into + place, found * tl.load(slopes + place, mask=inside, other=0.0), mask=inside)


@triton.jit
def _updated(parameter, first, second, place, inside, gradient, rate, decay, numbers, corrections, kind: tl.constexpr):
    """Take the optimizer's step for a tile of a parameter, as torch.optim's documentation writes it.

    ``numbers`` are beta 1 and 1 - beta 1, beta 2 and 1 - beta 2, and epsilon; of SGD the first is its momentum.
    """
    value = tl.load(parameter + place, mask=inside, other=0.0)
    if kind == "adamw":
        value -= rate * decay * value
    else:
        gradient += decay * value
    if kind == "sgd":
        value -= rate * gradient
    elif kind == "momentum" or kind == "nesterov":
        speed = tl.load(first + place, mask=inside, other=0.0) * tl.load(numbers) + gradient
        tl.store(first + place, speed, mask=inside)
        if kind == "nesterov":
            speed = gradient + tl.load(numbers) * speed
        value -= rate * speed
    else:
        mean = tl.load(first + place, mask=inside, other=0.0)
        mean += tl.load(numbers + 1) * (gradient - mean)
        square = tl.load(second + place, mask=inside, other=0.0) * tl.load(numbers + 2)
        square += tl.load(numbers + 3) * gradient * gradient
        tl.store(first + place, mean, mask=inside)
        tl.store(second + place, square, mask=inside)
        root = tl.sqrt_rn(square) / tl.sqrt_rn(tl.load(corrections + 1).to(tl.float32)) + tl.load(numbers + 4)
        value -= rate / tl.load(corrections).to(tl.float32) * mean / root
    tl.store(parameter + place, value, mask=inside)


@triton.jit
def update(
    gradients, values, weights, weight_firsts, weight_seconds, biases, bias_firsts, bias_seconds,
    weight_rates, bias_rates, weight_decays, bias_decays, widths, outputs,
    numbers_of_rows, losses, loss, numbers, corrections, rows,
    gathers: tl.constexpr, kind: tl.constexpr, has_bias: tl.constexpr,
    bm: tl.constexpr, bn: tl.constexpr, bk: tl.constexpr, parts: tl.constexpr, block: tl.constexpr,
    precision: tl.constexpr, overlaps: tl.constexpr,
):  # fmt: skip
    """Add up the loss, and the gradient of each weight and bias, and take the optimizer's step; a tile of one layer a program."""
    _begin(overlaps)
    program = tl.program_id(0)
    if program == 0:
        total = tl.zeros((block,), tl.float32)
        for start in range(0, rows, block):
            each = start + tl.arange(0, block)
            total += tl.load(losses + each, mask=each < rows, other=0.0)
        tl.store(loss, tl.sum(total))
    begin = 0
    for i in tl.static_range(len(weights)):
        across = tl.cdiv(widths[i], bn)
        tiles = tl.cdiv(outputs[i], bm) * across
        if (program >= begin) & (program < begin + tiles):
            here = program - begin
            m = (here // across) * bm + tl.arange(0, bm)
            n = (here % across) * bn + tl.arange(0, bn)
            found = _product(
                gradients[i], 1, outputs[i], values[i], widths[i], 1, m, m, n, outputs[i], widths[i], rows,
                gathers and i == 0, numbers_of_rows, bm, bn, bk, parts, precision,
            )  # fmt: skip
            _updated(
                weights[i], weight_firsts[i], weight_seconds[i], m[:, None] * widths[i] + n[None, :],
                (m[:, None] < outputs[i]) & (n[None, :] < widths[i]),
                found, tl.load(weight_rates[i]), weight_decays[i], numbers, corrections, kind,
            )  # fmt: skip
            if has_bias[i]:
                if here % across == 0:
                    added = tl.zeros((bm, block), tl.float32)
                    for start in range(0, rows, block):
                        each = start + tl.arange(0, block)
                        added += tl.load(
                            gradients[i] + each[None, :] * outputs[i] + m[:, None],
                            mask=(each[None, :] < rows) & (m[:, None] < outputs[i]),
                            other=0.0,
                        )
                    summed = tl.sum(added, axis=1)
                    _updated(
                        biases[i], bias_firsts[i], bias_seconds[i], m, m < outputs[i],
                        summed, tl.load(bias_rates[i]), bias_decays[i], numbers, corrections, kind,
                    )  # fmt: skip
        begin += tiles
