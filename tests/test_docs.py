"""Every snippet of README and docs runs as it stands."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch
from PIL import Image

import netwright as nw
from netwright.cli import main
from netwright.config import signatures

Script = Callable[[str], ModuleType]

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "docs" / "tutorial.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(language: str, pages: Sequence[Path] = PAGES) -> list[tuple[str, str]]:
    """Return (page and number, text) of the snippets in one language."""
    found = []
    for page in pages:
        texts = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        found += [(f"{page.name}-{number}", text) for number, text in enumerate(texts)]
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files the pages speak of."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "own_module.py", tmp_path)
    generator = np.random.default_rng(0)
    rooms, town = generator.uniform(1, 8, 60), generator.choice(["coast", "inland"], 60)
    table = pa.table({"rooms": rooms, "ocean_proximity": town, "median_house_value": rooms * 30_000 + 7})
    for name in ("housing.csv", "town-1.csv", "town-2.csv"):
        pa.csv.write_csv(table, tmp_path / name)
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.write(tmp_path / "housing.csv", "housing.csv")
    write_images(tmp_path, generator)
    write_series(tmp_path, generator)
    return tmp_path


def write_images(folder: Path, generator: np.random.Generator) -> None:
    """Write a folder of images by class, and the same packed."""
    for label in ("cat", "dog"):
        (folder / "photos" / label).mkdir(parents=True)
        for place in range(20):
            values = generator.integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(values).save(folder / "photos" / label / f"{place}.png")
    shutil.make_archive(str(folder / "photos"), "zip", folder / "photos")


def write_series(folder: Path, generator: np.random.Generator) -> None:
    """Write sequences in files, a series by time, texts with labels and one long text."""
    (folder / "walks").mkdir()
    for walk in range(40):
        steps = generator.normal(size=(int(generator.integers(5, 15)), 2))
        np.savetxt(folder / "walks" / f"{walk}.csv", steps, delimiter=",", header="a,b", comments="")
    (folder / "walks.csv").write_text("walk,door\n" + "".join(f"{walk},{'lr'[walk % 2]}\n" for walk in range(40)))
    degrees = 10 + 5 * np.sin(np.arange(400) / 12) + generator.normal(size=400)
    (folder / "temperature.csv").write_text("degrees\n" + "".join(f"{value:.2f}\n" for value in degrees))
    moods = [("fine day", "good"), ("bad luck again", "poor")] * 30
    (folder / "reviews.csv").write_text("review,mood\n" + "".join(f"{text},{mood}\n" for text, mood in moods))
    (folder / "book.txt").write_text("the cat sat on the mat and looked at the rain. " * 60)


def skip_without_onnx(text: str) -> None:
    """Skip a snippet that needs the extra onnx where it is not installed."""
    if "onnx" in text and not all(importlib.util.find_spec(name) for name in ("onnxscript", "onnxruntime")):
        pytest.skip("the extra onnx is not installed")


@pytest.mark.parametrize(
    ("name", "code"),
    snippets("python", [page for page in PAGES if page != TUTORIAL]),
    ids=lambda value: value if len(value) < 40 else "",
)
def test_a_python_snippet_runs(name: str, code: str, folder: Path) -> None:
    skip_without_onnx(code)
    exec(compile(code, name, "exec"), {"__name__": "snippet"})
    assert (folder / "runs").is_dir() != name.startswith("estimators.md")  # estimators write no run


@pytest.mark.usefixtures("folder")
def test_the_tutorial_is_one_session_and_its_loop_by_hand_gives_the_same_weights(
    capsys: pytest.CaptureFixture[str],
) -> None:
    session, threads = {"__name__": "tutorial"}, torch.get_num_threads()
    try:
        for name, code in snippets("python", [TUTORIAL]):
            exec(compile(code, name, "exec"), session)
    finally:
        torch.set_num_threads(threads)  # the tutorial works with one
    by_hand, run = session["by_hand"], session["run"]
    assert isinstance(run, nw.Run)
    assert isinstance(by_hand, torch.nn.Module)
    theirs = run.model.state_dict()
    assert set(theirs) == set(by_hand.state_dict())
    assert all(torch.equal(weights, theirs[name]) for name, weights in by_hand.state_dict().items())
    assert run.record["epochs"] == 20
    said = capsys.readouterr().out
    assert f"avg loss: {run.tested['metrics']['loss']['value']:.4f}" in said  # type: ignore[index]
    assert "avg accuracy: 0.9" in said


@pytest.mark.parametrize(("name", "text"), snippets("toml"), ids=lambda value: value if len(value) < 40 else "")
def test_a_toml_snippet_trains(name: str, text: str, folder: Path) -> None:
    (folder / "snippet.toml").write_text(text, encoding="utf-8")
    run = nw.train("snippet.toml", settings=["training.epochs=1"], code=["own_module.py"], run_dir="run")
    assert len(run.history) == 1


@pytest.mark.parametrize(("name", "text"), snippets("sh"), ids=lambda value: value if len(value) < 40 else "")
def test_commands_run_as_they_stand(name: str, text: str, folder: Path) -> None:
    skip_without_onnx(text)
    lines = [line for line in text.splitlines() if line]
    assert lines
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
            continue
        assert words[0] == "netwright"
        extra = ["--set", "training.epochs=1"] if words[1] in ("train", "cv") else []
        with pytest.raises(SystemExit) as ended:
            main([*words[1:], *extra])
        assert ended.value.code == 0, line


def test_the_first_toml_of_the_readme_is_the_digits_example() -> None:
    first = next(text for name, text in snippets("toml") if name == "README.md-0")
    assert tomllib.loads(first) == tomllib.loads((ROOT / "examples" / "digits.toml").read_text())


def test_the_settings_page_is_made_from_the_schema(script: Script) -> None:
    tool = script("tools/settings_table.py")
    assert tool.page() == tool.PAGE.read_text(encoding="utf-8")


def test_the_layers_page_names_every_layer_of_our_own() -> None:
    text = (ROOT / "docs" / "layers.md").read_text(encoding="utf-8")
    assert [name for name in signatures.OWN_LAYERS if f"`{name}(" not in text] == []


def test_the_page_of_the_commands_is_made_from_their_help(script: Script) -> None:
    tool = script("tools/help_snapshot.py")
    assert tool.render_page() == tool.PAGE.read_text(encoding="utf-8"), "run python tools/help_snapshot.py"


def test_the_reference_names_everything_public() -> None:
    named = set(re.findall(r"^\.\. auto\w+:: netwright\.(\w+)$", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE))
    assert named == {*nw.__all__, "errors"} - {"NetwrightError"}  # that one is in netwright.errors


def test_the_index_leads_to_pages_that_are_there_and_takes_the_others_by_itself(script: Script) -> None:
    site = script("docs/conf.py")
    content = [(ROOT / "docs" / "index.md").read_text(encoding="utf-8")]
    site.fill_the_rest(None, "docs/index", content)
    lines = [
        line
        for block in re.findall(r"^```{toctree}\n(.*?)^```", content[0], re.DOTALL | re.MULTILINE)
        for line in block.split()
    ]
    listed = [line for line in lines if re.fullmatch(r"[a-z]+", line) and (ROOT / "docs" / f"{line}.md").is_file()]
    assert sorted(listed) == sorted(page.stem for page in (ROOT / "docs").glob("*.md") if page.stem != "index")
