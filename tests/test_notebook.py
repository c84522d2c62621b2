"""The example notebook holds no output, and every cell of it runs."""

from __future__ import annotations

import json
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent / "examples" / "notebook.ipynb"
MISSING = [name for name in ("nbclient", "ipykernel") if find_spec(name) is None]


def test_the_notebook_holds_no_output() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert any(cell["cell_type"] == "code" for cell in cells)
    for cell in cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_every_cell_of_the_notebook_runs(tmp_path: Path) -> None:
    shutil.copy(NOTEBOOK.parent / "digits.toml", tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of others
        import nbformat
        from nbclient import NotebookClient

        notebook = nbformat.read(NOTEBOOK, as_version=4)
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pages = [_html(output) for output in shown if "text/html" in output.get("data", {})]
    assert sum("netwright" in text and "<svg" in text for text in pages) == 2
    assert "95 % interval" in pages[0]
    assert any("image/png" in output.get("data", {}) for output in shown)
    printed = "".join(output.text for output in shown if output.output_type == "stream")
    assert "epoch 10/10" in printed
    assert [output.text for output in shown if output.get("name") == "stderr"] == []


def _html(output: Any) -> str:
    return str(output["data"]["text/html"])
