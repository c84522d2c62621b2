"""Why a run that goes on ends with other bits than one that never stopped. Floor 14."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netwright.pipeline.job import learning_rates

NAMES = {"torch": "torch", "device": "device", "cpu": "CPU kernels", "threads": "threads", "micro_batch": "micro_batch"}


def inexact(before: Mapping[str, Any], now: Mapping[str, Any], ruled: bool = False) -> list[str]:
    """Return why going on gives other bits than a run that never stopped; nothing where it does not.

    Args:
        before, now: What the bits hang on, see `netwright.pipeline.job.execution`.
        ruled: Whether a schedule has learning rates of its own, so that those of the optimizer do not count.
    """
    found = [
        f"{word}{where} {old} -> {new}"
        for key, word in NAMES.items()
        for where, old, new in _changes(before.get(key), now[key])
    ]
    sizes = [told.get("world", 1) for told in (before, now)]
    if sizes[0] != sizes[1]:
        found.append(f"world size {sizes[0]} -> {sizes[1]}")
    if before.get("members", 1) > 1:
        found.append(f"its steps were taken together with those of {before['members'] - 1} other runs")
    engines = [told.get("engine") for told in (before, now)]
    if engines[0] != engines[1] and "compiled" in engines and None not in engines:  # the others have the same bits
        found.append(f"engine {engines[0]} -> {engines[1]}")
    ways = [told.get("strategy") for told in (before, now)]
    if ways[0] != ways[1] and None not in ways:
        found.append(f"strategy {ways[0]} -> {ways[1]}")
    rates = [learning_rates(str(told["optimizer"]), told.get("parameter_groups", [])) for told in (before, now)]
    if rates[0] != rates[1] and not ruled:
        old, new = (", ".join(str(rate) for rate in some) for some in rates)
        found.append(f"learning rate {old} -> {new}")
    return found


def _changes(before: Any, now: Any) -> list[tuple[str, Any, Any]]:
    """Return which processes have something else than they had, in words, with both values.

    Args:
        before, now: A value, or one of each process, by rank. Where there were other processes, or an older
            checkpoint kept that of the first alone, the first is compared.

    Example:
        >>> _changes(["AVX2", "AVX2"], ["AVX2", "AVX512"]), _changes("AVX2", ["AVX2", "AVX512"]), _changes(2, 1)
        ([(' of rank 1', 'AVX2', 'AVX512')], [], [('', 2, 1)])
    """
    old, new = ([value] if not isinstance(value, list) else value for value in (before, now))
    pairs = list(zip(old, new, strict=True)) if len(old) == len(new) else [(old[0], new[0])]
    found = []
    for pair in dict.fromkeys(pairs):
        ranks = [str(rank) for rank, other in enumerate(pairs) if other == pair]
        where = "" if len(ranks) == len(pairs) else f" of rank{'s' if len(ranks) > 1 else ''} {', '.join(ranks)}"
        found += [(where, *pair)] if pair[0] != pair[1] else []
    return found
