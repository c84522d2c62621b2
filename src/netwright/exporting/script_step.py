"""The lines of one training step in an ejected script, and what they are made of. Floor 10."""

from __future__ import annotations

from netwright.exporting.printing import printed
from netwright.exporting.recipe import Page, Recipe
from netwright.model import gradients
from netwright.model.losses import IGNORING


def weight_code(recipe: Recipe, target: str) -> str:
    """Return code for what a mean loss counts in a mean over batches."""
    name, keywords = recipe.loss.name, recipe.loss.keywords
    ignoring = name in [kind.__name__ for kind in IGNORING] and recipe.class_target
    some = keywords.get("ignore_index", -100) != -100 or recipe.target.per_step
    if ignoring and "weight" in keywords:
        counted = f"[{target}.clamp(min=0)][{target} != loss_function.ignore_index]" if some else f"[{target}]"
        return f"loss_function.weight{counted}.sum()"
    if ignoring and some:
        return f"({target} != loss_function.ignore_index).sum()"
    if recipe.target.per_step and recipe.gathered == "padded":
        return f"(~{target}.isnan().flatten(2).any(dim=2)).sum()"
    return f"{target}.shape[:2].numel()" if recipe.target.per_step else f"len({target})"


def loss_code(recipe: Recipe, target: str = "target") -> str:
    """Return code for the loss of outputs."""
    if not recipe.target.per_step:
        return f"loss_function(output, {target})"
    if recipe.class_target and recipe.loss.name in [kind.__name__ for kind in IGNORING]:
        return f"loss_function(output.flatten(0, 1), {target}.flatten())  # of every step"
    if recipe.gathered == "padded":
        return f"loss_function(output[~{target}.isnan().flatten(2).any(dim=2)], {target}[~{target}.isnan().flatten(2).any(dim=2)])"
    return f"loss_function(output.flatten(0, 1), {target}.flatten(0, 1))  # of every step"


def batch_code(recipe: Recipe, rows: str) -> tuple[str, str]:
    """Return code that gathers a batch, and code that calls the network with it."""
    if recipe.gathered == "rows":
        return f"inputs, target = X[{rows}], y[{rows}]", recipe.called("inputs")
    if recipe.gathered == "windows":
        return f"inputs, target = gather({rows})", recipe.called("inputs")
    steps = "steps" if recipe.own is None else "lengths=steps"
    return f"inputs, target, steps = gather({rows})", recipe.called(f"inputs, {steps}")


def autocast_code(recipe: Recipe) -> str:
    """Return code for the context of a forward pass in a shorter dtype; empty where there is none."""
    short = recipe.learning.precision in ("bfloat16", "float16")
    return f'torch.autocast("cpu", torch.{recipe.learning.precision})' if short else ""


def indented(text: str, by: int = 4) -> str:
    """Return lines moved to the right."""
    return "\n".join(" " * by + line if line else line for line in text.splitlines())


def step_constants(recipe: Recipe) -> list[str]:
    """Return the lines of what a reader may change in a step."""
    update = recipe.learning.update
    told = (
        ("MICRO_BATCH", update.micro_batch, "rows that go forward and backward at a time"),
        ("SHARPNESS", update.sharpness, "how far uphill the gradient is taken: sharpness-aware minimisation"),
        ("L1", update.l1 or None, "penalty on the magnitudes of the weights; no loss that is printed holds it"),
        ("CLIP_GRAD_NORM", update.clip_grad_norm, "the gradients together are at most so long"),
        ("CLIP_GRAD_VALUE", update.clip_grad_value, "each number of a gradient is at most so large"),
    )
    return [f"{name} = {value!r}  # {what}" for name, value, what in told if value is not None]


def step_functions(page: Page, recipe: Recipe) -> list[str]:
    """Return the paragraphs of what a step calls."""
    update, parts = recipe.learning.update, []
    if update.l1:
        norms = ", ".join(f"nn.{kind.__name__}" for kind in gradients.NORMS[1:])
        parts += [f"NORMS = (nn.modules.batchnorm._NormBase, {norms})"]
        parts += [printed(gradients.weights_of), printed(gradients.add_l1)]
    if update.sharpness is not None:
        page.need("from contextlib import contextmanager")
        parts.append(printed(gradients.uphill))
    if recipe.learning.precision == "float16":
        parts.append('scaler = torch.amp.GradScaler("cpu")  # small gradients would vanish in float16')
    return parts


def step_code(recipe: Recipe) -> str:
    """Return the lines of one training step."""
    update = recipe.learning.update
    gather = batch_code(recipe, "rows")[0]
    parts = update.micro_batch is not None
    loss = "summed" if parts else "loss"
    first = _in_parts(recipe) if parts else _at_once(recipe)
    lines = [*first, *_uphill(recipe), *_changed(recipe)]
    if recipe.optimizer.name == "LBFGS":
        inner = "\n".join(["def closure():", *(f"    {line}" for line in lines), f"    return {loss}"])
        lines = [gather, "", inner, "", "loss = optimizer.step(closure)  # evaluates the loss several times"]
        loss = "loss"
    elif recipe.learning.precision == "float16":
        lines = [gather, *lines, "scaler.step(optimizer)  # or not, where gradients overflow", "scaler.update()"]
    else:
        lines = [gather, *lines, "optimizer.step()  # move the weights against it"]
    if parts and recipe.optimizer.name != "LBFGS":
        return "\n".join([*lines, "total, count = total + summed.item() * float(whole), count + float(whole)"])
    lines += [f"weight = float({weight_code(recipe, 'target')})"]
    return "\n".join([*lines, f"total, count = total + {loss}.item() * weight, count + weight"])


def _backward(recipe: Recipe, loss: str) -> str:
    return f"scaler.scale({loss}).backward()" if recipe.learning.precision == "float16" else f"{loss}.backward()"


def _at_once(recipe: Recipe, loss: str = "loss") -> list[str]:
    """Return the lines of forward and backward of a batch."""
    forward = [
        f"output = {batch_code(recipe, 'rows')[1]}  # forward",
        f"{loss} = {loss_code(recipe)}" + ("" if recipe.target.per_step else "  # how far from the target"),
    ]
    return [
        *_cast(recipe, forward),
        "optimizer.zero_grad()  # forget the gradients of the step before",
        f"{_backward(recipe, loss)}  # backpropagation: the gradient of the loss for every weight",
    ]


def _in_parts(recipe: Recipe, summed: str = "summed") -> list[str]:
    """Return the lines of forward and backward of a batch whose gradients are added up part by part."""
    call = recipe.called("inputs[part]" if recipe.gathered != "padded" else "inputs[part], steps[part]")
    forward = [f"output = {call}", f"loss = {loss_code(recipe, 'target[part]').partition('  #')[0]} * share"]
    return [
        f"whole, {summed} = {weight_code(recipe, 'target')}, torch.zeros(())",
        "optimizer.zero_grad()",
        "for start in range(0, len(rows), MICRO_BATCH):",
        "    part = slice(start, start + MICRO_BATCH)",
        f"    share = {weight_code(recipe, 'target[part]')} / whole",
        *_nothing_counts(recipe),
        *(f"    {line}" for line in _cast(recipe, forward)),
        f"    {_backward(recipe, 'loss')}  # gradients are added up",
        f"    {summed} = {summed} + loss.detach()",
    ]


def _nothing_counts(recipe: Recipe) -> list[str]:
    """Return the lines that pass over a part none of whose rows counts, for losses that have such rows."""
    if recipe.loss.name not in [kind.__name__ for kind in IGNORING]:
        return []
    return ["    if not share:", "        continue  # none of its rows counts"]


def _cast(recipe: Recipe, forward: list[str]) -> list[str]:
    """Return the lines of a forward pass in its dtype."""
    cast = autocast_code(recipe)
    return [f"with {cast}:", *(f"    {line}" for line in forward)] if cast else forward


def _uphill(recipe: Recipe) -> list[str]:
    """Return the lines that take the gradient where the loss is higher."""
    if recipe.learning.update.sharpness is None:
        return []
    parts = recipe.learning.update.micro_batch is not None
    inner = _in_parts(recipe, "above") if parts else _at_once(recipe, "above")
    inner = [line.partition("  #")[0] for line in inner]
    return ["with uphill(model, SHARPNESS):  # the same, where the loss is higher", *(f"    {line}" for line in inner)]


def _changed(recipe: Recipe) -> list[str]:
    """Return the lines that change gradients before the optimizer reads them."""
    update = recipe.learning.update
    asked = (
        (recipe.learning.precision == "float16", "scaler.unscale_(optimizer)"),
        (bool(update.l1), "add_l1(model, L1)  # weights that the data do not need go to 0"),
        (update.clip_grad_norm is not None, "torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_GRAD_NORM)"),
        (update.clip_grad_value is not None, "torch.nn.utils.clip_grad_value_(model.parameters(), CLIP_GRAD_VALUE)"),
    )
    return [line for is_asked, line in asked if is_asked]
