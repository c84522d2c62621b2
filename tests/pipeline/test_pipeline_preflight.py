"""The verb and the command check, and what train does with findings: told, kept, refused; never a bit changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from torch import nn

import netwright as nw
from netwright.cli import main
from netwright.config.slugs import ALL, CHECKS, FAMILY_OF
from netwright.errors import ConfigError, DataError

TWICE = ["Linear(16)", "ReLU()", "Linear()", "Softmax()"]
SET = ["--set", 'model.layers=["Linear(16)", "ReLU()", "Linear()", "Softmax()"]']


def ended(words: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def test_the_command_tells_findings_in_groups_and_exits_0(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ended(["check", "sklearn:iris", *SET]) == 0
    told = capsys.readouterr().out
    assert told.startswith(
        "iris: 1 warning\n\nnetwork\n  warning activation-before-loss  at layer 3 Softmax(dim=1)  (sure)\n"
    )
    assert "-> end with the linear layer" in told
    assert "one batch of 32 rows: loss " in told
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["check", "sklearn:iris", *SET, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"name", "findings", "overfit"}
    assert {"check", "severity", "where", "why", "advice", "confidence"} == set(found["findings"][0])
    assert found["overfit"]["rows"] == 32


@pytest.mark.parametrize("command", ["check", "train"])
def test_strict_exits_2_for_the_network_and_3_for_the_data(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{place / 7:.3f},{place % 2},{'ab'[place % 2]}" for place in range(120)]
    (tmp_path / "told.csv").write_text("\n".join(["x,answer,y", *rows, ""]))
    assert ended([command, "sklearn:iris", *SET, "--strict"]) == 2
    assert capsys.readouterr().err.startswith(
        "netwright: error: --strict: 1 finding (activation-before-loss); expected none"
    )
    assert ended([command, "told.csv", "--target", "y", "--strict"]) == 3
    assert "(target-leak); expected none; mend the data" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["told.csv"]


def test_train_tells_warnings_and_keeps_notes_too(tmp_path: Path) -> None:
    told: list[str] = []
    layers = ["Flatten()", "Linear(16)", "BatchNorm1d()", "ReLU()", "Linear()", "Softmax()"]
    run = nw.train(
        "sklearn:digits", layers=layers, epochs=1, run_dir=tmp_path / "run", observers=[lambda one: told.append(str(one))]
    )
    assert [line.split(":")[1].strip() for line in told if line.startswith("warning: ")] == ["layer 5 Softmax(dim=1)"]
    kept = {entry["check"]: entry["severity"] for entry in run.record["findings"]}
    assert kept == {"activation-before-loss": "warning", "bias-before-batchnorm": "note"}
    assert "CrossEntropyLoss applies softmax itself" in (run.folder / "report.html").read_text()


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_no_check_changes_a_bit_of_a_run(engine: str, tmp_path: Path) -> None:
    settings = {
        "epochs": 2,
        "engine": engine,
        "layers": ["Linear(16)", "BatchNorm1d()", "ReLU()", "Dropout(0.5)", "Linear()"],
    }
    one = nw.train("sklearn:wine", run_dir=tmp_path / "one", **settings)
    other = nw.train("sklearn:wine", run_dir=tmp_path / "other", skip=["all"], **settings)
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name])
    assert [row["train_loss"] for row in one.history] == [row["train_loss"] for row in other.history]
    assert other.record["findings"] == []


class Drawing(nn.Module):
    """Draws from every global generator and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 3)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.out(x + torch.rand(1) * float(np.random.rand()))


def test_a_module_from_python_is_left_as_it_is() -> None:
    module = Drawing()
    module.out.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
    found = nw.check(model=module, data=(np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3))
    assert "random-in-eval" in [one.check for one in found.findings]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(weight.grad is None for weight in module.parameters())
    assert module.training
    assert not module.out.training
    assert module.calls == 0
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numbers).all()


def test_a_network_that_cannot_be_built_is_a_finding_beside_the_others() -> None:
    found = nw.check("sklearn:iris", layers=["Linear(5, 8)", "ReLU()", "Linear()"])
    assert found.findings[0].check == "refused"
    assert found.findings[0].where == "model.layers.0"
    assert "expects 5 features" in found.findings[0].why
    with pytest.raises(DataError):
        nw.check("nowhere.csv", target="y")
    with pytest.raises(ConfigError, match="no known setting"):
        nw.check("sklearn:iris", epoch=3)


class Centred(nn.Module):
    """Keeps a running mean, and a cache that its first call fills."""

    def __init__(self, persistent: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("mean", torch.zeros(3), persistent=persistent)
        self.register_buffer("cache", torch.zeros(0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.cache = torch.ones(3)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * self.layer(x).detach().mean(0)
        out: torch.Tensor = self.layer(x) - self.mean * self.cache
        return out


def test_a_buffer_that_training_changes_but_nothing_saves_is_told() -> None:
    for persistent, told in ((False, ["buffer mean"]), (True, [])):
        found = nw.check(model=Centred(persistent), data=load_iris(return_X_y=True)).findings
        assert [one.where for one in found if one.check == "state-not-registered"] == told


def test_names_in_skip_are_those_of_the_list() -> None:
    with pytest.raises(ConfigError, match="'leak' came; expected names of checks; did you mean target-leak"):
        nw.check("sklearn:iris", skip=["leak"])
    assert nw.check("sklearn:iris", layers=TWICE, skip="activation-before-loss").findings == ()
    assert nw.check("sklearn:iris", layers=TWICE, skip=[ALL]).findings == ()
    assert len(set(CHECKS)) == len(CHECKS) == len(FAMILY_OF)


def test_every_check_stands_on_its_page_and_in_the_code() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "checks.md").read_text()
    code = "".join(
        path.read_text() for folder in ("checks", "pipeline") for path in (root / "src/netwright" / folder).glob("*.py")
    )
    assert [slug for slug in CHECKS if f"`{slug}`" not in page] == []
    assert [slug for slug in CHECKS if f'"{slug}"' not in code] == []


def test_layers_in_a_list_that_rest_are_told_as_not_saved() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = [nn.Linear(4, 16).requires_grad_(False)]
            self.head = nn.Linear(16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.encoder[0](x)))  # type: ignore[no-any-return]

    (found,) = [
        one for one in nw.check(load_iris(return_X_y=True), model=Frozen()).findings if one.check == "unregistered-layers"
    ]
    assert found.severity == "warning"
    assert "they are not saved or moved to a GPU, and are others when the network is loaded again" in found.why


def test_classes_in_a_column_each_are_no_amounts(tmp_path: Path) -> None:
    X, y = load_iris(return_X_y=True)
    told = r"every train row has one 1 and else 0 in 3 columns, .* MSELoss\(\) reads them as amounts; .*argmax"
    with pytest.warns(nw.FindingWarning, match=told):
        nw.train((X, np.eye(3)[y]), layers=["Linear()"], epochs=1, test=False, run_dir=tmp_path / "run")
    for target in (np.eye(3)[y] * 2, np.eye(3)[y][:, :2]):
        found = nw.check((X, target), layers=["Linear()"])
        assert "classes-as-numbers" not in {one.check for one in found.findings}
