"""The parts of an ejected script that train, validate, test, save and predict. Floor 10."""

from __future__ import annotations

from netwright.data import order, sampling
from netwright.evaluation import formulas
from netwright.exporting.printing import literal, printed
from netwright.exporting.recipe import Page, Recipe
from netwright.exporting.script_schedule import after_epoch, after_step, after_steps, kept, validated
from netwright.exporting.script_step import (
    autocast_code,
    batch_code,
    indented,
    loss_code,
    step_code,
    step_constants,
    step_functions,
    weight_code,
)
from netwright.exporting.script_transfer import held_lines

FORMS = {  # of the decoding: what outputs become
    "softmax": "values.softmax(dim=1)",
    "exp": "values.exp()",
    "count": "values.exp()",
    "sigmoids": "values.sigmoid()",
    "score": "values",
    "probabilities": "values",
    "rate": "values",
}


def write_figures(page: Page, recipe: Recipe) -> None:
    """Write the section that says what outputs mean and how good they are, and that scores rows."""
    page.section(
        "Validation: how good is the network on rows it does not learn from",
        [*_decode(recipe), *_figures(page, recipe), *_evaluate(recipe)],
    )


def _decode(recipe: Recipe) -> list[str]:
    form = recipe.decoding.form
    cooler = f" / {recipe.temperature!r}" if recipe.temperature is not None else ""
    values = f"    values = outputs.double(){cooler}\n"
    if form in ("sigmoid", "probability"):
        positive = "values.sigmoid()" if form == "sigmoid" else "values"
        said, code = (
            "the probability of each class",
            f"    positive = {positive}\n    return torch.cat([1.0 - positive, positive], dim=1)",
        )
    elif form == "value":
        plain = bool((recipe.decoding.mean == 0).all()) and bool((recipe.decoding.scale == 1).all())
        said, code = (
            "values in the units of the data",
            f"    return values{'' if plain else ' * target_scale + target_mean'}",
        )
    else:
        said = "probabilities" if recipe.decoding.probabilistic else "scores" if form == "score" else "expected counts"
        code = f"    return {FORMS[form]}"
    return [f'def decode(outputs):\n    """Return {said}, float64."""\n{values}{code}']


def _figures(page: Page, recipe: Recipe) -> list[str]:
    """Return the function of the figures beside the loss."""
    if recipe.probabilistic:
        page.need("import numpy as np")
        return [
            '''def figures_of(true, decoded):
    """Return the share of right guesses."""
    return {"accuracy": float(np.mean(decoded.argmax(axis=1) == true))}'''
        ]
    if recipe.target.task == "multilabel":
        return [
            printed(formulas.f1),
            printed(formulas.label_figures),
            '''def figures_of(true, decoded):
    """Return the figures of labels: each is given where it is more likely than not."""
    return label_figures(true, (decoded > 0.5).astype(np.int64))''',
        ]
    functions = [printed(found) for found in (formulas.rmse, formulas.mae, formulas.r2)]
    return [
        *functions,
        '''def figures_of(true, decoded):
    """Return the figures of values."""
    return {"rmse": rmse(true, decoded), "mae": mae(true, decoded), "r2": r2(true, decoded)}''',
    ]


def _evaluate(recipe: Recipe) -> list[str]:
    """Return the function that scores rows."""
    gather, call = batch_code(recipe, "batch")
    guards = ["torch.no_grad()"] + (["torch.random.fork_rng(devices=[])"] if recipe.own is not None else [])
    cast = autocast_code(recipe)
    called = f"output = {call}"
    if cast:
        called = f"with {cast}:\n                output = {call}\n            output = output.float()"
    kept = "output"
    if recipe.target.per_step:
        kept = (
            "output.flatten(0, 1)"
            if recipe.gathered != "padded"
            else "output[torch.arange(output.shape[1]) < steps.unsqueeze(1)]"
        )
    fork = "; what is drawn here does not change training" if recipe.own is not None else ""
    return [
        f'''def evaluate(rows{", model=model" if recipe.learning.average is not None else ""}):
    """Return the mean loss and the outputs of some rows. Nothing is learned from them{fork}."""
    model.eval()  # dropout rests, batch norm uses what it has learned
    outputs, total, count = [], 0.0, 0.0
    with {", ".join(guards)}:  # no gradients are needed
        for batch in torch.from_numpy(rows).split({recipe.learning.scored}):
            {gather}
            {called}
            weight = float({weight_code(recipe, "target")})
            total += {loss_code(recipe).partition("  #")[0]}.item() * weight  # the last batch is smaller: it counts less
            count += weight
            outputs.append({kept})
    return total / count, torch.cat(outputs)'''
    ]


def write_training(page: Page, recipe: Recipe) -> None:
    """Write the section of the training loop."""
    learning = recipe.learning
    head = f"EPOCHS = {learning.epochs}\nBATCH_SIZE = {learning.batch_size}"
    head += f"\nSTEPS = {learning.steps}  # at most" if learning.steps is not None else ""
    head += "".join(f"\n{line}" for line in step_constants(recipe))
    if learning.patience is not None:
        head += f"\nPATIENCE = {learning.patience}  # epochs without a better {learning.monitor}"
    parts = [head, *step_functions(page, recipe)]
    if recipe.gathered == "padded":
        parts += [f"POOL = {order.POOL}", printed(order.alike_order)]
    if learning.balanced:
        parts += [printed(sampling.class_chances), printed(sampling.drawn)]
        parts.append("chances = class_chances(truth[train_rows])")
    body = [_begin(page, recipe)]
    body.append("for epoch in range(1, EPOCHS + 1):\n" + indented("\n".join([_epoch(recipe), *_judged(recipe)])))
    page.section("The training loop", [*parts, "\n".join(body)])


def _begin(page: Page, recipe: Recipe) -> str:
    lines = ["step = 0"] if recipe.learning.steps is not None else []
    if recipe.valid:
        page.need("import math")
        sign = "" if recipe.learning.mode == "min" else "-"
        lines.append(f"best, best_epoch, best_weights = {sign}math.inf, 0, None")
    return "\n".join(lines)


def _epoch(recipe: Recipe) -> str:
    """Return the code of an epoch's steps."""
    learning = recipe.learning
    made = _order(recipe)
    whole = "order" if learning.last_batch == "keep" else "order[: len(order) // BATCH_SIZE * BATCH_SIZE]"
    lines = [
        "model.train()",
        *held_lines(recipe),
        made,
        "total, count = 0.0, 0.0",
        f"for rows in torch.from_numpy({whole}).split(BATCH_SIZE):",
        indented("\n".join([step_code(recipe), *after_step(recipe)])),
    ]
    if learning.steps is not None:
        lines += ["    step += 1", "    if step == STEPS:", "        break"]
    lines += ["train_loss = total / count", *after_steps(recipe)]
    return "\n".join(lines)


def _order(recipe: Recipe) -> str:
    """Return the code of the order of an epoch's rows."""
    padded, balanced = recipe.gathered == "padded", recipe.learning.balanced
    if balanced and padded:
        return (
            'generator = stream(SEED, "order", epoch)\n'
            "chosen = train_rows[drawn(chances, generator)]  # each class as often as any other, with replacement\n"
            "order = chosen[alike_order(lengths[chosen], BATCH_SIZE, generator)]"
        )
    if balanced:
        return 'order = train_rows[drawn(chances, stream(SEED, "order", epoch))]  # each class as often as any other'
    if padded:
        return 'order = train_rows[alike_order(lengths[train_rows], BATCH_SIZE, stream(SEED, "order", epoch))]'
    return 'order = stream(SEED, "order", epoch).permutation(train_rows)  # another order each epoch'


def _judged(recipe: Recipe) -> list[str]:
    """Return the code after an epoch's steps: validation, the best weights, early stopping."""
    learning = recipe.learning
    ended = ["if step == STEPS:\n    break"] if learning.steps is not None else []
    if not recipe.valid:
        return ['print(f"epoch {epoch}: train loss {train_loss:.4f}")', *after_epoch(recipe, "train_loss"), *ended]
    true = "truth[steps_of(valid_rows)]" if recipe.target.per_step else "truth[valid_rows]"
    name = learning.monitor
    value = {"train_loss": "train_loss", "valid_loss": "valid_loss"}.get(name, f'figures["{name.removeprefix("valid_")}"]')
    sign = "<" if learning.mode == "min" else ">"
    shown = {"regression": "rmse", "multilabel": "f1_micro"}.get(recipe.target.task, "accuracy")
    network = "model" if recipe.learning.average is None else "shown"
    lines = [
        "",
        *([f"shown = {validated(recipe)}"] if recipe.learning.average is not None else []),
        f"valid_loss, outputs = evaluate(valid_rows{', shown' if recipe.learning.average is not None else ''})",
        f"figures = figures_of({true}, decode(outputs).numpy())",
        f'told = f"train loss {{train_loss:.4f}}, valid loss {{valid_loss:.4f}}, {shown} {{figures[{shown!r}]:.4f}}"',
        'print(f"epoch {epoch}: {told}")',
        f"if {value} {sign} best:  # the best epoch so far: keep its weights",
        f"    best, best_epoch = {value}, epoch",
        f"    best_weights = {{name: weight.clone() for name, weight in {network}.state_dict().items()}}",
        *after_epoch(recipe, value),
        *ended,
    ]
    if learning.patience is not None:
        lines += ["if epoch - best_epoch >= PATIENCE:  # early stopping", "    break"]
    return lines


def write_test(page: Page, recipe: Recipe) -> None:
    """Write the sections of weights, test and prediction."""
    page.need("import numpy as np")
    text = 'def save(name):\n    """Write the weights beside this script; np.load reads them, no code runs."""\n'
    text += "    np.savez(HERE / name, **{name: weight.numpy() for name, weight in model.state_dict().items()})"
    parts = [
        text,
        "\n".join(kept(recipe)),
        'save("last.npz")'
        + (
            '\nif best_weights is not None:\n    model.load_state_dict(best_weights)\n    save("best.npz")'
            if recipe.valid
            else ""
        ),
    ]
    page.section("Save the weights, and take those of the best epoch" if recipe.valid else "Save the weights", parts)
    if recipe.test:
        true = "truth[steps_of(test_rows)]" if recipe.target.per_step else "truth[test_rows]"
        page.section(
            "Test: once, at the end",
            [
                f"""test_loss, outputs = evaluate(test_rows)
decoded = decode(outputs).numpy()
test = {{"loss": test_loss, **figures_of({true}, decoded)}}
print("test: " + ", ".join(f"{{name}} {{value:.4f}}" for name, value in test.items()))"""
            ],
        )
    page.section("Prediction", _predict(recipe))


def _predict(recipe: Recipe) -> list[str]:
    """Return the function that predicts, and a call of it."""
    rows = "test_rows" if recipe.test else "train_rows"
    first = f"torch.from_numpy({rows}[:5])"
    gather, call = batch_code(recipe, first)
    cast = autocast_code(recipe)
    argument = "inputs, steps" if "steps" in call else "inputs"
    outputs = f"{call}.flatten(0, 1)" if recipe.target.per_step else call
    outputs = f"{outputs}.float()" if cast else outputs
    if recipe.probabilistic:
        result, said = "[CLASSES[number] for number in decoded.argmax(dim=1).tolist()]", "the class of each row"
    elif recipe.target.task == "multilabel":
        labels = literal(list(recipe.target.classes), 4)
        result, said = (
            f"(decoded > 0.5).int().tolist()  # {labels}" if len(labels) < 60 else "(decoded > 0.5).int().tolist()",
            "0 or 1 for each label",
        )
    else:
        result, said = "decoded.tolist()", "values in the units of the data"
    if recipe.target.per_step:
        said += ", of every step"
    with_ = f"torch.no_grad(), {cast}" if cast else "torch.no_grad()"
    given = "X[" + first + "]" if recipe.gathered == "rows" else None
    example = f"predict({given})" if given else f"predict(gather({first})[0])"
    lead = ""
    if argument == "inputs, steps":
        lead, example = f"inputs, _, steps = gather({first})\n", "predict(inputs, steps)"
    return [
        f'''def predict({argument}):
    """Return {said}; for new rows give {"what prepare makes of them" if recipe.steps is None else "their prepared steps"}."""
    model.eval()
    with {with_}:
        decoded = decode({outputs})
    return {result}''',
        f'{lead}print("the first predictions:", {example})',
    ]
