"""Several seeds: one ordinary run per seed on one split, figures over them, going on after a stop, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from torch import Tensor, nn

import netwright as nw
from netwright.cli import main
from netwright.errors import CheckpointError, ConfigError, FolderInUseError
from netwright.lifecycle.run import load_run
from netwright.pipeline.telling import Told
from netwright.runfolder.folder import summary_of

SHORT = {"layers": ["Linear(8)", "ReLU()", "Linear()"], "epochs": 2}


def weights_of(run: Path) -> bytes:
    return (run / "model" / "best.safetensors").read_bytes()


def test_every_seed_is_the_run_of_that_seed_on_the_same_split(tmp_path: Path) -> None:
    told: list[object] = []
    found = nw.repeat("sklearn:iris", seeds=3, seed=4, run_dir=tmp_path / "s", observers=[told.append], **SHORT)
    assert [run.name for run in found.runs] == ["seed-4", "seed-5", "seed-6"]
    splits = [np.load(run / "split.npz")["test"].tolist() for run in found.runs]
    assert splits[0] == splits[1] == splits[2]
    assert len({weights_of(run) for run in found.runs}) == 3
    alone = nw.train("sklearn:iris", seed=5, run_dir=tmp_path / "alone", **SHORT)
    assert weights_of(alone.folder) == weights_of(found.runs[1])
    assert all(isinstance(record, Told) for record in told)
    assert [str(record).partition(":")[0] for record in told][-3:] == [f"seed {4 + k} ({k + 1} of 3)" for k in range(3)]


def test_the_figures_are_those_of_the_runs_with_the_interval_of_student(tmp_path: Path) -> None:
    found = nw.repeat("sklearn:wine", seeds=3, run_dir=tmp_path / "s", **SHORT)
    values = [nw.load(run).tested["metrics"]["loss"]["value"] for run in found.runs]  # type: ignore[index]
    figure = found.figures["loss"]
    assert figure.values == tuple(values)
    assert (figure.mean, figure.deviation) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (figure.low, figure.high) == pytest.approx(tuple(interval))
    written = json.loads((tmp_path / "s" / "seeds.json").read_text())
    assert written["seeds"] == [0, 1, 2]
    assert written["interval"] == "95 % t-interval of the mean over the seeds"
    assert written["figures"]["loss"]["values"] == values
    assert "3 seeds, test figures" in str(found)


def test_the_difference_from_a_baseline_is_paired_by_seed(tmp_path: Path) -> None:
    found = nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "s", **SHORT)
    for place, run in enumerate(found.runs):
        test = json.loads((run / "test.json").read_text())
        base = {"metrics": {"accuracy": 0.5 + place / 10}, "seconds": 0.1, "note": "none"}
        test["baselines"] = {"linear": base, "persistence": {"accuracy": 0.25}}
        (run / "test.json").write_text(json.dumps(test))
    again = nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "s", **SHORT)
    accuracies = found.figures["accuracy"].values
    expected = (accuracies[0] - 0.5, accuracies[1] - 0.6)
    assert again.differences["linear"]["accuracy"].values == pytest.approx(expected)
    assert again.differences["persistence"]["accuracy"].mean == pytest.approx(found.figures["accuracy"].mean - 0.25)
    assert "accuracy - linear" in str(again)


def test_without_a_test_the_figures_are_those_of_valid_rows_and_a_later_test_is_made(tmp_path: Path) -> None:
    found = nw.repeat("sklearn:iris", seeds=2, test=False, run_dir=tmp_path / "s", **SHORT)
    assert found.of == "valid"
    assert set(found.figures) == {"valid_loss", "valid_accuracy"}
    assert "these figures flatter" in str(found)
    best = [nw.load(run).record["best"]["value"] for run in found.runs]
    assert found.figures["valid_loss"].values == pytest.approx(best)
    assert not (found.runs[0] / "test.json").exists()
    before = weights_of(found.runs[0])
    tested = nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "s", **SHORT)
    assert tested.of == "test"
    assert weights_of(found.runs[0]) == before


def test_finished_seeds_are_kept_more_are_added_and_other_settings_refused(tmp_path: Path) -> None:
    first = nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "s", **SHORT)
    before = first.runs[0].joinpath("run.json").read_bytes()
    shutil.rmtree(first.runs[1])
    again = nw.repeat("sklearn:iris", seeds=3, run_dir=tmp_path / "s", **SHORT)
    assert again.figures["loss"].values[:2] == first.figures["loss"].values
    assert first.runs[0].joinpath("run.json").read_bytes() == before
    with pytest.raises(CheckpointError, match="seed-0: a run of other settings or data"):
        nw.repeat("sklearn:iris", seeds=3, run_dir=tmp_path / "s", **{**SHORT, "epochs": 3})
    with pytest.raises(FolderInUseError, match="exists already and holds no seeds"):
        nw.repeat("sklearn:iris", seeds=2, run_dir=first.runs[0], **SHORT)


def test_a_test_of_the_mean_stays_with_its_members_and_goes_when_there_are_more(tmp_path: Path) -> None:
    folder = nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "s", **SHORT).folder
    assert nw.load(folder).test()["weights"] == "mean of 2 networks"
    nw.repeat("sklearn:iris", seeds=2, run_dir=folder, **SHORT)
    assert nw.load(folder).tested is not None
    nw.repeat("sklearn:iris", seeds=3, run_dir=folder, **SHORT)
    assert nw.load(folder).tested is None
    assert not [name for name in ("predictions.csv", "report.html") if (folder / name).exists()]


def test_a_test_of_the_mean_goes_when_one_of_its_members_trains_on_alone(tmp_path: Path) -> None:
    done = nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "s", **SHORT)
    nw.load(done.folder).test()
    other = nw.load(done.runs[1]).tested
    nw.resume(done.runs[0])  # nothing is left to do
    assert nw.load(done.folder).tested is not None
    nw.resume(done.runs[0], settings=["training.epochs=9"])
    assert nw.load(done.folder).tested is None
    assert not [name for name in ("predictions.csv", "report.html") if (done.folder / name).exists()]
    assert nw.load(done.runs[0]).tested is not None  # of its new weights
    assert nw.load(done.runs[1]).tested == other


def test_a_run_is_a_member_of_a_folder_of_seeds_where_its_summary_names_it(tmp_path: Path) -> None:
    done = nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "s", **SHORT)
    summary = done.folder / "seeds.json"
    assert [summary_of(done.folder / name) for name in ("seed-0", "seed-2", "none/seed-0")] == [summary, None, None]
    summary.write_text("{")
    assert summary_of(done.runs[0]) is None


def test_figures_over_seeds_are_worked_out_again_when_one_of_them_trains_on_alone(tmp_path: Path) -> None:
    done = nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "s", **SHORT)
    other = nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "t", **SHORT)
    said: list[str] = []
    seen: list[dict[str, object]] = []

    def listen(record: object) -> None:
        said.append(str(record))
        seen.append(json.loads((done.folder / "seeds.json").read_text())["figures"])

    nw.resume(done.runs[0], settings=["training.epochs=9"], observers=[listen])
    assert seen[-3] == {}  # while it trains
    assert said[-1].startswith("the figures over the 2 seeds of")
    assert "are of unlike runs: training.epochs is 9 (seed-0), " in said[-2]
    values = [nw.load(run).tested["metrics"]["loss"]["value"] for run in done.runs]  # type: ignore[index]
    assert values[0] != done.figures["loss"].values[0]
    told = json.loads((done.folder / "seeds.json").read_text())
    assert told["figures"]["loss"]["values"] == values
    compared = nw.compare(done.folder, other.folder).figures["accuracy"][0]
    assert nw.runs(tmp_path)[0]["test"]["accuracy"] == compared == told["figures"]["accuracy"]["mean"]
    before = len(said)
    nw.resume(done.runs[0], observers=[listen])
    assert not any("worked out again" in text for text in said[before:])


def test_figures_over_seeds_wait_for_all_of_them_and_the_line_says_what_renews_them(tmp_path: Path) -> None:
    done = nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "s", **SHORT)
    (record := done.runs[1] / "run.json").write_text(json.dumps({**json.loads(record.read_text()), "status": "stopped"}))
    said: list[str] = []
    nw.resume(done.runs[0], settings=["training.epochs=4"], observers=[lambda record: said.append(str(record))])
    assert said[-1].endswith("seed-1, which is not done")
    assert (nw.runs(tmp_path)[0]["status"], nw.runs(tmp_path)[0]["test"]) == ("unfinished", {})
    for use in (lambda: nw.compare(done.folder, done.runs[0]), lambda: nw.load(done.folder)):
        with pytest.raises(CheckpointError, match=r"1 of its 2 seeds are done; .*go on with netwright resume .*seed-1"):
            use()
    record.write_text(json.dumps({**json.loads(record.read_text()), "status": "done"}))
    with pytest.raises(CheckpointError, match=r"no figures of the weights .*repeat the command .*netwright resume .*seed-0"):
        nw.compare(done.folder, done.runs[0])
    nw.resume(done.runs[0])
    assert nw.compare(done.folder, done.runs[0]).figures


class Stopped(nn.Module):
    """A network that asks the process to end while it trains, once."""

    asked = False

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(4, outputs)
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        self.steps += self.training
        if self.steps == 5 and not Stopped.asked:
            Stopped.asked = True
            os.kill(os.getpid(), signal.SIGTERM)
        return self.layer(x)


def test_a_signal_stops_cleanly_and_the_same_call_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stopped, "asked", False)
    model = (Stopped, {"outputs": 3})
    said: list[str] = []
    listen = [lambda record: said.append(str(record))]
    stopped = nw.repeat("sklearn:iris", seeds=2, model=model, epochs=5, run_dir=tmp_path / "s", observers=listen)
    assert (stopped.signal, [run.name for run in stopped.runs]) == (signal.SIGTERM, ["seed-0"])
    assert not any("to go on" in text for text in said)
    assert str(stopped).count("to go on") == 1
    assert nw.runs(tmp_path)[0]["status"] == "unfinished"
    with pytest.raises(CheckpointError, match="0 of its 2 seeds are done; expected all; repeat the command"):
        nw.compare(tmp_path / "s", stopped.runs[0])
    done = nw.repeat("sklearn:iris", seeds=2, model=model, epochs=5, run_dir=tmp_path / "s")
    assert done.signal is None
    straight = nw.repeat("sklearn:iris", seeds=2, model=model, epochs=5, run_dir=tmp_path / "straight")
    assert [weights_of(run) for run in done.runs] == [weights_of(run) for run in straight.runs]


def test_a_module_begins_each_seed_with_its_own_weights_and_that_is_said(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 3))
    before = module[0].weight.detach().clone()
    told: list[object] = []
    nw.repeat("sklearn:iris", seeds=2, model=module, epochs=1, run_dir=tmp_path / "s", observers=[told.append])
    assert (module[0].weight == before).all()
    assert any("model=(Class, arguments) draws new weights" in str(record) for record in told)


def test_looks_of_seeds_are_counted_beside_their_folder(tmp_path: Path) -> None:
    nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "s", **SHORT)
    run = nw.train("sklearn:iris", run_dir=tmp_path / "one", **SHORT)
    assert run.tested is not None
    assert run.tested["looks"] == 3
    assert not (tmp_path / "s" / "looks.jsonl").exists()


def test_a_folder_of_seeds_is_listed_as_one_and_is_no_run(tmp_path: Path) -> None:
    found = nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "s", **SHORT)
    nw.train("sklearn:iris", run_dir=tmp_path / "one", **SHORT)
    listed = {Path(entry["run"]).name: entry for entry in nw.runs(tmp_path)}
    assert set(listed) == {"s", "one"}
    assert (listed["s"]["runs"], listed["s"]["status"]) == (2, "done")
    assert listed["s"]["test"]["accuracy"] == found.figures["accuracy"].mean
    assert [Path(entry["run"]).name for entry in nw.runs(tmp_path / "s")] == ["seed-0", "seed-1"]
    with pytest.raises(
        CheckpointError, match=r"no run but a folder of 2; expected one run; name one of them, such as .*seed-1"
    ):
        load_run(tmp_path / "s")


@pytest.mark.parametrize(
    ("seeds", "said"), [(1, "1 came; expected 2 or more"), (0, "0 came"), ("5", "'5' came; expected how")]
)
def test_too_few_seeds_are_refused(seeds: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        nw.repeat("sklearn:iris", seeds=seeds, run_dir=tmp_path / "s")  # type: ignore[arg-type]
    assert not (tmp_path / "s").exists()


def test_the_command_ends_with_the_folder_and_json_is_one_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "sklearn:diabetes", "--seeds", "2", "--run-dir", "s", "--set", "training.epochs=1"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "s"
    assert sum(line.startswith("seed ") for line in lines) == 2
    with pytest.raises(SystemExit):
        main([*words, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["runs"] == ["seed-0", "seed-1"]
    assert set(found["figures"]["rmse"]) == {"mean", "deviation", "low", "high", "values"}
    with pytest.raises(SystemExit) as ended:
        main(["runs", "."])
    assert "done, 2 runs" in capsys.readouterr().out
    for wrong in ("1", "0", "-3"):
        with pytest.raises(SystemExit) as ended:
            main(["train", "sklearn:diabetes", "--seeds", wrong])
        assert ended.value.code == 2
        assert f"--seeds {wrong}: expected 2 or more" in capsys.readouterr().err


def test_a_member_is_known_by_a_link_to_it_and_figures_wait_for_one_that_is_not_tested(tmp_path: Path) -> None:
    done = nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "s", **SHORT)
    (tmp_path / "link").symlink_to(done.runs[0], target_is_directory=True)
    summary = done.folder / "seeds.json"
    assert summary_of(tmp_path / "link") == summary
    assert summary_of(done.runs[0] / "model" / "..") == summary
    tested = json.loads(summary.read_text())["of"]
    (done.runs[1] / "test.json").unlink()
    told: list[str] = []
    nw.resume(tmp_path / "link", settings=["training.epochs=9"], observers=[lambda event: told.append(str(event))])
    assert json.loads(summary.read_text())["figures"] == {}
    with pytest.raises(CheckpointError, match=r"seed-1 is not tested; go on with netwright resume .*seed-1"):
        nw.load(done.folder)
    nw.resume(done.runs[1])
    renewed = json.loads(summary.read_text())
    assert (renewed["of"], bool(renewed["figures"])) == (tested, True)


def test_a_summary_that_cannot_be_worked_out_again_leaves_the_run_well(tmp_path: Path) -> None:
    done = nw.repeat("sklearn:iris", seeds=2, run_dir=tmp_path / "s", **SHORT)
    (done.runs[1] / "test.json").write_text("[]")
    assert nw.resume(done.runs[0], settings=["training.epochs=9"]).record["status"] == "done"
