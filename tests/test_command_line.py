"""The commands as a person types them: what they print, where they write, how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from netwright.cli import cli, main
from netwright.data.column import Column

Script = Callable[[str], ModuleType]

ROOT = Path(__file__).parent.parent
SHORT = ["--set", "training.epochs=2"]


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process and return exit code, stdout and stderr."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def houses(path: Path, rows: int = 80) -> Path:
    generator = np.random.default_rng(2)
    area = generator.uniform(40, 200, rows)
    town = generator.choice(["Ulm", "Köln", 'a "b", c'], rows)
    pa.csv.write_csv(pa.table({"area": area, "town": town, "price": area * 2.5 + (town == "Ulm") * 30}), path)
    return path


def test_the_help_is_as_it_was(script: Script) -> None:
    tool = script("tools/help_snapshot.py")
    assert tool.render() == tool.SNAPSHOT.read_text(encoding="utf-8")


def test_training_a_data_file_ends_with_the_run_folder_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    houses(folder / "houses.csv")
    code, out, err = command(capsys, "train", "houses.csv", "--target", "price", *SHORT)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    run = Path(lines[-1])
    assert run.parent == Path("runs")
    assert (run / "report.html").is_file()
    assert lines[-2] == f"report: {run / 'report.html'}"
    assert "  number: area" in lines
    assert "  category: town (3)" in lines
    assert "split: 48 train, 16 valid, 16 test (random)" in lines
    assert sum(line.startswith("epoch ") for line in lines) == 2
    assert any(line.startswith("test: 16 rows, weights best") for line in lines)


def test_json_is_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, "train", "sklearn:iris", "--run-dir", "one", "--json", *SHORT)
    found = json.loads(out)
    assert code == 0
    assert found["run"] == "one"
    assert found["test"] == json.loads((folder / "one" / "test.json").read_text())
    code, out, _ = command(capsys, "test", "one", "--json")
    assert json.loads(out)["looks"] == 2
    code, out, _ = command(capsys, "show", "one", "--json")
    assert json.loads(out)["parameters"] == json.loads((folder / "one" / "run.json").read_text())["model"]["parameters"]
    code, out, _ = command(capsys, "runs", ".", "--json")
    assert [entry["run"] for entry in json.loads(out)["runs"]] == ["one"]


def test_predictions_stand_in_input_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pa.csv.read_csv(houses(folder / "houses.csv"))
    command(capsys, "train", "houses.csv", "--target", "price", "--run-dir", "one", "--set", "training.epochs=30")
    pa.csv.write_csv(table.take(list(range(79, -1, -1))).drop_columns(["price"]), folder / "back.csv")
    for name in ("houses.csv", "back.csv"):
        code, out, err = command(capsys, "predict", "one", name, "-o", f"{name}.out.csv")
        assert (code, out, err) == (0, f"{name}.out.csv\n", "")
    forward = pa.csv.read_csv(folder / "houses.csv.out.csv")["prediction"].to_pylist()
    backward = pa.csv.read_csv(folder / "back.csv.out.csv")["prediction"].to_pylist()
    assert forward == backward[::-1]
    assert len(forward) == 80
    code, out, _ = command(capsys, "predict", "one", "houses.csv", "-o", "out.parquet")
    assert pa.parquet.read_table(folder / "out.parquet")["prediction"].to_pylist() == forward
    code, out, _ = command(capsys, "predict", "one", "houses.csv")
    assert [float(line) for line in out.splitlines()[1:]] == forward


def test_unseen_categories_and_unused_columns_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    houses(folder / "houses.csv")
    command(capsys, "train", "houses.csv", "--target", "price", "--run-dir", "one", *SHORT)
    (folder / "new.csv").write_text("note,town,area\nx,Ulm,50\ny,Bonn,60\n")
    code, out, err = command(capsys, "predict", "one", "new.csv")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert "column 'town': a category not seen in training in 1 cell" in err
    assert "columns not used: 'note'" in err


def test_other_values_of_a_column_that_was_constant_in_training_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{place % 11 / 7},5.1,no,2024-01-31,{place % 11}" for place in range(80)]
    (folder / "t.csv").write_text("\n".join(["a,unit,new,day,y", *lines]))
    layers = "--set", 'model.layers=["Linear(4)","ReLU()","Linear()"]'
    command(
        capsys, "train", "t.csv", "--target", "y", "--run-dir", "one", *SHORT, *layers, "--set", 'data.task="regression"'
    )
    rows = ["a,unit,new,day", "1,5.1,no,2024-01-31", "1,5100,yes,2024-02-01", "1,5.0,no,2024-01-31", "1,,,"]
    (folder / "new.csv").write_text("\n".join(rows))
    _, _, err = command(capsys, "predict", "one", "new.csv")
    assert (
        "column 'unit': another value than 5.1, the only one in training, in 2 cells; the network has learned nothing" in err
    )
    assert "column 'new': another value than false, the only one in training, in 1 cell" in err
    assert "column 'day': another value than 2024-01-31, the only one in training, in 1 cell" in err
    frame = pa.table({"unit": pa.array([5.1, 5.2], pa.float32())})
    assert (
        Column("unit", "number", constant=5.1).unknown(np.asarray(frame["unit"], np.float64)) == 1
    )  # 5.1 in float32 is 5.1
    (folder / "new.csv").write_text("\n".join(rows[:2]))
    assert command(capsys, "predict", "one", "new.csv")[2] == ""


def test_class_predictions_have_labels_and_probabilities(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["a,b,kind", *(f"{place},{place % 7},{'cat' if place % 2 else 'dog'}" for place in range(60))]
    (folder / "pets.csv").write_text("\n".join(rows) + "\n")
    command(capsys, "train", "pets.csv", "--target", "kind", "--run-dir", "one", "--set", 'data.kinds.a="number"', *SHORT)
    _, out, _ = command(capsys, "predict", "one", "pets.csv")
    header, *lines = out.splitlines()
    assert header == "prediction,probability_cat,probability_dog"
    for line in lines:
        label, cat, dog = line.split(",")
        assert float(cat) + float(dog) == pytest.approx(1)
        assert label.strip('"') == ("cat" if float(cat) >= float(dog) else "dog")


def test_a_file_without_header_predicts_with_and_without_the_target(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{place / 10},{place % 5},{place / 5 + 1}" for place in range(60)]
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    setting = 'data.columns=["a", "b", "y"]'
    command(capsys, "train", "train.csv", "--target", "y", "--set", setting, "--run-dir", "one", *SHORT)
    (folder / "new.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    _, with_target, _ = command(capsys, "predict", "one", "train.csv")
    _, without, _ = command(capsys, "predict", "one", "new.csv")
    assert with_target == without
    assert len(without.splitlines()) == 61


def test_show_draws_the_network_and_trains_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = 'model.layers=["Conv2d(4, 3)", "ReLU()", "Flatten()", "Linear()"]'
    code, out, _ = command(capsys, "show", "sklearn:digits", "--set", layers, "--svg", "net.svg")
    assert code == 0
    assert "Conv2d(in_channels=1, out_channels=4, kernel_size=3)" in out
    assert "(N, 4, 6, 6)" in out
    assert "1,490" in out  # 4*9+4 and 144*10+10
    assert ElementTree.parse(folder / "net.svg").getroot().tag.endswith("svg")
    assert {path.name for path in folder.iterdir()} == {"net.svg"}


def test_report_is_drawn_anew(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(capsys, "train", "sklearn:iris", "--run-dir", "one", *SHORT)
    before = (folder / "one" / "report.html").read_bytes()
    (folder / "one" / "report.html").unlink()
    code, out, _ = command(capsys, "report", "one")
    assert (code, out) == (0, "one/report.html\n")
    assert (folder / "one" / "report.html").read_bytes() == before


def test_report_comes_in_four_formats(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(capsys, "train", "sklearn:iris", "--run-dir", "one", *SHORT)
    for form, name, begin in (("markdown", "md", b"# iris"), ("png", "png", b"\x89PNG"), ("latex", "tex", b"% needs ")):
        assert command(capsys, "report", "one", "--format", form) == (0, f"one/report.{name}\n", "")
        assert (folder / "one" / f"report.{name}").read_bytes().startswith(begin)
    code, out, _ = command(capsys, "report", "one", "--format", "markdown", "-o", "-")
    assert (code, out) == (0, (folder / "one" / "report.md").read_text())
    code, out, _ = command(capsys, "report", "one", "-o", "own.html", "--no-rows", "--json")
    assert (code, json.loads(out)) == (0, {"report": "own.html"})
    assert "Single rows of the data are left out" in (folder / "own.html").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "png", "-o", "-"], "-o -: expected a file for a picture; name one, report.png say"),
        (["--json", "-o", "-"], "-o -: expected a file for --json; name one, report.html say"),
        (["--format", "pdf"], "'pdf' is not one of"),
    ],
)
def test_a_report_that_cannot_be_printed_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    code, _, err = command(capsys, "report", "one", *options)
    assert code == 2
    assert words in err
    assert list(folder.iterdir()) == []


def test_no_test_leaves_the_test_for_later(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(capsys, "train", "sklearn:iris", "--run-dir", "one", "--no-test", *SHORT)
    assert not (folder / "looks.jsonl").exists()
    code, out, _ = command(capsys, "test", "one")
    assert code == 0
    assert "1 look at these rows so far" in out


def test_runs_of_an_empty_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "runs").mkdir()
    assert command(capsys, "runs") == (0, "runs: no runs yet\n", "")


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, "schema")
    assert code == 0
    assert set(json.loads(out)["properties"]) == {
        "data",
        "model",
        "training",
        "checkpoint",
        "checks",
        "evaluation",
        "tune",
    }


def test_a_bug_of_ours_is_one_line_and_a_traceback_only_with_debug(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("netwright.verbs.runs", fail)
    code, _, err = command(capsys, "runs")
    assert code == 70
    assert err == "netwright: error: a bug of netwright: ZeroDivisionError: boom; run again with --debug and report it\n"
    code, _, err = command(capsys, "--debug", "runs")
    assert code == 70
    assert "Traceback" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_process_leaves_a_usable_run(number: int, code: int, folder: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "netwright",
            "train",
            "sklearn:digits",
            "--run-dir",
            "one",
            "--set",
            'model.layers=["Flatten()", "Linear()"]',
            "--set",
            "training.epochs=100000",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    history = folder / "one" / "history.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (history.is_file() and len(history.read_text().splitlines()) > 2):
        time.sleep(0.05)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")
    assert out.splitlines()[-1] == "one"
    assert json.loads((folder / "one" / "run.json").read_text())["status"] == "stopped"
    assert {"best.safetensors", "last.safetensors"} <= {path.name for path in (folder / "one" / "model").iterdir()}


def test_a_reader_that_leaves_does_not_end_the_run(folder: Path) -> None:
    command = f"{sys.executable} -m netwright train sklearn:wine --run-dir one --set training.epochs=3 | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((folder / "one" / "run.json").read_text())["status"] == "done"
    assert (folder / "one" / "test.json").is_file()
    assert (folder / "one" / "report.html").is_file()


def test_no_command_writes_over_what_it_reads_or_what_a_run_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command(capsys, "train", "sklearn:iris", "--set", "training.epochs=1", "--run-dir", "run")
    (tmp_path / "new.csv").write_text(
        "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)\n5.1,3.5,1.4,0.2\n"
    )
    (tmp_path / "mine.csv").write_text("mine")
    kept = {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    for words, told in (
        ("predict run new.csv -o new.csv", "it is read here"),
        ("predict run new.csv -o run/predictions.csv", "a file of the run"),
        ("predict run new.csv -o nowhere/p.csv", "no such folder"),
        ("report run -o mine.csv", "ends in .html"),
        ("report run --format markdown -o run/config.md", ""),
        ("eject run -o mine.csv", "ends in .py"),
        ("resume run --set training.optimizer.lr=0.5", "would change nothing"),
    ):
        code, out, err = command(capsys, *words.split())
        assert code == (2 if told else 0), words
        assert told in err
    assert {path: path.read_bytes() for path in kept} == kept
    assert (tmp_path / "mine.csv").read_text() == "mine"
    assert command(capsys, "check", "run")[0] == 0
    assert (
        command(capsys, "predict", "run", "new.csv", "-o", "p.csv")[0]
        == command(capsys, "predict", "run", "new.csv", "-o", "p.csv")[0]
        == 0
    )


def test_counts_of_one_are_worded_as_one_and_so_few_rows_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "three.csv").write_text("a,y\n1,3.5\n2,4.5\n3,6.25\n")
    short = ("--set", "training.epochs=1", "--set", "training.threads=1")
    code, out, _ = command(capsys, "train", "three.csv", "--target", "y", "--run-dir", "run", *short)
    assert code == 0
    assert "1 row to learn from" in out
    for told in (
        "three.csv, 3 rows",
        "training: 1 epoch, batches of 1",
        "1 thread",
        "only 1 test row:",
        "1 epoch done",
        "test: 1 row,",
    ):
        assert told in out
    assert re.findall(r"(?<![\d,.])1 \w+s\b(?! of)", out) == []
    assert "(s)" not in out
    code, _, err = command(capsys, "train", "three.csv", "--target", "y", "--run-dir", "strict", "--strict", *short)
    assert (code, "few-rows" in err, (folder / "strict").exists()) == (3, True, False)


def test_large_and_small_figures_are_written_without_an_exponent(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["a,y", *(f"{row % 17}.5,{row * 9000 + 100000}" for row in range(60))]
    (folder / "large.csv").write_text("\n".join(lines) + "\n")
    code, out, _ = command(capsys, "train", "large.csv", "--target", "y", *SHORT)
    assert code == 0
    assert re.search(r"rmse +\d{2,3},\d{3} ", out)
    assert re.findall(r"\d(?:\.\d+)?e[+]0\d", out) == []


NO_RUN = "netwright: error: nowhere: no run (run.json: No such file or directory); expected a run folder; netwright runs lists them"
OF_RUNS = (
    "report",
    "resume",
    "watch",
    "test",
    "compare",
    "eject",
    "explain",
    "export",
    "verify resume",
    "verify eject",
    "replay",
)


@pytest.mark.parametrize("words", OF_RUNS)
def test_a_folder_that_is_no_run_is_told_in_the_same_words_everywhere(
    words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["elsewhere"] if words == "compare" else ["-o", "out.py"] if words == "eject" else []
    code, _, err = command(capsys, *words.split(), "nowhere", *more)
    assert (code, err.strip()) == (4, NO_RUN)
    (folder / "several" / "one").mkdir(parents=True)
    (folder / "several" / "one" / "run.json").write_text("{}")
    code, _, err = command(capsys, *words.split(), "several", *more)
    assert code == 4
    inside = Path("several") / "one"
    assert err.strip() == (
        f"netwright: error: several: no run but a folder of 1; expected one run; name one of them, such as {inside}"
    )


def test_options_of_tune_have_the_names_of_their_settings() -> None:
    from netwright.config.tune_schema import TuneConfig

    named = {str(option.name) for option in cli.commands["tune"].params}
    assert {"trials", "processes"} <= named & set(TuneConfig.model_fields)
    assert "workers" not in named


@pytest.mark.parametrize(
    ("before", "call", "frozen"),
    [
        ("", "main()", True),
        ("sys.modules['netwright_code_my_net'] = sys", "main()", False),  # own code may have left a file open
        ("", "main(['schema'])", False),  # the process is a program of others
    ],
)
def test_a_process_of_the_command_line_ends_without_a_look_for_circles(before: str, call: str, frozen: bool) -> None:
    script = f"""
import atexit, gc, sys
atexit.register(lambda: print("frozen" if gc.get_freeze_count() else "free", file=sys.stderr))
sys.argv = ["netwright", "schema"]
{before}
from netwright.cli import main
{call}
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ("frozen\n" if frozen else "free\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device without room is of Linux")
def test_an_output_without_room_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "netwright", "show", "sklearn:iris"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 6
    assert done.stderr.startswith("netwright: error: no room where the output goes (No space left on device); make room")
