"""Two hosts on one machine: Linux namespaces with names, processes and addresses of their own, and a switch between them.

A host lives as long as a pipe to its first process is open. When that ends, the system itself ends every process of the host and
takes its network away, so nothing is left behind, not even by a test that was killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import netwright

TOLD = {"PYTHONPATH": str(Path(netwright.__file__).parent.parent), "OMP_NUM_THREADS": "1"}  # to all that tests start
PROGRAMS = ("unshare", "nsenter", "ip", "hostname")
NAMESPACES = ("--net", "--uts", "--ipc", "--mount", "--pid")
FIRST = 'set -e; hostname "$1"; mount --bind "$2" /etc/hosts; ip link set lo up; echo ready; read -r || true'


def missing() -> str:
    """Return why there can be no hosts here; nothing where there can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)}: not found (util-linux, iproute2, hostname)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "--fork", "--mount-proc", "true"], capture_output=True, text=True, check=False
    )
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


@dataclass(frozen=True)
class Host:
    """A host by its name; ``first`` is the number of its first process, seen from outside, ``switch`` that of its switch."""

    name: str
    first: int
    switch: int
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def words(self, *words: str) -> list[str]:
        """Return the command that runs another one on this host."""
        return ["nsenter", f"--target={self.first}", *NAMESPACES, f"--wd={Path.cwd()}", "--", *words]

    def start(self, log: Path, *words: str, more: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a command, which ends with this host if not before; what it says is added to a file."""
        told = os.environ | dict(more or {})
        with log.open("ab") as said:
            process = subprocess.Popen(self.words(*words), env=told, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        self.started.append(process)
        return process

    def end(self) -> None:
        """End what was started here; its children end with the first process."""
        for process in self.started:
            process.kill()
            process.wait()

    def ask(self, *words: str, more: Mapping[str, str] | None = None) -> str:
        """Run a short command, and return what it says; the test fails where it does."""
        found = subprocess.run(
            self.words(*words), env=os.environ | dict(more or {}), capture_output=True, text=True, timeout=120, check=False
        )
        assert found.returncode == 0, f"{words} on {self.name}: {found.stdout} {found.stderr}"
        return found.stdout

    def processes(self, chosen: Callable[[list[str]], bool]) -> list[int]:
        """Return the living processes of this host, seen from outside, whose words are chosen."""
        here, found = os.readlink(f"/proc/{self.first}/ns/pid"), []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes().decode().split("\0")
                if os.readlink(place / "ns" / "pid") == here and words != [""] and chosen(words):
                    found.append(int(place.name))
            except OSError:  # it ended meanwhile
                continue
        return found

    def pull_cable(self) -> None:
        """Pull the cable out of the switch: this host sees that its link is gone, the other one hears nothing any more."""
        _ip(self.switch, "link", "set", self.name, "down")


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """Be two hosts, ``node1`` and ``node2``, that know each other by name, for a block; they share all files.

    Args:
        folder: Where their list of names is kept.
    """
    addresses = {"node1": "10.231.7.1", "node2": "10.231.7.2"}
    known = folder / "hosts"
    known.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in addresses.items()))
    with ExitStack() as stack:
        switch, *firsts = (stack.enter_context(_first_process(name, known)) for name in ("switch", *addresses))
        _ip(switch, "link", "add", "bridge", "type", "bridge")
        _ip(switch, "link", "set", "bridge", "up")
        for first, (name, address) in zip(firsts, addresses.items(), strict=True):
            _ip(first, "link", "add", "name", "cable", "type", "veth", "peer", "name", name, "netns", str(switch))
            _ip(switch, "link", "set", name, "up", "master", "bridge")
            _ip(first, "address", "add", f"{address}/24", "dev", "cable")
            _ip(first, "link", "set", "cable", "up")
        one, other = (Host(name, first, switch) for first, name in zip(firsts, addresses, strict=True))
        for host in (one, other):
            stack.callback(host.end)
        yield one, other


def _ip(first: int, *words: str) -> None:
    """Change the network of a host; numbers of processes are those of outside."""
    subprocess.run(["nsenter", f"--target={first}", "--net", "--", "ip", *words], check=True)


@contextmanager
def _first_process(name: str, known: Path) -> Iterator[int]:
    """Be a host without a network, and return the number of its first process."""
    command = ["unshare", *NAMESPACES, "--fork", "--mount-proc", "bash", "-c", FIRST, "first", name, str(known)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            assert process.stdout.readline() == "ready\n", f"{name} did not come up"
            yield int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        finally:
            process.stdin.close()  # the first process ends, and all others with it
            process.wait(timeout=60)
