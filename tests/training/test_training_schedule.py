"""Every schedule gives torch's own rates, step by step, and goes on from a checkpoint with the same ones."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from netwright.checkpoint import trees
from netwright.config import signatures
from netwright.config.calls import parse_call
from netwright.engine.averaged import Averaged
from netwright.errors import ConfigError, SafetyError
from netwright.recording.rates import numbers
from netwright.training.averaging import make_averaged, resolve_average
from netwright.training.journal import EpochRecord
from netwright.training.own_schedule import build_own_schedule
from netwright.training.schedule import Fixed, Schedule
from netwright.training.schedulers import Length, build_scheduler, goes_by_steps, make_scheduler, resolve_schedule

LENGTH = Length(epochs=12, steps=60, steps_per_epoch=5, rate=0.01)
TEXTS = [
    "ChainedScheduler([ExponentialLR(gamma=0.9), StepLR(step_size=4)])",
    "ConstantLR()",
    "CosineAnnealingLR(eta_min=0.0001)",
    "CosineAnnealingWarmRestarts(T_0=4, T_mult=2)",
    "CyclicLR(base_lr=0.001, max_lr=0.01, step_size_up=7)",
    "CyclicLR(base_lr=0.001, max_lr=0.01, step_size_up=7, mode='exp_range', gamma=0.99, cycle_momentum=False)",
    "ExponentialLR(gamma=0.8)",
    "LinearLR(total_iters=6)",
    "MultiStepLR(milestones=[2, 5, 5, 9])",
    "OneCycleLR()",
    "OneCycleLR(max_lr=0.1, total_steps=31, three_phase=True, anneal_strategy='linear', cycle_momentum=False)",
    "PolynomialLR(total_iters=9, power=2.0)",
    "ReduceLROnPlateau(patience=1, cooldown=1)",
    "SWALR(swa_lr=0.05, anneal_epochs=4)",
    "SequentialLR([LinearLR(total_iters=3), CosineAnnealingLR()], milestones=[3])",
    "SequentialLR([ConstantLR(total_iters=2), ExponentialLR(0.9), SWALR(0.02)], milestones=[2, 8])",
    "StepLR(step_size=3, gamma=0.5)",
    "WarmupCosine()",
    "WarmupCosine(warmup=9, final=0.1)",
]
OPTIMIZERS: list[Callable[[Any], torch.optim.Optimizer]] = [
    lambda weights: torch.optim.AdamW(weights, lr=0.01),
    lambda weights: torch.optim.SGD(weights, lr=0.01, momentum=0.8),
]


def optimizer(make: Callable[[Any], torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """Two groups, the second with a tenth of the learning rate."""
    weights = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    return make([{"params": weights[:1]}, {"params": weights[1:], "lr": 0.001}])


def figure(epoch: int) -> float:
    return max(1.0 - 0.2 * epoch, 0.4)


def record(epoch: int) -> EpochRecord:
    return EpochRecord(epoch, 5 * epoch, 1.0, {"loss": figure(epoch)}, 0.0, 0.0, 0.0)


def torchs(text: str, made: torch.optim.Optimizer) -> list[list[float]]:
    """Return the rates of each step as torch's own loop would have them."""
    call = resolve_schedule(text, LENGTH)
    scheduler = build_scheduler(call, made)
    found = []
    last = scheduler.total_steps - 1 if call.name == "OneCycleLR" else LENGTH.steps
    for epoch in range(1, LENGTH.epochs + 1):
        for _ in range(LENGTH.steps_per_epoch):
            found.append(numbers(made.param_groups))
            made.step()
            if goes_by_steps(call) and scheduler.last_epoch < last:
                scheduler.step()
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step(figure(epoch))
        elif not goes_by_steps(call):
            scheduler.step()
    return found


def fresh(text: str, make: Callable[[Any], torch.optim.Optimizer]) -> tuple[Schedule, torch.optim.Optimizer]:
    made = optimizer(make)
    return Schedule(made, partial(make_scheduler, resolve_schedule(text, LENGTH))), made


def through_a_checkpoint(schedule: Schedule) -> Any:
    tensors: dict[str, torch.Tensor] = {}
    return trees.decode(json.loads(json.dumps(trees.encode(schedule.state(), tensors, "schedule"))), tensors)


def test_every_scheduler_of_torch_is_known_or_refused_with_a_reason() -> None:
    known = signatures.schedulers()
    assert {*known.known, *known.refused} == {*lr_scheduler.__all__, "SWALR", "WarmupCosine"}
    assert {parse_call(text, "x").name for text in TEXTS} == set(known.known)


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("text", TEXTS)
def test_rates_are_torchs_whatever_is_taken_at_a_time_and_wherever_a_run_was_killed(
    text: str, make: Callable[[Any], torch.optim.Optimizer]
) -> None:
    expected = torchs(text, optimizer(make))
    draw = random.Random(text)
    schedule, made = fresh(text, make)
    found, used = [], []
    for epoch in range(1, LENGTH.epochs + 1):
        left = LENGTH.steps_per_epoch
        while left:
            table = schedule.ahead(draw.randint(1, 9) if left < 3 else left)
            taken = draw.randint(1, min(left, len(table) if table is not None else 3))
            now = numbers(made.param_groups)
            found += [now] * taken if table is None else table[:taken].tolist()
            assert found[-taken] == now
            schedule.advance(taken)
            left -= taken
            if draw.random() < 0.4:
                schedule.state()  # a checkpoint changes nothing
            if draw.random() < 0.4:
                state = through_a_checkpoint(schedule)
                schedule, made = fresh(text, make)
                schedule.put_back(state)
        used.append(schedule.rate(made))
        schedule.after_epoch(record(epoch))
    assert found == expected
    ends = [rates[0] for rates in expected[LENGTH.steps_per_epoch - 1 :: LENGTH.steps_per_epoch]]
    assert used == ends
    assert "step" not in vars(made)  # the optimizer itself is never wrapped


def test_without_a_schedule_the_optimizer_is_left_alone() -> None:
    made = optimizer(OPTIMIZERS[0])
    assert Fixed().ahead(9) is None
    assert Fixed().rate(made) == 0.01
    assert Fixed().state() == {}


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        ("torch.optim.lr_scheduler.CosineAnnealingLR()", "CosineAnnealingLR(T_max=12)"),
        ("CosineAnnealingLR(50)", "CosineAnnealingLR(T_max=50)"),
        ("OneCycleLR()", "OneCycleLR(max_lr=0.01, total_steps=60)"),
        ("OneCycleLR(0.1, epochs=3)", "OneCycleLR(max_lr=0.1, epochs=3, steps_per_epoch=5)"),
        ("StepLR(3)", "StepLR(step_size=3)"),
        ("ReduceLROnPlateau(patience=5)", "ReduceLROnPlateau(mode='min', patience=5)"),
        ("WarmupCosine(0.1)", "WarmupCosine(warmup=6, total_steps=60, final=0.0)"),
        ("WarmupCosine(warmup=1)", "WarmupCosine(warmup=1, total_steps=60, final=0.0)"),
        (
            "SequentialLR([LinearLR(), CosineAnnealingLR()], [5])",
            "SequentialLR(schedulers=[LinearLR(), CosineAnnealingLR(T_max=7)], milestones=[5])",
        ),
    ],
)
def test_what_the_length_of_a_run_decides_is_written_out_once(text: str, resolved: str) -> None:
    assert str(resolve_schedule(text, LENGTH)) == resolved
    assert str(resolve_schedule(resolved, Length(99, 990, 10, 5.0))) == resolved


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("CosineAnealingLR()", r"'CosineAnealingLR' is no known schedule; did you mean CosineAnnealingLR"),
        ("LambdaLR()", r"no text holds its function; hand it over in Python: nw.train\(schedule=lambda optimizer"),
        ("Adam()", r"Adam came, which is an optimizer; write it in training.optimizer"),
        ("StepLR()", r"step_size is missing; expected at least step_size"),
        ("StepLR(step_size=0)", r"StepLR\(step_size=0\) fails: .*modulo"),
        ("StepLR(step_size=3, gama=0.1)", r"has no argument 'gama'; did you mean gamma"),
        ("StepLR(step_size=3, last_epoch=4)", r"last_epoch; the run counts its epochs and steps itself"),
        ("ExponentialLR(gamma=-1.0)", r"gives a learning rate of -0.01; expected 0 or more"),
        ("OneCycleLR(max_lr='high')", r"OneCycleLR\(.*\) cannot be built"),
        (
            "SequentialLR([StepLR(3), StepLR(2)], milestones=[])",
            r"milestones=\[\] came; expected 1 whole number\(s\) that rise",
        ),
        ("SequentialLR([StepLR(3), CosineAnnealingLR()], milestones=[12])", r"begins after the run of 12 epochs"),
        (
            "SequentialLR([StepLR(3), OneCycleLR()], milestones=[4])",
            r"OneCycleLR inside SequentialLR came; it steps after every step",
        ),
        ("ChainedScheduler([SequentialLR([StepLR(3)], milestones=[])])", r"which torch cannot restart; expected single"),
        ("ChainedScheduler([ReduceLROnPlateau()])", r"it goes by figures, the others after every epoch"),
        ("ChainedScheduler([])", r"expected a list of schedulers in it"),
        ("ReduceLROnPlateau(mode='max')", r"mode='max' came; of valid_loss, which it watches, less is better"),
        ("WarmupCosine(warmup=1.5)", r"warmup=1.5 came; expected a whole number of steps"),
        ("WarmupCosine(warmup=60)", r"warmup=60 came of 60 steps; expected fewer"),
        ("WarmupCosine(final=2)", r"final=2 came; expected a share of the learning rate from 0 to 1"),
    ],
)
def test_what_makes_no_schedule_is_told_in_one_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        resolve_schedule(text, LENGTH)


def test_code_in_a_schedule_is_refused() -> None:
    with pytest.raises(SafetyError, match="an argument may not be a call"):
        resolve_schedule("StepLR(step_size=[open('x')])", LENGTH)


def test_another_learning_rate_changes_the_rates_in_proportion_where_the_schedule_reads_it() -> None:
    for text, factor in (("StepLR(step_size=1, gamma=0.5)", 2.0), ("CyclicLR(base_lr=0.001, max_lr=0.01)", 1.0)):
        schedule, made = fresh(text, OPTIMIZERS[0])
        schedule.ahead(3)
        schedule.advance(3)
        schedule.after_epoch(record(1))
        before = made.param_groups[0]["lr"]
        other = torch.optim.AdamW([nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))], lr=0.02)
        other.param_groups = [{**other.param_groups[0]}, {**other.param_groups[0], "lr": 0.002}]
        again = Schedule(other, partial(make_scheduler, resolve_schedule(text, LENGTH)))
        again.put_back(schedule.state())
        assert other.param_groups[0]["lr"] == pytest.approx(before * factor)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda optimizer: 1 / 0, "schedule: it cannot be built: ZeroDivisionError"),
        (lambda optimizer: 3, "the function returned int; expected a scheduler"),
        (lambda optimizer: (lr_scheduler.StepLR(optimizer, 2), "batch"), "'batch' came with the scheduler"),
        (
            lambda optimizer: lr_scheduler.StepLR(torch.optim.SGD([nn.Parameter(torch.ones(1))]), 2),
            "it turns another optimizer",
        ),
    ],
)
def test_an_own_function_that_makes_no_schedule_is_told_in_one_line(function: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_own_schedule(function, optimizer(OPTIMIZERS[0]))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def trained(model: nn.Module, after: Callable[[int], None], steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    made = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        made.zero_grad()
        model(torch.randn(8, 3, generator=generator)).square().mean().backward()
        made.step()
        after(step)


@pytest.mark.parametrize("decay", [0.9, None])
def test_averages_are_those_of_torchs_averaged_model(decay: float | None) -> None:
    one, other = network(), network()
    function: Any = None if decay is None else get_ema_multi_avg_fn(decay)
    theirs = AveragedModel(one, multi_avg_fn=function, use_buffers=True)
    ours = Averaged(other, decay=decay, start=2)
    assert ours.shown is other
    trained(one, lambda step: theirs.update_parameters(one) if decay is not None or step >= 1 else None, 7)
    trained(other, lambda step: (ours.after_step(), ours.after_epoch(step + 1)) and None, 7)
    assert ours.begun
    found = ours.shown.state_dict()
    assert all(torch.equal(found[name], value) for name, value in theirs.module.state_dict().items())
    assert not torch.equal(found["0.weight"], other.state_dict()["0.weight"])
    again = Averaged(network(), decay=decay, start=2)
    again.load_state_dict(ours.state_dict())
    assert int(again.average.n_averaged) == int(theirs.n_averaged)
    assert all(torch.equal(again.shown.state_dict()[name], value) for name, value in found.items())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("EMA(decay=1.0)", "decay=1.0 came; expected a number from 0 to below 1"),
        ("SWA(start_epoch=13)", "start_epoch=13 came; expected the first epoch whose weights are averaged, from 1 to 12"),
        ("SWA(start=3)", "SWA has no argument 'start'; did you mean start_epoch"),
        ("EWA()", "'EWA' is no known average; did you mean"),
        ("SWALR(0.1)", "SWALR came, which is a schedule of the learning rate; write it in training.schedule"),
    ],
)
def test_what_makes_no_average_is_told_in_one_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        resolve_average(text, 12)


def test_averages_are_written_out() -> None:
    assert str(resolve_average("EMA()", 12)) == "EMA(decay=0.999)"
    assert str(resolve_average("SWA()", 12)) == "SWA(start_epoch=9)"
    assert make_averaged(None, network()) is None
