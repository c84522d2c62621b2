"""The house: imports point up its list only, and what each part may know. A change here changes docs/design.md too."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import netwright

SOURCE = Path(netwright.__file__).parent
FLOORS = {
    "errors": 0,
    "numerals": 0,
    "seeding": 0,
    "beside": 0,
    "files": 0,
    "config": 1,
    "sources": 2,
    "data": 3,
    "model": 4,
    "distributed": 5,
    "recording": 6,
    "engine": 7,
    "checkpoint": 8,
    "population": 8,
    "evaluation": 8,
    "training": 9,
    "checks": 10,
    "exporting": 10,
    "reporting": 10,
    "tracking": 10,
    "runfolder": 11,
    "rows": 11,
    "pipeline": 12,
    "trained": 13,
    "lifecycle": 14,
    "foresight": 15,
    "studies": 15,
    "proofs": 16,
    "verbs": 16,
    "serving": 17,
    "tuning": 17,
    "terminal": 17,
    "estimators": 17,
    "cli": 18,
}
JOINING = ("runfolder", "rows", "pipeline", "trained", "lifecycle", "foresight", "studies", "proofs", "verbs")
ENTRANCES = ("__init__", "__main__")  # they only name what to load
LONGEST_FUNCTION = 60
LONGEST_FILE = 400


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@dataclass(frozen=True)
class Seen:
    """What one file holds; trees of all files would fill the memory, and reading them again for each test takes seconds."""

    docstring: str
    imports: tuple[str, ...]  # modules of the project
    modules: frozenset[str]  # all that are imported
    words: dict[str, int]  # functions called, attributes and names imported: the first line
    written: tuple[str, ...]
    functions: dict[str, int]  # lines of each
    lines: int


@cache
def seen(path: Path) -> Seen:
    """Read a file, functions too."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    words: dict[str, int] = {}
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            words.setdefault(node.func.id, node.lineno)
        elif isinstance(node, ast.Attribute):
            words.setdefault(ast.unparse(node), node.lineno)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            words |= {alias.name: words.get(alias.name, node.lineno) for alias in node.names}
    return Seen(
        ast.get_docstring(tree) or "",
        tuple(module for node in nodes for module in imported(node)),
        frozenset(name for node in nodes for name in loaded(node)),
        words,
        tuple(word for node in nodes if isinstance(node, ast.Call) for word in writing(path, node)),
        {node.name: (node.end_lineno or 0) - node.lineno for node in nodes if isinstance(node, ast.FunctionDef)},
        len(text.splitlines()),
    )


def loaded(node: ast.AST) -> list[str]:
    """Return the modules that a statement imports."""
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def imported(node: ast.AST) -> list[str]:
    """Return the modules of the project that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name.removeprefix("netwright.") for alias in node.names if alias.name.startswith("netwright.")]
    if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "netwright":
        return []
    module = (node.module or "").removeprefix("netwright").removeprefix(".")
    inner = [f"{module}.{alias.name}".strip(".") for alias in node.names]
    places = [SOURCE / Path(*name.split(".")) for name in inner]
    there = [place.with_suffix(".py").exists() or place.is_dir() for place in places]
    return [name if is_module else module for name, is_module in zip(inner, there, strict=True)]


def imports_of(path: Path) -> tuple[str, ...]:
    """Return every module of the project a file imports, in functions too."""
    return seen(path).imports


def stage_of(module: str) -> str:
    return module.split(".")[0]


def test_every_file_stands_on_a_floor() -> None:
    stages = {stage_of(name_of(path)) for path in modules()} - set(ENTRANCES)
    assert stages == set(FLOORS)


def test_the_page_of_the_house_names_every_file_on_its_floor() -> None:
    page = (SOURCE.parents[1] / "docs" / "design.md").read_text(encoding="utf-8")
    lines = page.partition("src/netwright/  ")[2].partition("```")[0].splitlines()[1:]
    starts = [n for n, line in enumerate(lines) if line[2] != " "]
    rooms = [lines[start:end] for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]
    told = {re.split(r"/| |\.py", room[0].strip())[0]: room for room in rooms}
    assert {name: int(room[0].split()[-1]) for name, room in told.items()} == FLOORS
    for path in modules():
        stage, _, name = name_of(path).partition(".")
        if name:
            assert re.search(rf"\b{name}\.py\b", " ".join(told[stage])), f"docs/design.md names no {stage}/{name}.py"
    gone = [
        word
        for stage, room in told.items()
        for word in re.findall(r"\b\w+\.py\b", " ".join(room))
        if not (SOURCE / stage / word).exists() and not (SOURCE / word).exists()
    ]
    assert gone == []


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


def test_only_what_joins_the_stages_and_the_command_line_see_the_settings() -> None:
    seeing = {
        stage_of(name_of(path))
        for path in modules()
        for module in imports_of(path)
        if module in ("config.schema", "config.data_schema", "config.read")
    }
    assert seeing <= {"config", *JOINING, "cli"}


WRITERS = ("write_text", "write_bytes", "mkdir", "makedirs", "unlink", "rmtree", "rename", "touch", "savefig", "tofile")
WRITERS += ("truncate", "ftruncate", "rmdir", "symlink", "symlink_to", "hardlink_to", "link", "mkfifo", "mknod", "chmod")
WRITERS += ("save_file", "to_csv", "to_parquet", "savetxt", "open_memmap")


INTO_MEMORY = {"canvas.py": ("savefig",)}  # drawn into a buffer, not into a file


def writing(path: Path, node: ast.Call) -> list[str]:
    """Return what of a call writes to a disk."""
    found = []
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
    writing = {stage_of(name_of(path)) for path in modules() if seen(path).written}
    assert writing == {"files"}


@pytest.mark.parametrize("word", ["eval", "exec", "pickle", "os.environ", "getenv", "torch.load"])
def test_no_code_is_run_from_data_and_no_environment_read(word: str) -> None:
    for path in modules():
        if (name_of(path), word) == ("exporting.foreign", "torch.load"):  # in a process of its own, weights_only
            continue
        if word == "os.environ" and stage_of(name_of(path)) == "distributed":  # RANK and its like, which launchers set
            continue
        assert word not in seen(path).words, f"{path}:{seen(path).words[word]}"


def test_functions_and_files_stay_readable() -> None:
    for path in modules():
        assert seen(path).lines <= LONGEST_FILE, path
        for name, lines in seen(path).functions.items():
            assert lines < LONGEST_FUNCTION, f"{path}: {name}"


def test_every_module_says_what_it_is_for() -> None:
    assert [str(path) for path in modules() if not seen(path).docstring] == []


CARRIED = {"torch", "numpy", "PIL", "__future__", *sys.stdlib_module_names}


def carried(path: Path) -> bool:
    """Tell whether a file says that an ejected script may carry its functions."""
    return "Printed by eject." in " ".join(seen(path).docstring.split())


def test_what_an_ejected_script_carries_imports_torch_numpy_and_its_like_only() -> None:
    printed = {name_of(path): path for path in modules() if carried(path)}
    assert {"seeding", "data.order", "data.moments", "model.modules", "model.masked", "evaluation.formulas"} <= set(printed)
    for path in printed.values():
        outside = {name for name in seen(path).modules if name.split(".")[0] not in CARRIED | {"netwright"}}
        assert outside == set(), path
        assert set(imports_of(path)) <= set(printed), path
