"""lr, batch-size and plan: they look at copies, keep nothing, touch no generator, and say what they found."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import netwright as nw
from netwright.cli import cli
from netwright.config.schema import CheckpointConfig
from netwright.data.usage import Peak, resident
from netwright.errors import ConfigError
from netwright.foresight.budgeting import Budget, Taken
from netwright.foresight.ranging import Sweep, _is_broken, _smoothed, _steepest
from netwright.foresight.sizing import Size, _expected, _series
from netwright.reporting.chart import bar, chart


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return nw.find_learning_rate("sklearn:iris", steps=120, copies=2)


def test_the_range_test_suggests_a_rate_where_the_loss_falls(sweep: Sweep) -> None:
    assert sweep.suggested is not None
    assert 1e-5 < sweep.suggested < sweep.lowest < 1.0
    assert sweep.broken is not None
    assert sweep.broken > sweep.lowest
    assert len(sweep.rates) < 120
    assert np.all(np.diff(np.log(sweep.rates)) == pytest.approx(np.log(1e7) / 119))
    at = int(np.searchsorted(sweep.rates, sweep.suggested))
    assert sweep.smoothed.min() < sweep.smoothed[at] < sweep.smoothed[:10].mean()
    printed = str(sweep)
    assert "suggested: lr=" in printed
    assert "how: median of the copies" in printed
    assert "lr=0.001 is written" in printed
    assert sweep.picture().startswith(b"\x89PNG")
    assert json.loads(json.dumps(sweep.to_json()))["copies"] == 2


def test_looking_moves_no_generator_writes_nothing_and_changes_no_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    data = (rows, rows @ np.array([1.0, -2.0, 0.5, 0.0]))
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    before = [value.clone() for value in module.state_dict().values()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[union-attr, index]
    nw.find_learning_rate(model=module, data=data, steps=30, copies=1)
    nw.find_batch_size(model=module, data=data, most=16)
    nw.plan(model=module, data=data, epochs=2)
    assert all(map(torch.equal, before, module.state_dict().values()))
    assert module.training
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()
    assert states[2] == random.getstate()
    assert not list(tmp_path.iterdir())


def test_the_suggestion_is_the_steepest_fall_whatever_noise_there_is_before() -> None:
    rates = np.geomspace(1e-6, 1.0, 200)
    clean = 1.0 - 0.8 / (1 + (1e-3 / rates) ** 2)  # falls most steeply over the logarithm at 1e-3
    noisy = clean + np.random.default_rng(0).normal(scale=0.05, size=200)
    noisy[20] = 30.0  # one batch of outliers
    found = _steepest(rates, noisy, _smoothed(noisy))
    assert found is not None
    assert 4e-4 < found < 2.5e-3
    flat = np.random.default_rng(1).normal(loc=1.0, scale=0.05, size=200)
    assert _steepest(rates, flat, _smoothed(flat)) is None


def test_a_loss_that_breaks_down_is_seen_and_one_that_wavers_is_not() -> None:
    assert _is_broken([1.0] * 10 + [0.5] * 20 + [50.0] * 5)
    assert not _is_broken([1.0, 1.2, 0.8] * 20)
    assert not _is_broken([9e9] * 5)


def test_batch_sizes_are_measured_up_to_the_limit() -> None:
    found = nw.find_batch_size("sklearn:iris")
    assert [size.batch_size for size in found.sizes] == [8, 16, 32, 64, 90]
    assert found.largest == 90
    assert all(size.rows_per_second > 0 and size.step_seconds > 0 for size in found.sizes)
    assert "all 90 train rows" in str(found)
    assert "not quality" in str(found)
    assert "Keskar" in str(found)
    assert found.enough in [size.batch_size for size in found.sizes]
    assert "fast enough" in str(found)
    assert list(_series(5)) == [5]
    assert list(_series(40)) == [8, 16, 32, 40]


def test_a_size_beyond_the_limit_is_foreseen_by_a_line() -> None:
    sizes = [Size(8, 1.0, 8.0, 1000, 10), Size(16, 1.0, 16.0, 1800, 5)]
    assert _expected(sizes, 32) == 3400
    assert _expected(sizes[:1], 16) is None


def test_no_size_is_tried_that_would_go_beyond_the_limit() -> None:
    layers = ["Linear(20000)", "ReLU()", "Linear()"]
    data = np.zeros((2048, 2), dtype=np.float32), np.arange(2048.0)
    found = nw.find_batch_size(data=data, layers=layers, memory=60 << 20, engine="eager", optimizer="SGD(lr=0.0)")
    assert 16 <= found.largest < 1024
    assert "limit" in found.ended
    assert found.limit == 60 << 20


def test_memory_of_a_block_is_seen() -> None:
    if resident() is None:
        pytest.skip("nothing tells how much memory is held")
    with Peak() as peak:
        held = np.ones(8 << 20)
        assert held.sum() > 0
        del held
    assert peak.above is not None
    assert peak.above > 40 << 20


def test_a_plan_counts_what_the_settings_ask_for() -> None:
    found = nw.plan("sklearn:iris", epochs=7, batch_size=32)
    assert (found.steps_per_epoch, found.steps, found.patience, found.cut) == (3, 21, None, None)
    taken = found.taken
    assert taken.steps >= 20
    assert taken.step > 0
    assert taken.validation > 0
    assert taken.checkpoint_bytes > 3 * taken.weight_bytes
    assert found.whole_seconds > found.training_seconds >= 21 * taken.step
    assert "7 epochs, 21 steps" in str(found)
    one = nw.plan("sklearn:iris", epochs=1, steps=1, batch_size=90)
    assert "(1 step and a validation)" in str(one)
    assert "1 epoch, 1 step" in str(one)
    assert json.loads(json.dumps(found.to_json()))["steps"] == 21
    short = nw.plan("sklearn:iris", epochs=7, batch_size=32, training={"steps": 5})
    assert (short.steps, short.epochs) == (5, 2)  # of 3 steps


def a_budget(**changes: object) -> Budget:
    taken = Taken(1.0, 2.0, 0.01, 20, 0.5, 0.2, 3000, 1000, None, 100)
    told = {"seconds": None, "settings": CheckpointConfig(), "patience": 20, **changes}
    return Budget("a", "cpu", taken, 10, 100, 1000, failures=24.0, test_rows=5, **told)  # type: ignore[arg-type]


def test_the_sums_of_a_plan() -> None:
    plain = a_budget()
    assert plain.epoch_seconds == 1.5
    assert plain.training_seconds == 12.0
    assert plain.validations == 10
    assert plain.interval == 60.0
    assert plain.young == pytest.approx((2 * 0.2 * 86400) ** 0.5)
    assert plain.lost(plain.young) <= min(plain.lost(plain.young * 1.1), plain.lost(plain.young * 0.9))
    assert plain.disk_bytes == 3 * 3000 + 2 * 1000 + 1000 * 80 + 10 * 160
    assert "at most" in str(plain)
    assert "patience 20" in str(plain)
    cut = a_budget(seconds=5.0)
    assert cut.cut == 4
    assert cut.training_seconds == 5.0
    assert "ends it in epoch 4 of 10" in str(cut)
    assert a_budget(seconds=50.0).cut is None
    assert "does not end it" in str(a_budget(seconds=50.0))
    assert a_budget(settings=CheckpointConfig(every_steps=300)).interval == 3.0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lr", "sklearn:iris", "--steps", "5"], "5 steps came"),
        (["lr", "sklearn:iris", "--from", "1", "--to", "0.1"], "rates from 1 to 0.1 came"),
        (["lr", "sklearn:iris", "--copies", "0"], "0 copies came"),
        (["lr", "sklearn:iris", "--set", "training.optimizer=LBFGS()"], "LBFGS came"),
        (["lr", "sklearn:iris", "-o", "curve.svg"], "expected a name that ends in .png"),
        (["batch-size", "sklearn:iris", "--memory", "much"], "--memory much"),
        (["batch-size", "sklearn:iris", "--most", "0"], "at most 0 rows came"),
        (["plan", "sklearn:iris", "--failure-hours", "-1"], "a failure every -1 hours came"),
        (["plan", "sklearn:iris", "--set", "training.epochs=0"], "0 epochs came"),
        (["plan", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_mistakes_are_answered_in_one_line(words: list[str], told: str, tmp_path: Path) -> None:
    found = CliRunner().invoke(cli, words)
    assert isinstance(found.exception, nw.NetwrightError), found.output
    assert told in str(found.exception)
    assert "\n" not in str(found.exception)
    if words[0] != "plan" or words[1] != "nowhere.csv":
        assert isinstance(found.exception, ConfigError)


def test_the_commands_print_and_draw(tmp_path: Path) -> None:
    picture = tmp_path / "curve.png"
    found = CliRunner().invoke(cli, ["lr", "sklearn:iris", "--steps", "60", "--copies", "1", "-o", str(picture)])
    assert "tried: 1 copy, " in found.output
    assert found.exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "┤" in found.output
    sizes = json.loads(CliRunner().invoke(cli, ["batch-size", "sklearn:iris", "--most", "8", "--json"]).output)
    assert sizes["largest"] == 8
    assert sizes["advice"]
    told = json.loads(CliRunner().invoke(cli, ["plan", "sklearn:iris", "--set", "training.epochs=2", "--json"]).output)
    assert told["epochs"] == 2
    assert told["checkpoints"]["failure_hours"] == 24.0


def test_a_chart_says_its_ends() -> None:
    lines = chart([1.0, 2.0, 4.0], ["a", "b", "c"], 20, 3)
    assert lines[0].strip().startswith("4 ┤")
    assert lines[2].strip().startswith("1 ┤")
    assert lines[-1].split() == ["a", "b", "c"]
    assert bar(1.0, 2.0, 4) == "██"
    assert bar(0.0, 2.0) == ""
    assert bar(1.0, 0.0) == ""
