"""What became of rare classes in a test, ready for the page. Floor 10."""

from __future__ import annotations

from collections.abc import Mapping

from netwright.reporting.contents import entries, objects, section
from netwright.reporting.wording import as_number, count_text, figure_text, probability_text

WAYS = {"class_weight": "weights in the loss", "sampling": "balanced sampling", "focal": "the focal loss"}


def balance_view(test: Mapping[str, object] | None) -> dict[str, object] | None:
    """Return the table of classes, the rarest first, and what the changed prior did; None where no class is rare.

    Args:
        test: ``test.json``, or None.
    """
    found = section(test, "balance")
    rows = [
        (
            str(entry.get("class")),
            count_text(entry.get("n")),
            _percent(entry.get("train_share")),
            _percent(entry.get("share")),
            _percent(entry.get("predicted")),
            _percent(entry.get("mean_probability")),
            probability_text(entry.get("recall")),
            probability_text(entry.get("average_precision")),
        )
        for entry in objects(found, "classes")
    ]
    if not rows:
        return None
    ways = [WAYS[str(way)] for way in entries(found, "by") if str(way) in WAYS]
    return {
        "rows": rows,
        "ways": " and ".join(ways),
        "undone": _undone(section(found, "undone")),
        "remark": str(found.get("remark") or ""),
    }


def _percent(value: object) -> str:
    number = as_number(value)
    return "" if number is None else f"{100 * number:.3g} %"


def _undone(found: Mapping[str, object]) -> list[tuple[str, str, str]]:
    """Return the figures of probabilities as they come and with the prior undone."""
    names = (("log_loss", "log loss"), ("brier", "Brier score"), ("accuracy", "accuracy"))
    pairs = [(name, section(found, key)) for key, name in names]
    return [(name, figure_text(pair.get("before")), figure_text(pair.get("after"))) for name, pair in pairs if pair]
