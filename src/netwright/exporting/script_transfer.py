"""The parts of an ejected script that take weights of elsewhere, and that let layers not learn. Floor 10."""

from __future__ import annotations

from netwright.exporting.printing import literal, printed
from netwright.exporting.recipe import Page, Recipe
from netwright.training.standstill import hold_still

BESIDE = "start.npz"  # the weights, beside the script


def start_parts(page: Page, recipe: Recipe) -> list[str]:
    """Return the code that puts weights of elsewhere into the network; none where all begin new."""
    if not recipe.start:
        return []
    page.need("import numpy as np")
    return [
        f"""# {recipe.start}
with np.load(HERE / "{BESIDE}") as stored:
    weights = {{name: torch.from_numpy(stored[name]) for name in stored.files}}
model.load_state_dict(weights, strict=False)  # layers that are not among them begin new"""
    ]


def held_parts(recipe: Recipe) -> list[str]:
    """Return the function and the names of what does not learn; none where everything does."""
    if not recipe.stages:
        return []
    stages = {epoch: (list(frozen), list(resting)) for epoch, frozen, resting in recipe.stages}
    never = recipe.stages[-1][0]
    return [
        printed(hold_still),
        f"# from this epoch on: parameters without a gradient, batch norm layers that rest\nHELD = {literal(stages, 7)}",
        f"hold_still(model, *HELD[{never}])  # the optimizer gets all parameters that learn in some epoch",
    ]


def held_lines(recipe: Recipe) -> list[str]:
    """Return the line of each epoch that lets the layers rest which do."""
    if not recipe.stages:
        return []
    stage = "1" if len(recipe.stages) == 1 else "max(first for first in HELD if first <= epoch)"
    return [f"hold_still(model, *HELD[{stage}])"]
