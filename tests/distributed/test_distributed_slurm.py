"""Jobs for SLURM, with programs that stand for sbatch, srun, scontrol and scancel and write down how they were called."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

import netwright
from netwright.cli import main
from netwright.config.site import Site, read_site
from netwright.distributed.ending import after
from netwright.distributed.slurm import Wanted, Work, first_host, place, render
from netwright.errors import ConfigError
from netwright.files import Worker

PROGRAMS = {  # each writes a line into calls.txt
    "sbatch": 'echo "sbatch $*" >> "$CALLS"; if [[ -n ${REFUSAL:-} ]]; then echo "$REFUSAL" >&2; exit 1; fi; echo 4711',
    "srun": 'echo "srun" >> "$CALLS"; SLURM_NODEID=0 "$@"; exit 1',  # 1 whatever happened
    "scontrol": 'echo "scontrol $*" >> "$CALLS"; if [[ $1 == show ]]; then printf "node1\\nnode2\\n"; fi',
    "scancel": 'echo "scancel $*" >> "$CALLS"; kill -TERM "$(cat "$CALLS.pid")"',
    # what stands before python in a job: plays torchrun or a search as SCENE says, and lets slurm-end be itself
    "container": """
if [[ "$*" == *slurm-end* ]]; then shift; exec "$REAL" "$@"; fi
echo "ran $*" >> "$CALLS"
record() { mkdir -p "$RUN"; echo "$1" > "$RUN/${RECORD:-run.json}"; }
case $SCENE in
  until-warned)
    record '{"status": "running"}'; echo $$ > "$CALLS.pid"
    trap 'sleep 0.2; echo committed >> "$CALLS"; record "{\\"status\\": \\"stopped\\", \\"signal\\": 15}"; exit ${ENDS:-0}' TERM
    while true; do sleep 0.02; done ;;
  *) if [[ -n $SCENE ]]; then record "$SCENE"; fi
     if [[ "$*" == *--run-dir* ]]; then exit "${BEGINS:-${ENDS:-1}}"; fi
     exit "${ENDS:-1}" ;;
esac
""",
}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a config, the programs on the PATH, and calls.txt."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls.txt"))
    monkeypatch.setenv("PYTHONPATH", str(Path(netwright.__file__).parent.parent))
    monkeypatch.chdir(tmp_path)
    space = '[tune.space]\n"training.optimizer.lr" = "log 1e-3..1e-1"\n'
    (tmp_path / "digits.toml").write_text(f'[data]\nsource = "sklearn:digits"\n{space}')
    (tmp_path / "site.toml").write_text(f'container = ["{programs / "container"}"]\npython = "python"\n')
    return tmp_path


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(words)
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def job(cluster: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Path:
    """Submit a job to the programs, and return its script."""
    code, out, err = command(capsys, "slurm", "digits.toml", "--site", "site.toml", "--run-dir", "runs/one", *more)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == str(cluster / "runs" / "one")
    return cluster / "runs" / "one.sbatch"


def start(script: Path, scene: str, more: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a job as SLURM would on its first node."""
    told = {"SLURM_JOB_ID": "77", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[1-2]", "SCENE": scene}
    told |= {"RUN": str(script.with_suffix("")), "REAL": sys.executable, **(more or {})}
    return subprocess.Popen(
        ["bash", str(script)], env=os.environ | told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str], cluster: Path) -> tuple[int, str, list[str]]:
    """Return exit code, standard error and calls of a job."""
    _, err = process.communicate(timeout=30)
    calls = (cluster / "calls.txt").read_text().splitlines() if (cluster / "calls.txt").exists() else []
    return process.returncode, err, calls


def tell(process: subprocess.Popen[str], cluster: Path, number: int = signal.SIGUSR1) -> None:
    """Tell a job that its time ends, or another signal, once its processes run."""
    deadline = time.monotonic() + 20
    while not (cluster / "calls.txt.pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)


def test_a_job_is_submitted_and_kept_beside_its_run(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = job(cluster, capsys, "--nodes", "2", "--gpus-per-node", "4", "--time", "12:00:00", "--set", "training.epochs=3")
    assert (cluster / "calls.txt").read_text() == f"sbatch --parsable {script}\n"
    text = script.read_text()
    for line in (
        "--nodes=2",
        "--gpus-per-node=4",
        "--time=12:00:00",
        "--requeue",
        "--open-mode=append",
        "--signal=B:USR1@180",
    ):
        assert f"#SBATCH {line}\n" in text
    assert f"#SBATCH --output={cluster}/runs/one.log\n" in text
    assert f"work=(train {cluster}/digits.toml --run-dir={cluster}/runs/one --set=training.epochs=3)\n" in text
    assert f"again=(resume {cluster}/runs/one)\n" in text
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_a_job_out_of_time_saves_first_and_goes_back_to_the_queue_once(
    cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = job(cluster, capsys, "--nodes", "2", "--procs-per-node", "3")
    process = start(script, "until-warned")
    tell(process, cluster)
    code, err, calls = ended(process, cluster)
    assert code == 0, err
    assert "out of time (its state is kept); back to the queue, 1 of at most 20 times" in err
    assert [line for line in calls if line.startswith("scontrol requeue")] == ["scontrol requeue 77"]
    assert calls[-3:] == ["scancel --signal=TERM 77", "committed", "scontrol requeue 77"]
    started = next(line for line in calls if line.startswith("ran "))
    assert "-m torch.distributed.run --nnodes=2 --nproc-per-node=3 --max-restarts=3" in started
    assert "--rdzv-id=77.0 --rdzv-endpoint=node1:20077 --rdzv-conf=is_host=1 -m netwright train" in started
    code, err, calls = ended(start(script, '{"status": "done"}', {"SLURM_RESTART_COUNT": "1"}), cluster)
    assert code == 0, err
    assert calls[-1].endswith(f"-m netwright resume {script.with_suffix('')}")  # and no second requeue
    assert "--rdzv-id=77.1" in calls[-1]


@pytest.mark.parametrize(
    ("scene", "code", "words"),
    [
        ('{"status": "done"}', 0, "done"),  # though srun ends with 1
        ('{"status": "failed", "why": "DataError: no such column"}', 3, "failed, DataError: no such column"),
        ('{"status": "running"}', 6, "its processes were killed"),
        ("", 2, "no run began; the reason stands above"),
    ],
)
def test_run_json_tells_how_a_job_ended(
    cluster: Path, capsys: pytest.CaptureFixture[str], scene: str, code: int, words: str
) -> None:
    found, err, calls = ended(start(job(cluster, capsys), scene), cluster)
    assert (found, words in err) == (code, True), err
    assert not [line for line in calls if line.startswith("scontrol requeue")]


@pytest.mark.parametrize("number", ["1; touch X", "a[$(touch X)]", "77\ntouch X", ""])
def test_a_hostile_job_number_is_refused_before_anything_runs(
    cluster: Path, capsys: pytest.CaptureFixture[str], number: str
) -> None:
    code, err, calls = ended(start(job(cluster, capsys), "", {"SLURM_JOB_ID": number}), cluster)
    assert code == 8
    assert f"SLURM_JOB_ID, SLURM_RESTART_COUNT: {number}" in err
    assert [line.split()[0] for line in calls] == ["sbatch"]
    assert not (cluster / "X").exists()


def test_tasks_of_an_array_share_one_search(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = job(cluster, capsys, "--tasks", "3")
    text = script.read_text()
    assert "#SBATCH --array=0-2\n" in text
    assert f"#SBATCH --output={cluster}/runs/one-%a.log\n" in text
    task = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "2", "RECORD": "tune.json"}
    code, err, calls = ended(start(script, '{"status": "running"}', task | {"BEGINS": "7", "ENDS": "0"}), cluster)
    assert code == 0, err
    folder = script.with_suffix("")
    begun = f"-m netwright tune {cluster}/digits.toml --run-dir={folder} --set=tune.study=journal"
    assert [line.partition("python ")[2] for line in calls[1:]] == [begun, f"-m netwright tune --resume={folder}"]
    process = start(script, "until-warned", task)
    tell(process, cluster)
    code, err, calls = ended(process, cluster)
    assert code == 0, err
    assert calls[-2:] == ["committed", "scontrol requeue 70_2"]
    assert calls[-3].endswith(f"tune --resume={folder}")


def test_a_task_that_is_cancelled_saves_and_is_not_sent_back(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = job(cluster, capsys, "--tasks", "3")
    task = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "2", "RECORD": "tune.json"}
    process = start(script, "until-warned", task | {"ENDS": "143"})
    tell(process, cluster, signal.SIGTERM)
    code, err, calls = ended(process, cluster)
    assert code == 143, err
    assert "this task was stopped by a signal; nobody goes on with it, to go on: sbatch " in err
    assert calls[-1] == "committed"


@pytest.mark.parametrize(
    "instead",
    [
        """set -T; trap 'if [[ $BASH_COMMAND == "searching=\\$!" ]]; then kill -USR1 $$; fi' DEBUG""",
        """wait() { builtin wait "$@"; if kill -0 "$1" 2>/dev/null; then return 0; fi; return 138; }""",
    ],
    ids=["before the number of the process is known", "as the process ends"],
)
def test_a_warning_at_any_moment_stops_the_search_and_sends_the_task_back(
    cluster: Path, capsys: pytest.CaptureFixture[str], instead: str
) -> None:
    script = job(cluster, capsys, "--tasks", "3")
    (cluster / "first.sh").write_text(f"if [[ $0 == {script} ]]; then {instead}; fi\n")
    task = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "2", "RECORD": "tune.json", "ENDS": "143"}
    process = start(script, "until-warned", task | {"BASH_ENV": str(cluster / "first.sh")})
    if "DEBUG" not in instead:
        tell(process, cluster)
    code, err, calls = ended(process, cluster)
    assert code == 0, err
    assert ("back to the queue" in err, "from the last checkpoint" in err) == (True, False)  # nothing was killed
    assert calls[-1] == "scontrol requeue 70_2"


def test_a_task_that_was_killed_says_so(cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = job(cluster, capsys, "--tasks", "3")
    code, err, calls = ended(start(script, '{"status": "running"}', {"RECORD": "tune.json", "ENDS": "137"}), cluster)
    assert code == 6, err
    assert f"this task was killed (memory, a node); nobody goes on with it, to go on: sbatch {script}" in err
    assert not [line for line in calls if line.startswith("scontrol")]


def test_a_job_that_sbatch_refuses_is_one_line_and_leaves_nothing(
    cluster: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSAL", "sbatch: error: invalid partition specified: gpu")
    code, out, err = command(capsys, "slurm", "digits.toml", "--run-dir", "one")
    assert (code, out) == (2, "")
    assert "sbatch: refused (sbatch: error: invalid partition specified: gpu)" in err
    assert not list(cluster.glob("one*"))


def test_without_slurm_the_job_can_be_printed_only(
    cluster: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(cluster))
    code, _, err = command(capsys, "slurm", "digits.toml")
    assert (code, err.count("\n")) == (2, 1)
    assert "sbatch: not found on this machine" in err
    code, out, _ = command(capsys, "slurm", "digits.toml", "--print")
    assert code == 0
    assert out.startswith("#!/bin/bash\n# ")
    assert not (cluster / "runs").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--time", "soon"], "--time soon: no time of SLURM"),
        (["--gpus-per-node", "2", "--procs-per-node", "3"], "--procs-per-node 3: it came with --gpus-per-node 2"),
        (["--tasks", "3", "--nodes", "2"], "--tasks 3: it came with --nodes or --procs-per-node"),
        (["--tasks", "3", "--set", "tune.space={}"], "tune.space: it is empty; expected settings to try"),
        (["--set", "training.epoch=3"], "training.epoch"),
        (["--run-dir", "-rf"], "'-rf'"),
        (["--site", "none.toml"], "none.toml: No such file"),
    ],
)
def test_what_no_job_can_be_is_refused(
    cluster: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    code, _, err = command(capsys, "slurm", "digits.toml", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert told in err
    assert not (cluster / "calls.txt").exists()


def test_a_site_file_tells_all_its_problems_at_once(tmp_path: Path) -> None:
    text = 'account = "a\\n#SBATCH --x"\npartiton = "gpu"\nmodules = ["$(touch X)"]\n[sbatch]\n"mem X" = 3\n'
    (tmp_path / "site.toml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_site(tmp_path / "site.toml")
    for words in ("account: ", "partiton is no key of a site; did you mean partition?", "'$(touch X)' came", "'mem X' came"):
        assert words in str(refused.value)


def test_names_with_spaces_and_quotes_stay_one_word(tmp_path: Path) -> None:
    run = tmp_path / "it's $(touch X)" / "one"
    work = Work(
        "netwright slurm\nrm x",
        run,
        run.with_suffix(".sbatch"),
        ("train", "a b.toml", "--set=x='$(y)'"),
        ("resume", str(run)),
    )
    text = render(Wanted(), work, Site(container=["run me"], python="python"))
    assert "# netwright slurm rm x\n" in text
    lines = [line.removeprefix("work=(").removesuffix(")") for line in text.splitlines() if line.startswith("work=(")]
    assert shlex.split(lines[0]) == ["train", "a b.toml", "--set=x='$(y)'"]
    assert f"run={shlex.quote(str(run))}\n" in text
    assert "exec 'run me' python -m torch.distributed.run" in text


def work_in(run: Path, *more: str) -> Work:
    words = ("train", "a.toml", f"--run-dir={run}", *more)
    return Work("netwright slurm a.toml", run, run.parent / f"{run.name}.sbatch", words, ("resume", str(run)))


@pytest.mark.parametrize(
    "work",
    [
        work_in(Path("/runs/one\ntouch X\n#")),
        work_in(Path("/runs\rtouch X/one")),
        work_in(Path("/runs/a\udcffb")),
        work_in(Path("/runs/one"), "--code=/own\n#SBATCH --wrap=X/code.py"),
    ],
)
@pytest.mark.parametrize("tasks", [None, 2])
def test_a_path_that_ends_a_line_of_the_job_is_refused(work: Work, tasks: int | None) -> None:
    with pytest.raises(ConfigError, match="expected a path without line ends") as refused:
        render(Wanted(tasks=tasks), work, Site(python="python"))
    assert "\n" not in str(refused.value)
    with pytest.raises(ConfigError, match="without a backslash"):
        render(Wanted(tasks=tasks), work_in(Path("/runs/a\\b")), Site(python="python"))


def test_a_folder_name_is_refused_before_anything_is_written(
    cluster: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, err = command(capsys, "slurm", "sklearn:iris", "--run-dir", "one\ntouch X")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "one\\ntouch X" in err
    assert sorted(tmp_path.rglob("*")) == before


def test_names_of_jobs_are_plain_and_a_percent_sign_stays_one() -> None:
    work = work_in(Path("/my runs/50% $(X);y"))
    options = {tasks: render(Wanted(tasks=tasks), work, Site(python="p")).splitlines() for tasks in (None, 2)}
    for lines in options.values():
        assert "#SBATCH --job-name=50-X-y" in lines
    assert "#SBATCH --output='/my runs/50%% $(X);y.log'" in options[None]
    assert "#SBATCH --output='/my runs/50%% $(X);y-%a.log'" in options[2]


def test_what_comes_next_follows_from_the_record(tmp_path: Path) -> None:
    cases = [
        ({"status": "stopped", "signal": 15}, (True, 0, 20), ("requeue", 0)),
        ({"status": "stopped", "signal": 15}, (True, 20, 20), ("stopped", 143)),
        ({"status": "stopped", "signal": 15}, (False, 0, 20), ("stopped", 143)),
        ({"status": "stopped", "signal": None, "why": "its time"}, (False, 0, 20), ("done", 0)),
        ({"status": "running"}, (True, 0, 20), ("requeue", 0)),
        ({"status": "diverged", "why": "DivergedError: step 3"}, (True, 0, 20), ("failed", 5)),
        ({"status": "failed", "why": "KeyError: 'x'"}, (False, 0, 20), ("failed", 70)),
        ({"status": "done"}, (True, 0, 20), ("done", 0)),
    ]
    for record, (warned, restarts, most), expected in cases:
        (tmp_path / "run.json").write_text(json.dumps(record))
        found = after(tmp_path, warned, restarts, most)
        assert (found.word, found.code) == expected, record
        assert ".sbatch" not in found.why  # there is none: the job was only printed
    (tmp_path / "run.json").write_text('{"status": "stopped", "signal": 15, "ended": "2026-01-02T03:04:05+00:00"}')
    assert after(tmp_path, warned=False, restarts=0, most=20, since=1.7e9).code == 143
    untouched = after(tmp_path, warned=False, restarts=1, most=20, since=1.8e9)
    assert (untouched.word, untouched.code) == ("failed", 2)
    assert "it did not go on; the reason stands above" in untouched.why
    (tmp_path / "run.json").write_text('{"status": "do')
    assert after(tmp_path, warned=False, restarts=0, most=20).code == 2


def test_what_a_task_does_next_follows_from_the_search_and_how_the_task_ended(tmp_path: Path) -> None:
    cases = [
        ("done", (False, 137), ("done", 0)),
        ("running", (False, 0), ("done", 0)),
        ("running", (True, 143), ("requeue", 0)),
        ("running", (True, 4), ("failed", 4)),
        ("running", (False, 143), ("stopped", 143)),
        ("stopped", (False, 130), ("stopped", 130)),
        ("running", (False, 137), ("failed", 6)),
    ]
    for status, (warned, code), expected in cases:
        (tmp_path / "tune.json").write_text(json.dumps({"status": status}))
        found = after(tmp_path, warned, restarts=0, most=20, ended=code)
        assert (found.word, found.code) == expected, (status, warned, code)
    assert "nobody goes on with it, to go on: submit the same job again" in found.why
    (tmp_path.parent / f"{tmp_path.name}.sbatch").touch()
    other = Worker(tmp_path)
    killed = after(tmp_path, warned=False, restarts=0, most=20, ended=137)
    assert f"; others go on with the search; if not, to go on: sbatch {tmp_path}.sbatch" in killed.why
    other.close()


@pytest.mark.parametrize(
    ("warned", "code", "word", "why"),
    [
        (
            False,
            143,
            "stopped",
            "this task was stopped by a signal; nobody goes on with it, to go on: submit the same job again",
        ),
        (False, 137, "failed", "this task was killed (memory, a node); nobody goes on with it, to go on: "),
        (False, 3, "failed", "this task failed, the reason stands above; nobody goes on with it, to go on: "),
        (True, 143, "requeue", "out of time (nothing was begun); back to the queue, 1 of at most 20 times"),
    ],
)
def test_a_task_that_ends_before_there_is_a_search_says_why(
    warned: bool, code: int, word: str, why: str, tmp_path: Path
) -> None:
    found = after(tmp_path / "one", warned, restarts=0, most=20, ended=code)
    assert (found.word, found.code) == (word, {"requeue": 0, "failed": code if code < 128 else 6}.get(word, code))
    assert found.why.startswith(f"{tmp_path / 'one'}: {why}")


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node7", "node7"), ("gpu[003-010,12],login1", "gpu003"), ("a-b.c[1]-ib", "a-b.c1-ib"), ("n1,n[2-3]", "n1")],
)
def test_the_first_host_of_a_list_is_found(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


@pytest.mark.parametrize("nodes", ["", "$(touch X)", "n[1", "-n1", "n1;rm"])
def test_what_is_no_list_of_hosts_is_refused(nodes: str) -> None:
    with pytest.raises(ConfigError, match="came; expected hosts"):
        first_host(nodes)


def test_a_task_of_srun_knows_its_place() -> None:
    task = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "40077"}
    task |= {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}
    found = place(task)
    assert (found["RANK"], found["WORLD_SIZE"]) == ("3", "4")
    assert (found["LOCAL_RANK"], found["LOCAL_WORLD_SIZE"]) == ("1", "2")
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("node1", "20077")
    with pytest.raises(ConfigError, match="SLURM_PROCID is '3; rm'"):
        place(task | {"SLURM_PROCID": "3; rm"})
    with pytest.raises(ConfigError, match="SLURM_PROCID is 'not set'"):
        place({})


def test_the_site_file_of_the_page_can_be_read(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "clusters.md"
    text = page.read_text(encoding="utf-8").partition("```text\n")[2].partition("```")[0]
    (tmp_path / "site.toml").write_text(text)
    site = read_site(tmp_path / "site.toml")
    assert (site.account, site.sbatch["mem"], site.interface) == ("physics", "200G", "ib0")
    table = page.read_text(encoding="utf-8").partition("| key | meaning |")[2]
    assert [name for name in Site.model_fields if f"`{name}`" not in table] == []
