"""Importing does nothing, and a question is answered before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "sklearn", "matplotlib", "pyarrow", "scipy", "pandas")


def modules_after(code: str, folder: Path) -> list[str]:
    script = f"import sys\n{code}\nprint('LOADED', *sorted(set(sys.modules) & {set(HEAVY)!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, check=True)
    return done.stdout.splitlines()[-1].split()[1:]


def test_importing_netwright_loads_nothing_heavy(tmp_path: Path) -> None:
    assert modules_after("import netwright", tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["train", "--help"], ["trian"], ["schema"], ["train", "missing.toml"], ["train", "bad.toml"]],
    ids=lambda words: " ".join(words),
)
def test_help_and_config_errors_are_answered_without_torch(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('[model]\nlayers = ["Linaer(3)"]\n[training]\nepochs = "many"\n')
    code = f"""
from netwright.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
"""
    assert modules_after(code, tmp_path) == []


def test_importing_netwright_touches_no_generator_and_no_environment(tmp_path: Path) -> None:
    code = """
import os, random
import numpy, torch
state, before = random.getstate(), dict(os.environ)
drawn, seed = numpy.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()
threads = torch.get_num_threads()
import netwright
netwright.train
assert random.getstate() == state and dict(os.environ) == before
assert numpy.random.get_state()[1].tolist() == drawn and torch.random.get_rng_state().tolist() == seed
assert torch.get_num_threads() == threads
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []
