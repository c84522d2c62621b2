"""Small predictions take a shorter way: with the bits, the promises and the errors of the long one."""

from __future__ import annotations

import copy
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import netwright as nw
from netwright.data.batches import Examples, batches, batches_in_order
from netwright.engine.forward import Forward, parts_of
from netwright.errors import ConfigError, DataError
from netwright.evaluation.scoring import outputs_of
from netwright.model.decisions import decide, decided
from netwright.seeding import drawn_from
from netwright.sources import opening

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 6)).astype(np.float32)
Y = X[:, :3].argmax(axis=1)


def trained(folder: Path, layers: list[str], preparation: dict[str, str] | None = None, **settings: object) -> nw.Run:
    rows = settings.pop("rows", X)
    return nw.train(
        data=(rows, Y), layers=layers, preparation=preparation, epochs=1, test=False, run_dir=str(folder / "run"), **settings
    )


def by_hand(run: nw.Run, rows: np.ndarray) -> np.ndarray:
    """Return probabilities by the plain lines of a tutorial, 1,024 rows at a time."""
    module = run.program.preparation.modules["X"]
    raw = torch.from_numpy(np.ascontiguousarray(rows.astype(rows.dtype.newbyteorder("="))))
    if raw.dtype in (torch.float64, torch.int32):
        prepared = ((raw - module.mean) / module.scale).float()
    else:
        prepared = (raw.float() - module.mean.float()) / module.scale.float()
    prepared = torch.nan_to_num(prepared, nan=0.0)
    network, threads = nw.load(run.folder).model, torch.get_num_threads()
    torch.set_num_threads(run.config.training.threads)
    with torch.no_grad():
        outputs = [network(prepared[start : start + 1024].clone()) for start in range(0, len(rows), 1024)]
    torch.set_num_threads(threads)
    return torch.cat(outputs).double().softmax(dim=1).numpy()


@pytest.mark.parametrize("preparation", [None, {}])
@pytest.mark.parametrize("engine", ["auto", "eager"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.uint8, ">f4"])
def test_few_rows_get_the_bits_of_a_loop_by_hand(
    preparation: dict[str, str] | None, engine: str, dtype: str, tmp_path: Path
) -> None:
    run = trained(
        tmp_path, ["Linear(8)", "BatchNorm1d()", "ReLU()", "Dropout(0.5)", "Linear(3)"], preparation, engine=engine
    )
    rows = (X * 10).astype(dtype)
    if rows.dtype.kind == "f":
        rows[3, 2] = np.nan
    for count in (1, 5, 128, 129, 300):
        expected = by_hand(run, rows[:count])
        for _ in range(5):
            assert run.predict_decoded(rows[:count]).tobytes() == expected.tobytes()
    if rows.dtype.isnative and rows.dtype != np.float16:
        assert run.predict_decoded(torch.from_numpy(rows[:5])).tobytes() == by_hand(run, rows[:5]).tobytes()


def test_rows_of_any_strides_get_the_same_bits_and_are_left_as_they_are(tmp_path: Path) -> None:
    run = trained(tmp_path, ["ReLU(inplace=True)", "Linear(3)"])
    wide = RNG.standard_normal((300, 12)).astype(np.float32)
    for rows in (wide[:, ::2], np.asfortranarray(wide[:, :6]), wide[7:8, :6], wide[:, :6][::-1]):
        before = rows.copy()
        expected = by_hand(run, rows.copy())
        for _ in range(4):
            assert run.predict_decoded(rows).tobytes() == expected.tobytes()
        assert rows.tobytes() == before.tobytes()


IMAGES = RNG.integers(0, 256, (1300, 7, 5, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("rows", "layout"), [(RNG.standard_normal((3100, 6)), "NC"), (IMAGES, "NHWC"), (IMAGES[..., 0], "NHW")]
)
@pytest.mark.parametrize("batch_size", [32, 1030])
@pytest.mark.parametrize("engine", ["auto", "eager"])
def test_rows_prepared_in_the_call_get_the_bits_of_rows_prepared_before(
    rows: np.ndarray, layout: str, batch_size: int, engine: str, tmp_path: Path
) -> None:
    layers = ["Linear(4)", "ReLU()", "Linear(3)"] if layout == "NC" else ["Conv2d(4, 3)", "Flatten()", "Linear(3)"]
    run = nw.train(
        data=(rows, np.arange(len(rows)) % 3),
        layers=layers,
        layout=layout,
        epochs=1,
        batch_size=batch_size,
        engine=engine,
        test=False,
        run_dir=str(tmp_path / "run"),
    )
    program = nw.load(run.folder).program
    raw = opening.from_objects((rows, None), None, layout)[0]
    before, threads = rows.copy(), torch.get_num_threads()
    torch.set_num_threads(run.config.training.threads)
    outputs = outputs_of(program.forward, program.preparation.examples(raw), program.batch_size)
    expected = program.outcome.decoding(outputs).numpy()
    torch.set_num_threads(threads)
    for given in (rows, {"X": rows}, rows, rows):
        assert run.predict_decoded(given).tobytes() == expected.tobytes()
    for few in (rows[:30], rows):
        expected, trusted = run.predict_decoded({"X": few}), None
        for _ in range(10):  # a player that is there by now is tried first
            assert run.predict_decoded(few).tobytes() == expected.tobytes()
            found = run.program.trusted(few)
            trusted = trusted if found is None else found
        assert (trusted is None) == (engine == "eager")
        assert trusted is None or trusted.numpy().tobytes() == expected.tobytes()
    assert run.predict_decoded(rows[::-1]).tobytes() == run.predict_decoded(np.ascontiguousarray(rows[::-1])).tobytes()
    assert (rows == before).all()


def test_a_network_that_is_narrowed_by_autocast_reads_prepared_rows(tmp_path: Path) -> None:
    run = trained(tmp_path, ["Linear(8)", "ReLU()", "Linear(3)"], precision="bfloat16")
    assert run.program.raw_forward is None
    for _ in range(4):
        assert run.predict_decoded(X[:5]).tobytes() == run.predict_decoded({"X": X[:5]}).tobytes()


def test_what_is_wrong_with_rows_is_told_in_the_same_line(tmp_path: Path) -> None:
    run = trained(tmp_path, ["Linear(3)"])
    for _ in range(4):
        run.predict(X[:2])
    infinite = X[:2].copy()
    infinite[1, 4] = np.inf
    for rows, words in (
        (infinite, "row 2.*infinite at"),
        (X[:2, :5], "rows of shape"),
        (X[0], "reshape to"),
        (X[:0], "shape"),
    ):
        with pytest.raises(DataError, match=words):
            run.predict(rows)
    with pytest.raises(DataError, match="beyond float32"):
        run.predict(np.full((1, 6), 1e300))


def test_a_change_of_the_network_is_seen(tmp_path: Path) -> None:
    run = trained(tmp_path, ["Linear(8)", "ReLU()", "Linear(3)"])
    for _ in range(5):
        before = run.predict_decoded(X[:2])
    run.model[1] = nn.Tanh()
    with torch.no_grad():
        expected = run.model(torch.from_numpy(X[:2])).double().softmax(1).numpy()
    assert expected.tobytes() != before.tobytes()
    for _ in range(5):
        assert run.predict_decoded(X[:2]).tobytes() == expected.tobytes()
    run.model.train()
    assert run.predict_decoded(X[:2]).tobytes() == expected.tobytes()
    assert run.model.training
    run.model[0].register_forward_hook(lambda module, given, output: output * 0)
    assert run.predict_decoded(X[:2]).tobytes() != expected.tobytes()


class Drawing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * (random.random() + np.random.rand()) + torch.rand(1)


def test_predicting_moves_no_generator_and_puts_threads_back(tmp_path: Path) -> None:
    own = nw.train(model=Drawing(), data=(X, Y), epochs=1, test=False, run_dir=str(tmp_path / "own"))
    plain = trained(tmp_path, ["Linear(3)"])
    images = RNG.standard_normal((300, 1, 8, 8)).astype(np.float32)
    drawing = nw.train(
        data=(images, Y),
        layers=["FractionalMaxPool2d(2, output_size=3)", "Flatten()", "Linear(3)"],
        layout="NCHW",
        epochs=1,
        test=False,
        run_dir=str(tmp_path / "drawing"),
    )
    threads = torch.get_num_threads()
    for run, rows in ((own, X), (plain, X), (drawing, images)):
        for count in (1, 1, 1, 1, 300):
            before = drawn_from()
            run.predict(rows[:count])
            assert drawn_from() == before
            assert torch.get_num_threads() == threads
    assert plain.program.forward.computes
    assert not own.program.forward.computes


def test_code_of_others_inside_a_layer_of_torch_is_not_trusted() -> None:
    def own(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)

    assert Forward(nn.TransformerEncoderLayer(4, 2)).computes
    assert not Forward(nn.TransformerEncoderLayer(4, 2, activation=own)).computes
    patched = nn.Sequential(nn.Linear(2, 2))
    forward = Forward(patched)
    assert forward.computes
    patched[0].forward = own  # type: ignore[method-assign]
    assert not forward.computes


def test_an_array_is_read_as_a_dictionary_of_it_is() -> None:
    for value in (X, torch.from_numpy(X), X.astype(">f8"), X.astype(np.longdouble)):
        short, long = (opening.from_objects((given, None), None, "NC")[0] for given in (value, {"X": value}))
        assert {**vars(short), "inputs": None} == {**vars(long), "inputs": None}
        assert short.inputs["X"].dtype == long.inputs["X"].dtype
        assert (short.inputs["X"] == long.inputs["X"]).all()


def test_batches_in_order_are_those_that_are_gathered() -> None:
    for width in (1, 3, 16):
        examples = Examples({"X": torch.randn(300, width)}, torch.arange(300))
        for some, others in zip(batches_in_order(examples, 130), batches(examples, np.arange(300), 130), strict=True):
            found, expected = some.inputs["X"], others.inputs["X"]
            assert torch.equal(found, expected)
            assert found.stride() == expected.stride()
            assert found.data_ptr() % 64 == 0
            assert torch.equal(some.rows, others.rows)
            assert torch.equal(some.target, others.target)


def test_the_parts_of_a_network_are_its_modules() -> None:
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.Sequential(nn.ReLU(), shared), shared)
    assert set(parts_of(model)) == set(model.modules())
    assert len(parts_of(model)) == 4


@pytest.mark.parametrize("labels", [[3, 5], [True, False], [0.5, 2.5], ["a", "long"], [2**63, 1], [1, 2.5]])
def test_decisions_are_an_array_of_the_same_dtype(labels: list[object]) -> None:
    for decoded in (np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([[0.6, 0.4]]), np.zeros((0, 2))):
        expected = np.asarray(decide(decoded, labels))
        assert decided(decoded, labels).dtype == expected.dtype
        assert decided(decoded, labels).tolist() == expected.tolist()


def test_threads_that_predict_at_the_same_time_get_their_own_answers(tmp_path: Path) -> None:
    run = trained(tmp_path, ["Linear(8)", "ReLU()", "Linear(3)"])
    questions = [X[start : start + size] for size in (1, 16, 140) for start in range(8)]
    for _ in range(4):  # until all are replayed
        expected = [run.predict_proba(rows) for rows in questions]

    def ask(turn: int) -> int:
        order = np.random.default_rng(turn).integers(0, len(questions), 300)
        return sum(not np.array_equal(run.predict_proba(questions[place]), expected[place]) for place in order)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == [0, 0, 0, 0]


def test_rows_with_strides_that_torch_does_not_read_are_read(tmp_path: Path) -> None:
    run = trained(tmp_path, ["Linear(3)"])
    for rows in (X[:1][::-1], X[4:5, ::-1][:, ::-1][::-1]):
        for _ in range(5):
            assert run.predict_decoded(rows).tobytes() == run.predict_decoded(rows.copy()).tobytes()


@pytest.mark.parametrize("batch_size", [32, 1500])
def test_the_bits_of_probabilities_do_not_hang_on_rows_at_a_time(batch_size: int, tmp_path: Path) -> None:
    rows = RNG.standard_normal((5000, 6)).astype(np.float32)
    run = nw.train(
        data=(rows, rows[:, 0] > 0),
        layers=["Linear(3)", "ReLU()", "Linear(1)"],
        epochs=1,
        batch_size=batch_size,
        test=False,
        run_dir=str(tmp_path / "run"),
    )
    raw, threads = opening.from_objects((rows, None), None, "NC")[0], torch.get_num_threads()
    torch.set_num_threads(run.config.training.threads)
    outputs = outputs_of(run.program.forward, run.program.preparation.examples(raw), batch_size)
    expected = run.program.outcome.decoding(outputs).numpy()
    torch.set_num_threads(threads)
    for _ in range(6):
        assert run.predict_decoded(rows).tobytes() == expected.tobytes()


def test_a_temperature_counts_at_once(tmp_path: Path) -> None:
    run = trained(tmp_path, ["Linear(8)", "ReLU()", "Linear(3)"])
    for _ in range(6):
        before = run.predict_proba(X[:5])
    run.program.outcome.decoding.temperature = 5.0
    logits = np.log(before) / 5
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for _ in range(6):
        np.testing.assert_allclose(run.predict_proba(X[:5]), expected, rtol=1e-9)


def test_a_precision_of_products_that_torch_does_not_tell_is_refused_by_runs_and_left_alone_by_estimators(
    tmp_path: Path,
) -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        nw.NetClassifier(epochs=1).fit(X, Y)
        with pytest.raises(ConfigError, match=r"the precision of products is set for a backend.*training\.precision"):
            trained(tmp_path, ["Linear(3)"])
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def test_a_run_that_has_predicted_can_be_copied(tmp_path: Path) -> None:
    run = trained(tmp_path, ["Linear(8)", "ReLU()", "Linear(3)"])
    expected = [run.predict_decoded(X[:5]).tobytes() for _ in range(6)]
    for other in (copy.deepcopy(run), pickle.loads(pickle.dumps(run))):
        assert [other.predict_decoded(X[:5]).tobytes() for _ in range(6)] == expected
    run.model[0].weight.data.zero_()
    assert run.predict_decoded(X[:5]).tobytes() != expected[0]
    assert other.predict_decoded(X[:5]).tobytes() == expected[0]
