"""A run watched while it is written: what is read, torn lines, lines without a terminal, the page and who may read it."""

from __future__ import annotations

import http.client
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import netwright as nw
from netwright import files
from netwright.cli import main
from netwright.errors import CheckpointError, ConfigError
from netwright.runfolder import broadcasting
from netwright.runfolder.broadcasting import Broadcast
from netwright.runfolder.watching import epoch_line, frame, headline, read_state

SMALL = {"layers": ["Linear(8)", "ReLU()", "Linear()"], "epochs": 4}
HEAD = "epoch,step,train_loss,valid_loss,valid_accuracy,learning_rate,train_seconds,valid_seconds\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nw.train("sklearn:iris", run_dir=tmp_path_factory.mktemp("watch") / "run", **SMALL).folder


@pytest.fixture
def going(tmp_path: Path) -> Iterator[Path]:
    """A run of 10 epochs in its second one, whose lock this process holds."""
    folder = tmp_path / "going"
    folder.mkdir()
    (folder / "config.toml").write_text("[training]\nepochs = 10\n[training.early_stopping]\nmonitor = 'valid_loss'\n")
    record = {"name": "digits <b>", "status": "running", "notes": ["a note <script>"], "why": None}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "history.csv").write_text(HEAD + "1,20,0.9,0.8,0.5,0.001,2.0,0.5\n2,40,0.7,0.6,0.75,0.001,2.0,0.5\n")
    (folder / "steps.jsonl").write_text("".join(f'{{"step": {k}, "epoch": 1, "loss": 1.0}}\n' for k in range(1, 46)))
    lock = files.Lock(folder)
    yield folder
    lock.release()


def test_progress_rate_and_time_left_are_worked_out(going: Path) -> None:
    state = read_state(going)
    assert (state.status, state.over, state.epoch, state.of_epochs, state.step) == ("running", False, 2, 10, 45)
    assert state.rate == pytest.approx(10.0)
    assert (state.left, state.at_most) == (pytest.approx(8 * 2.5), True)
    assert state.best == (2, "valid_loss", 0.6)
    assert headline(state) == "epoch 2 of 10 · step 45 · 10 steps/s · 20.0 s left at most"
    assert epoch_line(state, 0) == "epoch 1/10  train_loss 0.9  valid_loss 0.8  valid_accuracy 0.5  2.50 s"
    assert epoch_line(state, 1).endswith("2.50 s  *")


@pytest.mark.parametrize("torn", ["3", "3,60,0.5,0.4,0.8,0.001,2.0,0.", "3,60,0.5,0.4,0.8,0.001,2.0,0.5"])
def test_lines_that_are_not_whole_yet_are_left_out(torn: str, going: Path) -> None:
    with (going / "history.csv").open("a") as stream:
        stream.write(torn)
    with (going / "steps.jsonl").open("a") as stream:
        stream.write('{"step": 46, "ep')
    assert (read_state(going).epoch, read_state(going).step) == (2, 45)
    with (going / "history.csv").open("a") as stream:
        stream.write("\n")
    assert read_state(going).epoch == (3 if torn.count(",") == 7 else 2)


def test_files_that_are_not_there_yet_or_damaged_are_no_error(going: Path) -> None:
    for name in ("history.csv", "steps.jsonl", "config.toml"):
        (going / name).unlink()
    (going / "test.json").write_text("{")
    state = read_state(going)
    assert (state.epoch, state.step, state.of_epochs, state.left, state.test) == (0, 0, None, None, {})
    assert any("no epoch has finished yet" in text for line in frame(state, 80, 20) for text, _ in line)


def test_a_run_that_nobody_writes_any_more_is_interrupted(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"status": "running"}))
    state = read_state(tmp_path)
    assert (state.status, state.over) == ("interrupted", True)
    lock = files.Lock(finished)
    assert read_state(finished).status == "testing"
    lock.release()
    assert read_state(finished).status == "done"


def test_a_folder_that_is_no_run_names_what_to_watch(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"no run but a folder of \d+; .*such as {finished}"):
        read_state(finished.parent)
    with pytest.raises(CheckpointError, match="netwright runs lists them"):
        read_state(tmp_path / "nothing")


def test_a_frame_draws_both_losses_and_the_last_remarks(going: Path) -> None:
    lines = frame(read_state(going), 60, 16)
    texts = ["".join(text for text, _ in line) for line in lines]
    assert texts[0] == "digits <b>  running"
    assert any("train_loss 0.7" in text and "valid_loss 0.6" in text for text in texts)
    assert any("⠉" in text or "⡀" in text or "⠑" in text for text in texts)
    assert {style for line in lines for _, style in line} >= {"cyan", "yellow"}
    assert "note: a note <script>" in texts
    assert all(len(text) <= 60 for text in texts)


def test_the_page_holds_numbers_that_json_knows(going: Path) -> None:
    (going / "history.csv").write_text(HEAD + "".join(f"{k},{k},nan,inf,0.5,0.001,1,1\n" for k in range(1, 5001)))
    told = json.loads(json.dumps(read_state(going).to_json(), allow_nan=False))
    assert told["columns"]["train_loss"][0] is None
    assert len(told["columns"]["epoch"]) < 2002
    assert told["columns"]["epoch"][-1] == 5000


def ask(address: str, path: str = "/", host: str | None = None, method: str = "GET") -> http.client.HTTPResponse:
    place = urlsplit(address)
    connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=10)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def test_the_page_is_served_to_its_own_address_only(finished: Path) -> None:
    broadcast = Broadcast(finished)
    try:
        assert broadcast.address.startswith("http://127.0.0.1:")
        port = urlsplit(broadcast.address).port
        page = ask(broadcast.address)
        assert page.status == 200
        assert b"http://" not in page.body.replace(b"http://www.w3.org/2000/svg", b"")  # type: ignore[attr-defined]
        assert "default-src 'none'" in str(page.getheader("Content-Security-Policy"))
        state = json.loads(ask(broadcast.address, "/state.json").body)  # type: ignore[attr-defined]
        assert (state["status"], state["over"], len(state["columns"]["train_loss"])) == ("done", True, 4)
        assert ask(broadcast.address, host=f"localhost:{port}").status == 200
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", ""):
            assert ask(broadcast.address, "/state.json", host).status == 421
        for path in ("/run.json", "/state.json/x", "/../run.json", "/%2e%2e/run.json"):
            assert ask(broadcast.address, path).status == 404
        assert ask(broadcast.address, method="POST").status == 501
        with pytest.raises(ConfigError, match=f"--port {port}: .*in use"):
            Broadcast(finished, port or 0)
    finally:
        broadcast.close()


def test_the_page_ends_with_the_run_once_its_end_was_fetched(going: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcasting, "POLL", 0.01)
    monkeypatch.setattr(broadcasting, "FAREWELL", 60.0)
    broadcast = Broadcast(going)
    try:
        assert not json.loads(ask(broadcast.address, "/state.json").body)["over"]  # type: ignore[attr-defined]
        (going / "run.json").write_text(json.dumps({"status": "stopped"}))
        assert json.loads(ask(broadcast.address, "/state.json").body)["over"]  # type: ignore[attr-defined]
        begun = time.monotonic()
        broadcast.wait(keep=False)
        assert time.monotonic() - begun < 30
    finally:
        broadcast.close()


def test_the_command_prints_epochs_and_the_end_where_no_terminal_is(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["watch", str(finished)])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:4]] == ["1/4", "2/4", "3/4", "4/4"]
    assert lines[4] == "done: 4 epochs done"
    assert lines[5].startswith("test: loss ")
    with pytest.raises(SystemExit):
        main(["watch", str(finished), "--json"])
    assert json.loads(capsys.readouterr().out)["status"] == "done"
    with pytest.raises(SystemExit) as ended:
        main(["watch", str(finished.parent)])
    assert ended.value.code == 4


def test_a_run_of_another_process_is_followed_to_its_end(tmp_path: Path) -> None:
    small = ["--set", 'model.layers=["Flatten()", "Linear(32)", "ReLU()", "Linear()"]', "--set", "training.epochs=60"]
    train = [sys.executable, "-m", "netwright", "train", "sklearn:digits", "--run-dir", "run", *small]
    with subprocess.Popen(train, cwd=tmp_path, stdout=subprocess.DEVNULL) as training:
        while not (tmp_path / "run" / "run.json").exists():
            assert training.poll() is None
            time.sleep(0.05)
        watch = subprocess.run(
            [sys.executable, "-m", "netwright", "watch", "run"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        training.wait()
    lines = watch.stdout.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("epoch")] == [f"{k}/60" for k in range(1, 61)]
    assert lines[-2] == "done: 60 epochs done"
    assert lines[-1].startswith("test: loss ")


def test_a_terminal_gets_curves_and_ctrl_c_leaves_quietly(going: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm"
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
        os.execv(sys.executable, [sys.executable, "-m", "netwright", "watch", str(going)])
    seen = ""
    while "⠉" not in seen and "⠑" not in seen:
        seen += os.read(terminal, 65536).decode("utf-8", "replace")
    os.kill(child, signal.SIGINT)
    try:
        while part := os.read(terminal, 65536):
            seen += part.decode("utf-8", "replace")
    except OSError:  # the terminal is closed
        seen += ""
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert "epoch 2 of 10" in seen
    assert "error" not in seen
    assert "Traceback" not in seen


def test_watching_needs_neither_torch_nor_numpy(finished: Path) -> None:
    code = (
        "import sys\nfrom netwright.cli import main\ntry:\n    main(['watch', sys.argv[1]])\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *{'torch', 'numpy', 'scipy', 'matplotlib', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(finished)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"
