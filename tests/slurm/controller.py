"""A SLURM of two nodes, each a host of its own: slurmctld and slurmd themselves, for as long as a test lasts.

Authentication is left out (auth/none): nobody else is on these hosts. Source: https://slurm.schedmd.com/slurm.conf.html
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hosts import Host

PROGRAMS = ("slurmctld", "slurmd", "slurmstepd", "sbatch", "srun", "scontrol", "scancel", "squeue", "sinfo")
OVER = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL")
CONFIG = """
ClusterName=two
SlurmctldHost=node1
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ReturnToService=2
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2
KillWait=20
MinJobAge=3600
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=node[1-2] CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=node[1-2] Default=YES MaxTime=INFINITE State=UP
"""  # cred_expire: seconds that a job waits which was sent back to the queue; 120 where nothing is said

TRAINING = """
[data]
source = "sklearn:iris"
batch_size = 10
[model]
module = "slow.py:Slow"
[training]
epochs = 60
optimizer = "SGD(lr=0.01, momentum=0.9)"
early_stopping = "none"
threads = 1
"""  # of a network that rests at each step


@dataclass(frozen=True)
class Programs:
    """Where SLURM's programs are, and the variables with which they find the rest: nothing where it is installed."""

    paths: Mapping[str, str]
    variables: Mapping[str, str]
    config: str = ""


def find(prefix: str) -> Programs | str:
    """Return SLURM's programs, or why there are none.

    Args:
        prefix: The folder into which Debian's packages were unpacked; empty for those that are installed.
    """
    root = Path(prefix) if prefix else Path("/")
    folders = [str(root / part) for part in ("usr/bin", "usr/sbin", "bin", "sbin")]
    within = os.pathsep.join(folders if prefix else [os.environ["PATH"], *folders])
    found = {name: shutil.which(name, path=within) or shutil.which(f"{name}-wlm", path=within) for name in PROGRAMS}
    absent = [name for name, path in found.items() if path is None and name != "slurmstepd"]  # slurmd knows where it is
    if absent:
        return f"{', '.join(absent)}: not found (apt install slurmctld slurmd slurm-client, or --slurm-prefix FOLDER)"
    paths = {name: path for name, path in found.items() if path is not None}
    if not prefix:
        return Programs(paths, {})
    plugins = next(root.glob("usr/lib/*/slurm-wlm"), None)
    if plugins is None:
        return f"{prefix}: no usr/lib/*/slurm-wlm in it (unpack slurm-wlm-basic-plugins, libslurm and libhwloc too)"
    variables = {"LD_LIBRARY_PATH": f"{plugins.parent}:{plugins}", "PATH": os.pathsep.join([*folders, os.environ["PATH"]])}
    return Programs(paths, variables, f"PluginDir={plugins}\n")


@dataclass(frozen=True)
class Slurm:
    """A SLURM that answers; ``variables`` are those of its programs, ``folder`` has its logs."""

    nodes: tuple[Host, Host]
    variables: Mapping[str, str]
    folder: Path

    def ask(self, *words: str) -> str:
        """Run one of its programs, or one that calls them, on the first node."""
        return self.nodes[0].ask(*words, more=self.variables)

    def job(self, number: str) -> dict[str, str]:
        """Return what SLURM says of a job, by its own keys such as JobState and Restarts."""
        told = self.ask("scontrol", "--oneliner", "show", "job", number).splitlines()[0]
        return dict(word.split("=", 1) for word in told.split() if "=" in word)

    def over(self, number: str, limit: float) -> dict[str, str]:
        """Wait until a job is over, and return what SLURM says of it."""
        return until(lambda: found if (found := self.job(number))["JobState"] in OVER else None, limit, self.logs)

    def logs(self) -> str:
        """Return the ends of its logs."""
        return "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in sorted(self.folder.glob("*.log")))


def start(nodes: tuple[Host, Host], programs: Programs, folder: Path, more: Mapping[str, str]) -> Slurm:
    """Start a SLURM of two nodes, which ends with its hosts, and return it once both are ready.

    Args:
        nodes: The first one runs the controller too.
        programs: Of SLURM.
        folder: For its configuration, state and logs.
        more: Variables that jobs shall find.
    """
    for name in ("state", "node1", "node2"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(CONFIG.format(folder=folder).lstrip() + programs.config)
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
    variables = {**more, **programs.variables, "SLURM_CONF": str(folder / "slurm.conf")}
    found = Slurm(nodes, variables, folder)
    stepd = ["-d", programs.paths["slurmstepd"]] if "slurmstepd" in programs.paths else []
    servers = [(nodes[0], [programs.paths["slurmctld"], "-D", "-c"])]
    servers += [(node, [programs.paths["slurmd"], "-D", "-N", node.name, *stepd]) for node in nodes]
    for node, words in servers:
        node.start(folder / "servers.log", *words, more=variables)
    until(lambda: _idle(found) == 2, 60, found.logs)
    return found


def _idle(asked: Slurm) -> int:
    """Return how many nodes are ready; none where the controller does not answer yet."""
    try:
        told = asked.ask("sinfo", "--noheader", "--Node", "--format=%T")
    except AssertionError:
        return 0
    return told.split().count("idle")


def until(condition: Callable[[], Any], limit: float, logs: Callable[[], str] = str) -> Any:
    """Wait until something is true, and return it; where it does not come true the test fails with some logs."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {limit:g} s\n{logs()}")


def netwright_words(*words: str) -> list[str]:
    """Return the words of a command of netwright."""
    return [sys.executable, "-m", "netwright", *words]


def record(run: Path) -> dict[str, Any]:
    """Return run.json; nothing where there is none yet."""
    path = run / "run.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}
