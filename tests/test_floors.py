"""The house: imports point up its list only, and what each part may know. A change here changes docs/design.md too."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import netwright

SOURCE = Path(netwright.__file__).parent
FLOORS = {
    "errors": 0,
    "numerals": 0,
    "seeding": 0,
    "files": 0,
    "config": 1,
    "data": 2,
    "model": 3,
    "distributed": 4,
    "engine": 5,
    "checkpoint": 6,
    "evaluation": 6,
    "training": 7,
    "checks": 8,
    "exporting": 8,
    "reporting": 8,
    "tracking": 8,
    "pipeline": 9,
    "serving": 10,
    "tuning": 10,
    "terminal": 10,
    "estimators": 10,
    "cli": 11,
}
ENTRANCES = ("__init__", "__main__")  # they only name what to load
LONGEST_FUNCTION = 60
LONGEST_FILE = 400


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports_of(path: Path) -> Iterator[str]:
    """Yield every module of the project a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("netwright.") for alias in node.names if alias.name.startswith("netwright."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "netwright":
            module = (node.module or "").removeprefix("netwright").removeprefix(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".strip(".")
                place = SOURCE / Path(*inner.split("."))
                yield inner if place.with_suffix(".py").exists() or place.is_dir() else module


def stage_of(module: str) -> str:
    return module.split(".")[0]


def test_every_file_stands_on_a_floor() -> None:
    stages = {stage_of(name_of(path)) for path in modules()} - set(ENTRANCES)
    assert stages == set(FLOORS)


def test_folders_are_at_most_one_deep() -> None:
    assert all(len(path.relative_to(SOURCE).parts) <= 2 for path in modules())


def test_imports_point_up_the_list_only() -> None:
    wrong = [
        f"{name_of(path)} imports {module}"
        for path in modules()
        if name_of(path) not in ENTRANCES
        for module in imports_of(path)
        if FLOORS[stage_of(module)] > FLOORS[stage_of(name_of(path))]
    ]
    assert wrong == []


def test_stages_of_one_floor_do_not_import_each_other() -> None:
    edges = {(stage_of(name_of(path)), stage_of(module)) for path in modules() for module in imports_of(path)}
    mutual = [
        (one, other)
        for one, other in edges
        if one != other and FLOORS.get(one) == FLOORS.get(other) and (FLOORS[one] > 0 or (other, one) in edges)
    ]
    assert mutual == []


def test_no_circle_of_imports() -> None:
    graph = {name_of(path): set(imports_of(path)) for path in modules()}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, f"a circle: {' -> '.join([*above, module])}"
        if module not in done:
            for other in graph.get(module, set()) - {module}:
                visit(other, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_no_verb_has_the_name_of_a_module() -> None:
    names = {part for path in modules() for part in name_of(path).split(".")}
    assert names & set(netwright.__all__) == set()


def test_only_the_pipeline_and_the_command_line_see_the_settings() -> None:
    seeing = {
        stage_of(name_of(path))
        for path in modules()
        for module in imports_of(path)
        if module in ("config.schema", "config.data_schema", "config.read")
    }
    assert seeing <= {"config", "pipeline", "cli"}


WRITERS = ("write_text", "write_bytes", "mkdir", "makedirs", "unlink", "rmtree", "rename", "touch", "savefig", "tofile")
WRITERS += ("truncate", "ftruncate", "rmdir", "symlink", "symlink_to", "hardlink_to", "link", "mkfifo", "mknod", "chmod")
WRITERS += ("save_file", "to_csv", "to_parquet", "savetxt", "open_memmap")


INTO_MEMORY = {"canvas.py": ("savefig",)}  # drawn into a buffer, not into a file


def written_by(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = getattr(getattr(node.func, "value", None), "id", "")
        texts = [
            value.value for value in [*node.args, *(word.value for word in node.keywords)] if isinstance(value, ast.Constant)
        ]
        modes = [text for text in texts if isinstance(text, str) and 0 < len(text) <= 3 and set(text) <= set("rwaxbt+")]
        if name == "open" and any(set(mode) & set("wax+") for mode in modes):
            found.append(f"{path.name}:{node.lineno} open")
        if name in WRITERS and owner != "files" and name not in INTO_MEMORY.get(path.name, ()):
            found.append(f"{path.name}:{node.lineno} {name}")
    return found


def test_only_the_stage_of_files_writes() -> None:
    writing = {stage_of(name_of(path)) for path in modules() if written_by(path)}
    assert writing == {"files"}


@pytest.mark.parametrize("word", ["eval", "exec", "pickle", "os.environ", "getenv", "torch.load"])
def test_no_code_is_run_from_data_and_no_environment_read(word: str) -> None:
    for path in modules():
        if (name_of(path), word) == ("exporting.foreign", "torch.load"):  # in a process of its own, weights_only
            continue
        if word == "os.environ" and stage_of(name_of(path)) == "distributed":  # RANK and its like, which launchers set
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != word, f"{path}:{node.lineno}"
            if isinstance(node, ast.Attribute):
                assert ast.unparse(node) != word, f"{path}:{node.lineno}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert word not in [alias.name for alias in node.names], f"{path}:{node.lineno}"


def test_functions_and_files_stay_readable() -> None:
    for path in modules():
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= LONGEST_FILE, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < LONGEST_FUNCTION, f"{path}: {node.name}"


def test_every_module_says_what_it_is_for() -> None:
    assert [str(path) for path in modules() if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []


CARRIED = {"torch", "numpy", "PIL", "__future__", *sys.stdlib_module_names}


def carried(path: Path) -> bool:
    """Tell whether a file says that an ejected script may carry its functions."""
    return "Printed by eject." in " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split())


def test_what_an_ejected_script_carries_imports_torch_numpy_and_its_like_only() -> None:
    printed = {name_of(path): path for path in modules() if carried(path)}
    assert {"seeding", "data.order", "data.moments", "model.modules", "model.masked", "evaluation.formulas"} <= set(printed)
    for path in printed.values():
        wrong = {
            (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        outside = {name for name in wrong if name.split(".")[0] not in CARRIED | {"netwright"}}
        assert outside == set(), path
        assert set(imports_of(path)) <= set(printed), path
