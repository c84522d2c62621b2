"""Rows answered at once: raw numbers standardised by one operation, and all that must hold before a recording is played."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from netwright.data.array_preparation import ArrayPreparation
from netwright.data.batches import Batch
from netwright.engine.base import Execution
from netwright.engine.forward import Forward
from netwright.engine.watched import Watched
from netwright.exporting.prepared import RawForward
from netwright.model.task import Decoding
from netwright.recording import building
from netwright.recording.lanes import split
from netwright.recording.native import Program, _sharing
from netwright.recording.recorded import Recorded, record, ways
from netwright.recording.tape import NotFiniteError

pytestmark = [pytest.mark.usefixtures("one_thread", "compiled")]


@pytest.fixture(scope="module")
def compiled() -> None:
    """Wait for the library of replay, or skip where there can be none."""
    if not any(shutil.which(name) for name in building.COMPILERS):
        pytest.skip("no C++ compiler here")
    building.library(wait=True)


def preparation_of(shape: tuple[int, ...], layout: str, mode: str = "standardize") -> ArrayPreparation:
    """Return a preparation fitted on random rows."""
    preparation = ArrayPreparation(shape, layout, mode)
    preparation.fit(np.random.default_rng(1).standard_normal((50, *shape)) * 3 + 2, np.arange(50))
    return preparation.eval()


def numbers(rows: int, shape: tuple[int, ...], dtype: str) -> Any:
    """Return rows of numbers, one of them missing where the dtype knows that."""
    found = np.random.default_rng(2).standard_normal((rows, *shape)) * 40 + 100
    found = found.astype(dtype) if dtype[0] == "f" else found.clip(0, 250).astype(dtype)
    if dtype[0] == "f":
        found.flat[found.size // 2] = np.nan
    return found


def recorded(work: Callable[[Tensor], Tensor], rows: Tensor, lanes: int) -> Recorded:
    """Return work on rows as it is played natively."""
    batch = Batch({"x": rows}, torch.empty(0), torch.arange(len(rows)))
    sources = {"x": torch.empty(0, dtype=rows.dtype)}
    with torch.no_grad():
        known, _ = record(batch, lambda given: [work(given.inputs["x"])], ways(True, lanes), sources)
    known.choose()
    assert isinstance(known.player, Program)
    return known


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1"])
@pytest.mark.parametrize(
    ("shape", "layout"), [((37,), "NC"), ((3, 11), "NCT"), ((50,), "NT"), ((5, 7), "NHW"), ((3, 4, 6), "NCHW"), ((1,), "NC")]
)
def test_raw_rows_are_standardised_natively_with_the_bits_of_torch(
    shape: tuple[int, ...], layout: str, dtype: str, lanes: int
) -> None:
    preparation = preparation_of(shape, layout)
    for rows in (1, 130, 300):
        raw = torch.from_numpy(numbers(rows, shape, dtype))
        known = recorded(preparation.as_one, raw, lanes)
        assert [str(call.function) for call in known.tape.calls] == ["netwright.standardized.out"]
        for values in (raw, raw.flip(0).clone()):
            assert known.answer([values], checked=True) is not None
            assert known.tape.results[0].numpy().tobytes() == preparation(values).numpy().tobytes()


@pytest.mark.parametrize("mode", ["standardize", "none"])
def test_numbers_beyond_all_bounds_are_as_torch_makes_them(mode: str) -> None:
    preparation = preparation_of((4,), "NC", mode)
    preparation.scale.fill_(1e-9)
    raw = torch.tensor([[torch.nan, 3e38, -3e38, 1.0], [torch.inf, -torch.inf, -0.0, 1e-45]])
    known = recorded(preparation.as_one, raw, 1)
    assert known.answer([raw], checked=True) is None
    assert isinstance(known.player, Program)
    assert isinstance(known.player.answer([raw], checked=True), NotFiniteError)
    assert known.answer([raw], checked=False) is not None
    assert known.tape.results[0].numpy().tobytes() == preparation(raw).numpy().tobytes()
    finite = raw[:1].clone()
    known = recorded(preparation.as_one, finite, 1)
    assert known.answer([finite], checked=True) is not None
    assert known.tape.results[0].numpy().tobytes() == preparation(finite).numpy().tobytes()


def test_an_input_that_is_read_otherwise_too_is_copied() -> None:
    preparation = preparation_of((6,), "NC")
    raw = torch.from_numpy(numbers(140, (6,), "f4")).nan_to_num_()

    def both(given: Tensor) -> Tensor:
        return preparation.as_one(given) + given

    known = recorded(both, raw, 2)
    for values in (raw, raw.flip(0).clone()):
        assert known.answer([values], checked=True) is not None
        assert torch.equal(known.tape.results[0], preparation(values) + values)


def test_what_native_code_cannot_standardise_is_called() -> None:
    moved = preparation_of((4, 6, 3), "NHWC")
    raw = torch.from_numpy(numbers(9, (4, 6, 3), "f4"))
    known = recorded(moved.as_one, raw, 1)
    assert "netwright.standardized.out" not in [str(call.function) for call in known.tape.calls]
    assert known.answer([raw], checked=True) is not None
    assert torch.equal(known.tape.results[0], moved(raw))
    mean, scale = torch.rand(3, 5, dtype=torch.float64), torch.rand(3, 5, dtype=torch.float64)
    rows = torch.rand(7, 3, 5)
    known = recorded(lambda given: torch.ops.netwright.standardized(given, mean, scale), rows, 1)
    assert _sharing(mean.shape, rows.shape) is None
    assert known.answer([rows], checked=True) is not None
    assert torch.equal(known.tape.results[0], (rows - mean.float()).div_(scale.float()))
    other = torch.randint(-9, 9, (5, 3), dtype=torch.int16)
    for turned in (other, torch.rand(5, 3).t()):
        known = recorded(lambda given: torch.ops.netwright.standardized(given, None, None).float(), turned.contiguous(), 1)
        assert known.answer([turned.contiguous()], checked=False) is not None
        assert torch.equal(known.tape.results[0], turned.float())
    known = recorded(lambda given: torch.ops.netwright.standardized(given.t(), None, None), rows[0].contiguous(), 1)
    assert known.answer([rows[0].contiguous()], checked=False) is not None
    assert torch.equal(known.tape.results[0], rows[0].t())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log", [False, True])
def test_a_softmax_has_the_same_bits_in_parts(dtype: torch.dtype, log: bool) -> None:
    function = torch.ops.aten._log_softmax.out if log else torch.ops.aten._softmax.out
    work = torch.log_softmax if log else torch.softmax
    for classes in (2, 3, 10, 17, 33, 100, 1000):
        rows = torch.randn(700, classes, dtype=dtype) * 5
        known = recorded(lambda given: work(given, 1), rows, 3)
        (call,) = (call for call in known.tape.calls if call.function is function)
        assert classes < 10 or split(call, 3) is not None  # fewer are not worth it
        assert known.answer([rows], checked=True) is not None
        assert torch.equal(known.tape.results[0], work(rows, 1))
        across = recorded(lambda given: work(given, 0), rows, 3)
        assert all(split(call, 3) is None for call in across.tape.calls if call.function is function)


def raw_forward(**how: Any) -> RawForward:
    """Return a network behind its preparation, whose answers to 3 rows of 6 float32 numbers are trusted."""
    network = nn.Sequential(nn.Linear(6, 5), nn.LeakyReLU(0.0), nn.Linear(5, 4)).eval()
    forward = RawForward("X", preparation_of((6,), "NC"), network, Decoding("softmax", 4), Execution("captured", **how), 64)
    teach(forward, ROWS)
    return forward


def teach(forward: RawForward, rows: Any) -> None:
    """Call until the call is trusted, and answered at once from then on."""
    for _ in range(5):
        forward.decoded(rows)
    assert forward.trusted(rows) is not None
    forward.remember(rows, 1, "highest")


ROWS = numbers(3, (6,), "f4")


def test_rows_like_those_before_are_answered_at_once() -> None:
    forward = raw_forward()
    for rows in (ROWS, ROWS[::-1].copy(), np.nan_to_num(ROWS)):
        found = forward.at_once(rows)
        assert found is not None
        assert found.tobytes() == forward.decoded(rows).numpy().tobytes()
    kept = forward.at_once(ROWS)
    assert forward.at_once(-ROWS) is not None
    assert kept is not None
    assert kept.tobytes() == forward.decoded(ROWS).numpy().tobytes()  # it is a copy
    frozen = ROWS.copy()
    frozen.flags.writeable = False
    assert forward.at_once(frozen) is not None


def test_other_rows_are_not() -> None:
    forward = raw_forward()
    spread = np.zeros((3, 12), "f4")[:, ::2]
    odd = np.zeros(3 * 6 * 4 + 1, np.uint8)[1:].view("f4").reshape(3, 6)
    infinite = ROWS.copy()
    infinite[2, 5] = np.inf
    for rows in (
        ROWS[:2],
        ROWS.astype("f8"),
        ROWS.astype(">f4"),
        spread,
        odd,
        infinite,
        ROWS.tolist(),
        torch.zeros(3, 6),
        None,
    ):
        assert forward.at_once(rows) is None
    assert forward.at_once(ROWS) is not None


def test_an_output_that_lies_elsewhere_each_time_is_not_given_at_once() -> None:
    rows = torch.randn(3, 6)
    for last, moves in ((nn.LayerNorm(5), True), (nn.Tanh(), False)):
        forward = Forward(nn.Sequential(nn.Linear(6, 5), last).eval(), Execution("captured"))
        with torch.inference_mode():
            for _ in range(5):
                expected = forward(Batch({"x": rows}, torch.empty(0), torch.arange(3)))
        (found,) = forward.trusted([rows]) or ()
        assert torch.equal(found, expected)
        assert (forward.prompt(rows, 1, "highest") is None) == moves


@contextmanager
def hooked_everywhere() -> Iterator[None]:
    """Give all modules a hook."""
    handle = nn.modules.module.register_module_forward_hook(lambda *given: None)
    yield
    handle.remove()


CHANGES: dict[str, Callable[[nn.Sequential, Decoding], object]] = {
    "mode": lambda model, decoding: model.train(),
    "mode of a part": lambda model, decoding: model[1].train(),
    "setting": lambda model, decoding: setattr(model[1], "negative_slope", 0.7),
    "temperature": lambda model, decoding: setattr(decoding, "temperature", 2.0),
    "hook": lambda model, decoding: model[0].register_forward_hook(lambda *given: None),
    "pre-hook": lambda model, decoding: model[0].register_forward_pre_hook(lambda *given: None),
    "forward": lambda model, decoding: setattr(model[1], "forward", torch.relu),
    "part": lambda model, decoding: setattr(model, "1", nn.Tanh().eval()),
    "one more part": lambda model, decoding: model.append(nn.Tanh().eval()),
    "parameter": lambda model, decoding: setattr(model[2], "weight", nn.Parameter(torch.ones(4, 5))),
    "no bias": lambda model, decoding: setattr(model[2], "bias", None),
    "memory": lambda model, decoding: setattr(model[2].weight, "data", torch.ones(4, 5)),
    "strides": lambda model, decoding: setattr(model[0].weight, "data", model[0].weight.data.reshape(6, 5).t()),
    "buffer": lambda model, decoding: model[0].register_buffer("more", torch.zeros(1)),
    "parameters": lambda model, decoding: setattr(model[0], "_parameters", {**model[0]._parameters}),
    "modules": lambda model, decoding: setattr(model, "_modules", {**model._modules}),
    "hooks": lambda model, decoding: setattr(model[0], "_forward_hooks", OrderedDict()),
    "state": lambda model, decoding: model[0].__setstate__(nn.Linear(6, 5).__getstate__()),
    "all it holds": lambda model, decoding: setattr(model[0], "__dict__", nn.Linear(6, 5).__dict__),
    "class": lambda model, decoding: setattr(model[1], "__class__", nn.ReLU),
    "sign of zero": lambda model, decoding: setattr(model[1], "negative_slope", -0.0),
    "sizes": lambda model, decoding: setattr(model[2].bias, "data", model[2].bias.data[:1]),
    "no address": lambda model, decoding: model.register_buffer("adjacency", torch.eye(4).to_sparse()),
    "attribute that is gone": lambda model, decoding: delattr(model[1], "negative_slope"),
    "attribute that is an array": lambda model, decoding: setattr(model[1], "negative_slope", np.ones(2)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_network_that_has_changed_does_not_answer_at_once(name: str) -> None:
    forward = raw_forward()
    prepared = forward._forward.model
    network, decoding = prepared.network, prepared.decoding
    assert isinstance(network, nn.Sequential)
    assert isinstance(decoding, Decoding)
    seen = Watched(network)
    assert seen.still()
    CHANGES[name](network, decoding)
    assert forward.at_once(ROWS) is None
    assert forward.trusted(ROWS) is None
    assert seen.still() == (name == "temperature")  # which is not the network's


def test_hooks_that_are_put_in_later_run() -> None:
    forward, called = raw_forward(), []
    network = forward._forward.model.network
    network[0]._forward_hooks = OrderedDict()
    network[0].register_forward_hook(lambda part, given, found: called.append(found))
    for _ in range(6):
        forward.decoded(ROWS)
    assert len(called) == 6
    network[0].register_forward_hook(lambda part, given, found: found * 2)
    doubled = forward.decoded(ROWS)
    network[0]._forward_hooks.clear()
    expected = forward.decoded(ROWS)
    assert not torch.equal(doubled, expected)
    teach(forward, ROWS)
    found = forward.at_once(ROWS)
    assert found is not None
    assert found.tobytes() == expected.numpy().tobytes()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_code_of_torch_jit_is_called() -> None:
    forward = raw_forward()
    forward._forward.model.network[1] = torch.jit.script(nn.LeakyReLU(0.3))
    network = forward._forward.model.network
    for _ in range(6):
        found = forward.decoded(ROWS)
        assert forward.at_once(ROWS) is None
    prepared = preparation_of((6,), "NC")(torch.from_numpy(ROWS))
    assert torch.equal(found, network(prepared).double().softmax(1))


def test_parameters_may_be_swapped() -> None:
    forward = raw_forward()
    weight, other = forward._forward.model.network[2].weight, nn.Parameter(torch.ones(4, 5))
    torch.utils.swap_tensors(weight, other)
    assert forward.at_once(ROWS) is None
    assert forward.trusted(ROWS) is None
    network = forward._forward.model.network
    expected = network(preparation_of((6,), "NC")(torch.from_numpy(ROWS))).double().softmax(1)
    assert torch.equal(forward.decoded(ROWS), expected)


@pytest.mark.parametrize("dtype", ["f2", "u2", "u4", "u8", "i2", "i1", "?", ">f4", ">i8", "f8", "u1", "i4"])
def test_rows_of_all_dtypes_get_the_same_each_time(dtype: str) -> None:
    forward = raw_forward()
    rows = (np.arange(18).reshape(3, 6) % 7).astype(dtype)
    expected = forward.decoded(rows).numpy().tobytes()
    teach(forward, rows)
    for _ in range(3):
        found = forward.at_once(rows)
        assert (found is None) == (dtype in ("f2", "u2", "u4", "u8", ">f4", ">i8"))
        assert found is None or found.tobytes() == expected
        trusted = forward.trusted(rows)
        assert trusted is not None
        assert trusted.numpy().tobytes() == expected


def test_a_network_that_is_put_back_answers_again() -> None:
    forward = raw_forward()
    network = forward._forward.model.network
    network.train()
    assert forward.at_once(ROWS) is None
    network.eval()
    assert forward.at_once(ROWS) is not None
    before = network[2].weight.data
    network[2].weight.data = before.clone()
    assert forward.at_once(ROWS) is None
    expected = forward.decoded(ROWS).numpy()
    teach(forward, ROWS)
    found = forward.at_once(ROWS)
    assert found is not None
    assert found.tobytes() == expected.tobytes()


def test_numbers_of_the_network_may_change() -> None:
    forward = raw_forward()
    before = forward.at_once(ROWS)
    with torch.no_grad():
        forward._forward.model.network[2].weight.mul_(2)
    found = forward.at_once(ROWS)
    assert found is not None
    assert before is not None
    assert found.tobytes() != before.tobytes()
    assert found.tobytes() == forward.decoded(ROWS).numpy().tobytes()


def test_what_a_caller_has_set_is_heeded_and_left() -> None:
    forward = raw_forward()
    with torch.autocast("cpu", torch.bfloat16):
        assert forward.at_once(ROWS) is None
    with hooked_everywhere():
        assert forward.at_once(ROWS) is None
    torch.set_float32_matmul_precision("medium")
    try:
        assert forward.at_once(ROWS) is None
    finally:
        torch.set_float32_matmul_precision("highest")
    torch.set_num_threads(3)
    assert forward.at_once(ROWS) is not None
    assert torch.get_num_threads() == 3


def test_threads_ask_at_once() -> None:
    forward = raw_forward()
    some = [numbers(3, (6,), "f4") + place for place in range(20)]
    expected = [forward.decoded(rows).numpy().tobytes() for rows in some]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda place: forward.at_once(some[place % 20]), range(400)))
    for place, answer in enumerate(found):
        assert answer is not None
        assert answer.tobytes() == expected[place % 20]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded")
def test_a_forked_process_calls_the_network() -> None:
    forward = raw_forward(lanes=2)
    rows = numbers(300, (6,), "f4")
    teach(forward, rows)
    assert forward.at_once(rows) is not None
    weight = forward._forward.model.network[2].weight
    child = os.fork()
    if not child:
        alone = forward.at_once(rows) is None
        weight.data = weight.data * 2
        os._exit(0 if alone and forward.trusted(rows) is None else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_multiple_of_a_term_is_not_added_in_parts() -> None:
    rows = torch.randn(300, 64)
    for shape in ((1,), (64,), (300, 64)):
        term = torch.randn(shape)
        once, twice = (recorded(partial(torch.add, other=term, alpha=by), rows, 2) for by in (1, 0.3))
        assert [split(call, 2) is None for known in (once, twice) for call in known.tape.calls] == [False, True]
        assert twice.answer([rows], checked=False) is not None
        assert torch.equal(twice.tape.results[0], torch.add(rows, term, alpha=0.3))


def test_the_operation_is_told_once_where_the_module_is_imported_anew() -> None:
    found = importlib.util.find_spec("netwright.data.array_preparation")
    assert found is not None
    assert found.loader is not None
    again = importlib.util.module_from_spec(found)
    found.loader.exec_module(again)
    raw = torch.rand(3, 6)
    assert torch.equal(again.standardized(raw, None, None), torch.ops.netwright.standardized(raw, None, None))


@pytest.mark.parametrize(
    ("mean", "rows", "expected"),
    [
        ((3, 1, 1), (8, 3, 4, 5), 20),
        ((20,), (8, 20), 1),
        ((1,), (8, 1), 1),
        ((1, 1), (8, 5, 7), 35),
        ((5, 7), (8, 5, 7), None),
        ((7,), (8, 5, 7), 1),
        ((5, 1), (8, 5, 7), 7),
        ((3,), (8, 20), None),
        ((8, 20), (8, 20), None),
    ],
)
def test_how_many_numbers_share_a_mean(mean: tuple[int, ...], rows: tuple[int, ...], expected: int | None) -> None:
    assert _sharing(mean, rows) == expected
