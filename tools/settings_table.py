"""Writes the tables of docs/settings.md from the schema, so that the page names every setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from netwright.config import data_schema, layer_schema, schema, training_schema, tune_schema

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
MARK = "<!-- made by tools/settings_table.py; what stands below is overwritten -->"
SECTIONS: dict[str, type[BaseModel]] = {
    "[data]": data_schema.DataConfig,
    "[data.split]": data_schema.SplitConfig,
    "[data.preparation]": data_schema.PreparationConfig,
    "[model]": schema.ModelConfig,
    "[training]": training_schema.TrainingConfig,
    "[training.early_stopping]": training_schema.EarlyStoppingConfig,
    "[[training.unfreeze]]": layer_schema.UnfreezeConfig,
    "[checkpoint]": schema.CheckpointConfig,
    "[checks]": schema.ChecksConfig,
    "[evaluation]": schema.EvaluationConfig,
    "[tune]": tune_schema.TuneConfig,
}


def default_of(field: Any) -> str:
    """Return a default as the reader sees it."""
    value = field.default_factory() if field.default_factory else field.default
    if value is None or value is PydanticUndefined or isinstance(value, BaseModel):
        return "automatic"
    return f"`{value!r}`".replace("'", '"').replace("|", "\\|")


def render() -> str:
    """Return the tables."""
    parts = [MARK]
    for name, section in SECTIONS.items():
        parts.append(
            f"\n### `{name}`\n\n{(section.__doc__ or '').strip()}\n\n| setting | default | meaning |\n|---|---|---|"
        )
        for key, field in section.model_fields.items():
            meaning = (field.description or "See the section of this name.").replace("|", "\\|")
            parts.append(f"| `{key}` | {default_of(field)} | {meaning} |")
    return "\n".join(parts) + "\n"


def page() -> str:
    """Return the whole page with fresh tables."""
    return PAGE.read_text(encoding="utf-8").partition(MARK)[0] + render()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
