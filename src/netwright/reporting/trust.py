"""How far single predictions can be trusted, ready for the page: calibration, coverage, the worst errors.

Pictures come from the run folder and are shown only where they are embedded PNG, JPEG or WebP; anything else is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from netwright.reporting.contents import objects, section
from netwright.reporting.plots import calibration_svg
from netwright.reporting.sections import drawn
from netwright.reporting.wording import (
    as_number,
    count_text,
    figure_text,
    interval_text,
    measured_text,
    plural,
    probability_text,
    shortened,
    signed,
    value_text,
)

_MOST_WORST = 48
_MOST_CELLS = 12
_LONGEST_CELL = 60
_PICTURE = re.compile(r"data:image/(?:png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2}")
_LARGEST_PICTURE = 200_000  # characters


def calibration_view(test: Mapping[str, object] | None) -> dict[str, object] | None:
    """Return the figures of calibration, its bins and the temperature.

    Args:
        test: ``test.json``, or None.
    """
    found = section(test, "calibration")
    bins, rows = [], []
    for entry in objects(found, "bins"):
        mean, observed, count = (as_number(entry.get(name)) for name in ("mean", "observed", "n"))
        if mean is not None and observed is not None and count and 0 <= mean <= 1 and 0 <= observed <= 1:
            bins.append((mean, observed, count))
            between = f"{figure_text(entry.get('low'))} to {figure_text(entry.get('high'))}"
            rows.append((between, f"{mean:.3f}", f"{observed:.3f}", count_text(count)))
    figures = [
        (name, measured_text(found[key]))
        for name, key in (("expected calibration error (ECE)", "ece"), ("Brier score", "brier"))
        if as_number(_bare(found.get(key))) is not None
    ]
    if not bins and not figures:
        return None
    of = str(found.get("of") or "the predicted class")
    return {
        "of": of,
        "figures": figures,
        "svg": drawn(calibration_svg(bins, f"Observed share against predicted probability of {of}")),
        "rows": rows,
        "temperature": _temperature(section(found, "temperature")),
    }


def _bare(figure: object) -> object:
    """Return a figure without its interval."""
    return figure.get("value") if isinstance(figure, Mapping) else figure


def _temperature(found: Mapping[str, object]) -> str:
    """Say which temperature the outputs are divided by, and what it changed."""
    if as_number(found.get("value")) is None:
        return ""
    on = found.get("fitted_on") or "valid"
    before = [
        f"{words} {figure_text(found.get(key))}"
        for words, key in (("ECE", "ece_before"), ("loss", "loss_before"))
        if as_number(found.get(key)) is not None
    ]
    told = f"; without it: {', '.join(before)}" if before else ""
    return f"Outputs are divided by the temperature {figure_text(found['value'])}, fitted on {on}{told}."


def conformal_view(test: Mapping[str, object] | None) -> dict[str, object] | None:
    """Return how wide the intervals of single predictions are and how often they held.

    Source: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005 (split conformal prediction).

    Args:
        test: ``test.json``, or None.
    """
    found = section(test, "conformal")
    level = as_number(found.get("level"))
    if level is None:
        return None
    outputs = [
        (str(entry.get("name") or ""), figure_text(entry.get("half_width")))
        for entry in objects(found, "outputs")
        if as_number(entry.get("half_width")) is not None
    ]
    remark = found.get("remark")
    return {
        "level": f"{100 * level:g} %",
        "coverage": value_text(found.get("coverage")) if found.get("coverage") is not None else "",
        "between": interval_text(found.get("coverage")),
        "outputs": outputs,
        "on": str(found.get("calibrated_on") or "valid"),
        "n": plural(found.get("n"), "row") if as_number(found.get("n")) is not None else "",
        "remark": remark if isinstance(remark, str) else "",
    }


def worst_view(test: Mapping[str, object] | None) -> dict[str, object] | None:
    """Return the worst errors: pictures with what the network looked at, or the cells of a table.

    Args:
        test: ``test.json``, or None.
    """
    found = objects(test, "worst")
    shown = [_worst_entry(entry) for entry in found[:_MOST_WORST]]
    if not shown:
        return None
    names: list[str] = []
    for entry in found[:_MOST_WORST]:
        names += [str(name) for name in section(entry, "inputs") if str(name) not in names]
    return {
        "entries": shown,
        "pictures": any(entry["image"] for entry in shown),
        "saliency": any(entry["saliency"] for entry in shown),
        "columns": names[:_MOST_CELLS],
        "errors": any(entry["error"] for entry in shown),
        "probabilities": any(entry["probability"] for entry in shown),
        "left_out": len(found) - len(shown),
    }


def _worst_entry(entry: Mapping[str, object]) -> dict[str, object]:
    """Return one error in words."""
    cells = {str(name): _cell_text(value) for name, value in section(entry, "inputs").items()}
    where = entry.get("where")
    row = entry.get("row")
    return {
        "where": shortened(str(where), _LONGEST_CELL) if where else f"row {row}" if row is not None else "",
        "true": _cell_text(entry.get("true")),
        "predicted": _cell_text(entry.get("predicted")),
        "probability": probability_text(entry["probability"]) if as_number(entry.get("probability")) is not None else "",
        "of_true": probability_text(entry["probability_of_true"])
        if as_number(entry.get("probability_of_true")) is not None
        else "",
        "error": signed(figure_text(entry["error"])) if as_number(entry.get("error")) is not None else "",
        "cells": cells,
        "image": picture(entry.get("image")),
        "saliency": picture(entry.get("saliency")),
    }


def _cell_text(value: object) -> str:
    """Return a cell as text, numbers with at most five digits."""
    if value is None:
        return "missing"
    number = as_number(value)
    if isinstance(value, float) and number is not None:
        return f"{number:.5g}"
    return shortened(str(value), _LONGEST_CELL)


def picture(value: object) -> str:
    """Return an embedded picture, or nothing where the value is none.

    Args:
        value: Anything read from a run folder.

    Returns:
        The data address of a PNG, JPEG or WebP; empty for every other text, and above 200,000 characters.
    """
    if not isinstance(value, str) or len(value) > _LARGEST_PICTURE:
        return ""
    return value if _PICTURE.fullmatch(value) else ""
