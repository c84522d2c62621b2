"""The model card of a run: README.md in the layout of the Hugging Face hub, without a single row of the data. Floor 10.

Source: Mitchell et al., Model Cards for Model Reporting, 2019.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netwright.numerals import counted, figure

PIPELINES = {"binary": "classification", "multiclass": "classification", "multilabel": "classification"}
MOST_COLUMNS = 60
MOST_CLASSES = 50


@dataclass(frozen=True)
class Card:
    """What a card tells of a run.

    Args:
        name: Of the run.
        kind: ``bundle``, ``torch`` or ``onnx``.
        file: What the exported file or folder is called.
        record: run.json.
        tested: test.json, or None before a test.
        columns: Name, kind and number of categories of each column that the network reads.
        rows: What a row is, in words: ``a table``, ``images``, ``sequences``, ``arrays``.
        limits: Sentences on what it cannot do.
    """

    name: str
    kind: str
    file: str
    record: Mapping[str, Any]
    tested: Mapping[str, Any] | None
    columns: Sequence[tuple[str, str, int]]
    rows: str
    limits: Sequence[str]


def card_text(card: Card) -> str:
    """Return the text of README.md."""
    parts = [_front(card), f"# {_plain(card.name)}", _summary(card), *_use(card), *_data(card), *_test(card)]
    parts += ["## Limits", "\n".join(f"- {text}" for text in card.limits)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front(card: Card) -> str:
    """Return the YAML front matter; JSON texts are YAML too."""
    word = PIPELINES.get(str(card.record["task"]["kind"]), "regression")
    subject = {"images": "image", "a table": "tabular"}.get(card.rows)
    lines = ["---", "library_name: netwright", "tags:", "- netwright", f"- {word}"]
    if subject == "tabular" or (subject == "image" and word == "classification"):
        lines.append(f"pipeline_tag: {subject}-{word}")
    metrics = _metrics(card)
    if metrics:
        lines += ["model-index:", f"- name: {json.dumps(card.name)}", "  results:", "  - task:", f"      type: {word}"]
        lines += ["    dataset:", "      name: the run's own test rows", "      type: private", "    metrics:"]
        for name, one in metrics.items():
            lines += [f"    - type: {json.dumps(name)}", f"      value: {one['value']!r}"]
    return "\n".join([*lines, "---"])


def _summary(card: Card) -> str:
    task = card.record["task"]
    targets = ", ".join(_plain(name) for name in task.get("target", []))
    classes = [_plain(label) for label in task.get("classes", [])]
    shown = ", ".join(classes[:MOST_CLASSES]) + (", ..." if len(classes) > MOST_CLASSES else "")
    what = f"{task['kind']} of {targets}" + (f", classes {shown}" if classes else "")
    layers = card.record.get("model", {}).get("layers", [])
    count = sum(int(layer.get("parameters", 0)) for layer in layers)
    versions = card.record.get("versions", {})
    several = card.record.get("ensemble")
    form = (
        "A network of" if several is None else f"The mean of {several['members']} networks ({several['of']}) with together"
    )
    return (
        f"{form} {count:,} parameters for {what}. It reads {card.rows}, raw as they were recorded: the preparation, fitted "
        f"on the train rows, is inside. Trained by netwright {card.record.get('netwright')} with torch {versions.get('torch')}."
    )


def _use(card: Card) -> list[str]:
    word = {"bundle": "nw.load", "torch": "", "onnx": ""}[card.kind]
    trust = " --trust" if card.kind == "torch" else ""
    python = [f'import netwright as nw\nmodel = {word}("{card.file}")\nmodel.predict("new.csv")'] if word else []
    return [
        "## Use",
        f"```\nnetwright predict {card.file} new.csv -o predictions.csv{trust}\n```",
        *(f"```python\n{text}\n```" for text in python),
    ]


def _data(card: Card) -> list[str]:
    split, data = card.record["split"], card.record["data"]
    text = (
        f"{counted(data.get('rows', 0), 'row')}, split by {split.get('how')}: {split.get('train')} to train, {split.get('valid')} "
        f"to validate, {split.get('test')} to test. Digest of the data: `{data.get('digest')}`."
    )
    rows = [(_plain(name), kind, str(levels or "")) for name, kind, levels in card.columns[:MOST_COLUMNS]]
    more = len(card.columns) - MOST_COLUMNS
    return [
        "## Data",
        text,
        _table(("column", "kind", "categories"), rows) if rows else f"Shape of a row: {tuple(data.get('shape') or ())}.",
        f"And {counted(more, 'column')} more." if more > 0 else "",
    ]


def _test(card: Card) -> list[str]:
    if card.tested is None:
        return ["## Test", "It was not tested: nobody knows how it does on new rows."]
    level = float(card.tested.get("intervals", {}).get("level", 0.95))
    rows = [(name, _number(one["value"]), _interval(one)) for name, one in _metrics(card).items()]
    parts = [
        "## Test",
        f"{counted(card.tested.get('n') or 0, 'row')} that it was not trained on; {level:.0%} intervals.",
        _table(("metric", "value", "interval"), rows),
    ]
    names = [name for name in _metrics(card) if name != "loss"]
    others = [
        (str(one.get("name")), *(_number(one.get("metrics", {}).get(name)) for name in names))
        for one in (card.tested.get("baselines") or {}).values()
    ]
    if others:
        parts += ["Baselines, trained and tested on the same rows:", _table(("model", *names), others)]
    return parts


def _metrics(card: Card) -> dict[str, Any]:
    found = (card.tested or {}).get("metrics", {})
    return {name: one for name, one in found.items() if isinstance(one, dict) and one.get("value") is not None}


def _interval(one: Mapping[str, Any]) -> str:
    low, high = one.get("low"), one.get("high")
    return "" if low is None or high is None else f"{_number(low)} to {_number(high)}"


def _number(value: Any) -> str:
    return figure(value) if isinstance(value, int | float) else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _plain(value: object) -> str:
    """Return a text of the user so that Markdown shows it as it is."""
    text = " ".join(str(value).split())
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>#|~!" else sign for sign in text)
