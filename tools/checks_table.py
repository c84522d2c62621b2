"""Writes the tables of docs/checks.md: what the checks find of the corpus and, where torchtest is installed, what that finds."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import re
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "checks.md"
sys.path.insert(0, str(ROOT / "tests" / "checks"))

from corpus import good, mistakes  # noqa: E402
from corpus.cases import Case, Outcome, run  # noqa: E402

FAMILIES = {"description": "description of the network", "batch": "one batch", "code": "own code", "data": "data"}
Judged = Iterable[tuple[Case, Outcome]]


def between(name: str, text: str, page: str) -> str:
    """Return a page with the text between two marks replaced."""
    begin, end = f"<!-- {name}: made by tools/checks_table.py -->", f"<!-- end of {name} -->"
    head, rest = page.split(begin)
    return f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}"


def table(judged: Judged) -> str:
    """Return the table of mistakes found and good networks suspected."""
    cases = list(judged)
    lines = ["| family | mistakes | found | missed |", "|---|---|---|---|"]
    total = [0, 0]
    for family, words in FAMILIES.items():
        own = [
            (case, bool(set(case.expected) & set(outcome.found)))
            for case, outcome in cases
            if case.family == family and case.expected
        ]
        missed = "; ".join(case.name for case, found in own if not found) or "none"
        count = sum(found for _, found in own)
        lines.append(f"| {words} | {len(own)} | {count} | {missed} |")
        total = [total[0] + len(own), total[1] + count]
    lines += [f"| all | {total[0]} | {total[1]} ({100 * total[1] / total[0]:.0f} %) | {total[0] - total[1]} |", ""]
    lines += ["| good networks | number | with a warning or an error |", "|---|---|---|"]
    kinds = list(dict.fromkeys(case.family for case, _ in cases if not case.expected))
    for kind in kinds:
        alarms = [(case.name, outcome.alarms) for case, outcome in cases if case.family == kind and not case.expected]
        lines.append(f"| {kind} | {len(alarms)} | {'; '.join(name for name, told in alarms if told) or 'none'} |")
    whole = [outcome.alarms for case, outcome in cases if not case.expected]
    lines.append(f"| all | {len(whole)} | {sum(bool(told) for told in whole)} |")
    return "\n".join(lines)


def torchtest_says(case: Case, torchtest: Any) -> str:
    """Return ``found``, ``silent`` or ``refused`` (it cannot be built, by torch's or our own error) for torchtest's suite."""
    import torch

    from netwright.errors import NetwrightError
    from netwright.pipeline.asking import gather_all
    from netwright.pipeline.preflight import _batch
    from netwright.training.optimizer import make_optimizer, resolve_optimizer

    arguments = case.arguments()
    names = ("config", "model", "data", "loss", "code", "settings")
    handed = {name: arguments.pop(name, () if name in ("code", "settings") else None) for name in names}
    try:
        bench = gather_all(**handed, keywords=arguments).bench()
    except NetwrightError:
        return "refused"
    model, loss = copy.deepcopy((bench.network.module, bench.network.task.loss_function))
    batch = _batch(bench, 32)
    if len(batch.inputs) != 1 or batch.lengths is not None:
        return "refused"
    optimizer = make_optimizer(resolve_optimizer(bench.config.training.optimizer, torch.device("cpu")), model)
    try:
        torch.manual_seed(0)
        pair = [next(iter(batch.inputs.values())), batch.target]
        torchtest.test_suite(
            model, loss, optimizer, pair, test_vars_change=True, test_nan_vals=True, test_inf_vals=True, device="cpu"
        )
    except Exception as error:
        return f"found ({type(error).__name__})"
    return "silent"


def torchtest_table() -> str:
    """Return what torchtest's suite finds of the same cases, those of the data left out."""
    torchtest = importlib.import_module("torchtest")
    lines = ["| family | built | found by torchtest | found by `netwright check` |", "|---|---|---|---|"]
    for family in ("description", "batch", "code"):
        cases = [case for case in mistakes.CASES if case.family == family]
        said = {case.name: torchtest_says(case, torchtest) for case in cases}
        built = [case for case in cases if said[case.name] != "refused"]
        ours = sum(bool(set(case.expected) & set(run(case).found)) for case in built)
        theirs = sum(said[case.name].startswith("found") for case in built)
        lines.append(f"| {FAMILIES[family]} | {len(built)} of {len(cases)} | {theirs} | {ours} |")
        print(family, {name: word for name, word in said.items() if word.startswith("found")})
    said = {case.name: torchtest_says(case, torchtest) for case in good.GOOD}
    built = [name for name, word in said.items() if word != "refused"]
    alarms = [name for name in built if said[name].startswith("found")]
    ours = sum(bool(run(case).alarms) for case in good.GOOD if case.name in built)
    lines.append(f"| good networks (false alarms) | {len(built)} of {len(good.GOOD)} | {len(alarms)} | {ours} |")
    print("good", {name: said[name] for name in alarms})
    return "\n".join(lines)


def page(judged: Judged) -> str:
    """Return the page with a fresh table."""
    return between("corpus", table(judged), PAGE.read_text(encoding="utf-8"))


def main() -> None:
    """Run the corpus and write the page."""
    warnings.simplefilter("ignore")
    text = page([(case, run(case)) for case in (*mistakes.CASES, *good.GOOD)])
    if importlib.util.find_spec("torchtest"):
        text = between("torchtest", torchtest_table(), text)
    PAGE.write_text(re.sub(r"\n{3,}", "\n\n", text), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
