"""Which networks can take one vectorised step together: found out on copies, and told in words where they cannot. Floor 8."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch
from netwright.data.feed import Feed
from netwright.engine.base import Engine
from netwright.engine.own_code import code_of, own_classes, setting_of, why_not_told
from netwright.engine.own_step import OwnStep
from netwright.engine.trial import WITHOUT_CLOSURE
from netwright.errors import first_line
from netwright.model.modules import MOVES
from netwright.model.summary import call_model
from netwright.population.stacking import DROPOUTS, Losses, Stack, storages
from netwright.recording.state import hooked, hooked_optimizer, parts_of

DRAWING = (nn.AlphaDropout, nn.FeatureAlphaDropout, nn.RReLU, *MOVES)  # they draw numbers that are not handed out yet
APART = 1e-4  # relative difference of gradients that is not rounding
ROWS = 8  # of the trial


def why_apart(members: Sequence[Engine], feeds: Sequence[Feed]) -> str | None:
    """Return why networks cannot take one vectorised step together; None where they can.

    Args:
        members: The engine of each; neither network nor generator is touched.
        feeds: The batches that come next, one feed per network.
    """
    first = members[0]
    for member in members:
        why = _why_not_at_all(member) or _why_unlike(first, member)
        if why is not None:
            return why
    if any(feed.sources is None for feed in feeds):
        return "rows are changed, padded or prepared on their way, so batches cannot be gathered by number"
    few = feeds[0].rows(1)[0][:ROWS]
    return _why_not_vectorised(members[:2], feeds[0].examples.batch(few))


def _why_not_at_all(member: Engine) -> str | None:
    """Return what keeps one network from any vectorised step."""
    eager, model, loss = member.eager, member.model, member.loss_function
    if member.name not in ("eager", "captured"):
        return f"the {member.name} engine has steps of its own"
    if isinstance(loss, OwnStep):
        return "the training step is the user's own"
    if eager.scaler is not None:
        return "a step in float16 is skipped where gradients overflow, which may be those of one network alone"
    if eager.update.micro_batch is not None:
        return "a batch in parts is several pieces of work"
    if eager.update.sharpness is not None:
        return "sharpness-aware steps go forward twice"
    if type(member.optimizer).__name__ in WITHOUT_CLOSURE:
        return f"{type(member.optimizer).__name__} evaluates the loss several times a step"
    why = hooked_optimizer(member.optimizer) or hooked(model, loss) or why_not_told(model, loss)
    if why is not None:
        return why
    if any(not parameter.requires_grad for parameter in model.parameters()):
        return "some layers are frozen"
    return next((text for path, part in model.named_modules() if (text := _why_not_module(path, part))), None)


def _why_not_module(path: str, part: nn.Module) -> str | None:
    name = f"layer {path} ({type(part).__name__})"
    if isinstance(part, DRAWING) or (isinstance(part, DROPOUTS) and type(part) not in DROPOUTS):
        return f"{name} draws random numbers in a way of its own"
    if isinstance(part, (nn.RNNBase, nn.RNNCellBase)):
        return f"{name}: torch has no vectorised rule for recurrent layers"
    if isinstance(part, nn.MultiheadAttention) and part.dropout:
        return f"{name} has dropout inside"
    if any(value.dim() == 4 and not value.is_contiguous() for value in part.parameters(recurse=False)):
        return f"{name}: its weights lie channels last"
    return None


def _why_unlike(one: Engine, other: Engine) -> str | None:
    """Return how two networks, losses or optimizers differ in more than numbers that a step can have for each."""
    if one.eager.update != other.eager.update:
        return "clipping, penalties or precision differ between the runs"
    if type(one.optimizer) is not type(other.optimizer):
        return f"optimizers differ: {type(one.optimizer).__name__} and {type(other.optimizer).__name__}"
    if _architecture(one.model) != _architecture(other.model):
        return "the networks differ in their layers"
    if _architecture(one.loss_function) != _architecture(other.loss_function):
        return "the losses differ"
    if code_of(one.model, one.loss_function) != code_of(other.model, other.loss_function):
        return "the code of the networks differs"
    return None


def _architecture(module: Any) -> list[Any]:
    """Return what makes a module itself, but for its weights and the chance of a dropout."""
    if not isinstance(module, nn.Module):
        return [module]
    found: list[Any] = []
    for part in parts_of(module):
        left_out = ("p", "training") if isinstance(part, DROPOUTS) else ("training",)
        settings = {name: setting_of(value) for name, value in vars(part).items() if name not in left_out}
        tensors = {**part._parameters, **part._buffers}
        shapes = {name: None if value is None else (tuple(value.shape), value.dtype) for name, value in tensors.items()}
        found.append((_kind(type(part)), tuple(part._modules), settings, shapes))
    return found


def _kind(kind: type) -> list[Any]:
    """Return what a class is: one of the user's may be loaded anew for each run, and is known by its name and code then."""
    own = own_classes(kind)
    return [
        (each.__module__, each.__qualname__, {name: getattr(held, "__code__", None) for name, held in vars(each).items()})
        if each in own
        else each
        for each in kind.__mro__
    ]


def _why_not_vectorised(members: Sequence[Engine], batch: Batch) -> str | None:
    """Go forward and backward with copies of two networks both ways, and return how that fails, or how gradients differ."""
    copies = [copy.deepcopy((member.model, member.loss_function)) for member in members]
    models = [model.train() for model, _ in copies]
    losses = [loss for _, loss in copies]
    for part in [part for model in models for part in model.modules() if isinstance(part, DROPOUTS)]:
        part.p = 0.5  # one that drops nothing tells nothing of the others
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            apart = _gradients_apart(models, losses, batch)
            stack = Stack(models, storages(models), len(batch))
            stack.lay_out(batch.inputs)
            stack.draw([_generator(batch.target.device, number) for number in range(len(models))], 1)
            both = {name: torch.cat([value, value]) for name, value in batch.inputs.items()}
            Losses(losses)(call_model(stack, both), torch.cat([batch.target, batch.target])).backward()
            stack.hand_out_gradients()
    except UserWarning as warning:
        name = str(warning).partition("batching rule for ")[2].split(". ")[0]
        return f"torch has no vectorised rule for {name}" if name else f"a vectorised step warns: {first_line(warning)}"
    except Exception as error:  # a layer, a loss or torch's rules may raise anything
        return f"torch cannot vectorise a step ({type(error).__name__}: {first_line(error)[:200]})"
    for model, expected in zip(models, apart, strict=True):
        for (name, parameter), value in zip(model.named_parameters(), expected, strict=True):
            if _differ(parameter.grad, value):
                return f"a vectorised step gives another gradient of {name}"
    return None


def _gradients_apart(models: Sequence[nn.Module], losses: Sequence[Any], batch: Batch) -> list[list[Tensor | None]]:
    """Return the gradients of each network on its own; its dropout draws what a generator of its number draws."""
    found = []
    device = batch.target.device
    for number, (model, loss) in enumerate(zip(models, losses, strict=True)):
        trial = copy.deepcopy(model)
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
            if device.type == "cpu":
                torch.default_generator.set_state(_generator(device, number).get_state())
            else:
                for part in trial.modules():  # kernels there draw in another way than a generator does
                    if isinstance(part, DROPOUTS):
                        part.p = 0.0
                for part in model.modules():
                    if isinstance(part, DROPOUTS):
                        part.p = 0.0
            loss(call_model(trial, batch.inputs), batch.target).backward()
        found.append([parameter.grad for parameter in trial.parameters()])
    return found


def _generator(device: torch.device, number: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(number)


def _differ(found: Tensor | None, expected: Tensor | None) -> bool:
    if found is None or expected is None:
        nothing = found if expected is None else expected
        return nothing is not None and bool(nothing.any())
    apart, size = (found - expected).norm(), expected.norm()
    return bool(apart > APART * size + 1e-6) or not bool(torch.isfinite(apart))
