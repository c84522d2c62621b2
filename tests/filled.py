"""What a test with everything writes into test.json, merged into tiny real runs: for the tests of the report."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

HOSTILE = "</script><img src=x onerror=alert(1)>"
FINDINGS = [
    {"check": "scale", "severity": "note", "where": "column b", "why": "One row is far out.", "advice": "", "confidence": "hint"},
    {"check": "duplicates", "message": "2 of 30 test rows have the inputs of a train row", "rows": 2},
    {
        "check": "leak", "severity": "error", "where": HOSTILE, "why": f"{HOSTILE} tells the target.",
        "advice": "Leave it out.", "confidence": "sure",
    },
]  # fmt: skip


def figure(value: float, reach: float = 0.02) -> dict[str, float]:
    return {"value": value, "low": value - reach, "high": value + reach}


def picture(shade: int) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("L", (8, 8), shade).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def of_classes(test: dict[str, Any]) -> dict[str, Any]:
    """Return a test of a classification with every key, hostile names among them."""
    accuracy = test["metrics"]["accuracy"]["value"]
    bins = [
        {"low": place / 5, "high": (place + 1) / 5, "mean": place / 5 + 0.1, "observed": place / 5 + 0.08, "n": 7}
        for place in range(5)
    ]
    worst = [
        {
            "row": row, "where": f"iris.csv:{row + 2}", "true": "setosa", "predicted": HOSTILE, "probability": 0.98,
            "probability_of_true": 0.0004, "inputs": {"length": 5.1, HOSTILE: HOSTILE, "gone": None},
        }
        for row in range(3)
    ]  # fmt: skip
    return test | {
        "intervals": {"level": 0.9, "method": "BCa bootstrap, 1,000 resamples", "groups": {"column": "plant", "n": 31}},
        "baselines": {
            "most_frequent": {"name": "always the most frequent class", "metrics": {"accuracy": 0.2},
                              "difference": {"accuracy": figure(accuracy - 0.2)}, "seconds": 0.0},
            "logistic": {"name": "logistic regression", "metrics": {"accuracy": accuracy - 0.1, "f1_macro": 0.4},
                         "difference": {"accuracy": figure(0.1)}, "seconds": 3.2, "note": "stopped after 3 s"},
        },
        "baselines_left_out": [{"name": "boosting", "why": "5,000 columns"}],
        "classes": [
            {"class": HOSTILE, "n": 9, "precision": 0.9, "recall": figure(0.8), "f1": 0.85},
            {"class": "b", "n": 21, "precision": 0.7, "recall": {"value": 1.0}, "f1": 0.82},
        ],
        "slices": [
            {"column": "colour", "slice": name, "n": 10, "metrics": {"accuracy": figure(value)}}
            for name, value in ((HOSTILE, 0.7), ("blue", 0.9))
        ],
        "calibration": {"of": f"class '{HOSTILE}'", "ece": 0.031, "brier": 0.112, "bins": bins,
                        "temperature": {"value": 1.3, "fitted_on": "valid", "ece_before": 0.05, "loss_before": 0.4}},
        "threshold": {"value": 0.37, "chosen_on": "valid", "for": "f1", "n_valid": 30,
                      "metrics": {"accuracy": 0.8, "f1": 0.7}, "at_half": {"accuracy": 0.82, "f1": 0.6}},
        "importance": {"metric": "accuracy", "repeats": 5, "n": 30, "columns": [
            {"column": "length", **figure(0.2)}, {"column": HOSTILE, **figure(-0.01)}]},
        "worst": worst,
        "seconds": {"scoring": 0.2, "baselines": 3.2, "importance": 1.0},
    }  # fmt: skip


def of_values(test: dict[str, Any]) -> dict[str, Any]:
    """Return a test of a regression with the keys that regressions have."""
    rmse = test["metrics"]["rmse"]["value"]
    return test | {
        "baselines": {"linear": {"name": "linear regression", "metrics": {"rmse": rmse - 5.0, "r2": 0.4},
                                 "difference": {"rmse": figure(5.0, 1.0)}, "seconds": 0.01}},
        "conformal": {"level": 0.9, "calibrated_on": "valid", "n": 88, "outputs": [{"name": "target", "half_width": 6.125}],
                      "coverage": figure(0.91), "remark": "valid also chose the epoch"},
        "worst": [{"row": 4, "true": 151.0, "predicted": 251.5, "error": 100.5, "inputs": {"age": 31}}],
    }  # fmt: skip


def of_pictures(test: dict[str, Any]) -> dict[str, Any]:
    """Return a test of pictures with the worst of them."""
    entry = {"true": "3", "predicted": "8", "probability": 0.97, "probability_of_true": 0.02}
    return test | {
        "worst": [
            entry | {"row": row, "where": f"row {row}", "image": picture(40 * row), "saliency": picture(200)}
            for row in range(4)
        ]
    }


def fill(folder: Path, filled: Any, findings: Any = ()) -> Path:
    """Merge what a full test holds into a run folder, and draw its report again."""
    from netwright.reporting.formats import render

    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"findings": list(findings)}))
    test = json.loads((folder / "test.json").read_text())
    (folder / "test.json").write_text(json.dumps(filled(test)))
    (folder / "report.html").write_bytes(render(folder))
    return folder
