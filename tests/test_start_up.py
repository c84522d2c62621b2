"""Importing does nothing, and a question is answered before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "sklearn", "matplotlib", "pyarrow", "scipy", "pandas", "numpy", "rich", "jinja2", "fsspec")
LATE = (
    "torch._dynamo",
    "torch._inductor",
    "sympy",
    "sklearn",
    "scipy",
    "matplotlib",
    "jinja2",
    "pyarrow.dataset",
    "networkx",
)
LATE += ("torch.utils.flop_counter", "concurrent.futures.process", "safetensors.numpy", "rich")
EXAMPLES = Path(__file__).parent.parent / "examples"
FIRST_STEP = """
from netwright.cli import main
from netwright.training.journal import Journal

class Stop(BaseException):
    pass

def stop(journal, *told):
    print("a step is done")
    raise Stop

Journal.steps = stop
for number, settings in enumerate({settings!r}):
    try:
        main(["train", {config!r}, "--run-dir", f"run-{{number}}", *settings])
    except Stop:
        pass
"""


def modules_after(code: str, folder: Path, watched: tuple[str, ...] = HEAVY) -> list[str]:
    script = f"import sys\n{code}\nprint('LOADED', *sorted(set(sys.modules) & {set(watched)!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, check=True)
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "LOADED"
    return last[1:]


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


def test_nothing_that_comes_later_is_loaded_by_the_first_step_of_any_optimizer(tmp_path: Path) -> None:
    optimizers = ("Adam(lr=1e-3)", "SGD(lr=0.1)", "LBFGS()", "RMSprop()")
    settings = [["--set", f"training.optimizer={optimizer}"] for optimizer in optimizers]
    code = FIRST_STEP.format(config=str(EXAMPLES / "digits.toml"), settings=settings)
    assert modules_after(code, tmp_path, LATE) == []
    assert len(list(tmp_path.glob("run-*"))) == len(optimizers)


def test_a_table_with_categories_comes_to_its_first_step_without_the_compiler(tmp_path: Path) -> None:
    rows = [f"{number / 7:.3f},{'xyz'[number % 3]},{'yes' if number % 2 else 'no'}" for number in range(200)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,y", *rows, ""]))
    code = FIRST_STEP.format(config="rows.csv", settings=[["--target", "y"]])
    assert modules_after(code, tmp_path, LATE) == []


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
