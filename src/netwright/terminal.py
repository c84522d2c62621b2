"""What a person sees on the terminal: progress, the test, the layers, the runs. rich is imported when it draws.

Floor 17.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import click

from netwright.numerals import counted, figure
from netwright.reporting.sentences import PRINCIPAL, headline_sentence, principal_metric

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

    from netwright.pipeline.preflight import Preflight

COLOURS = {"note": "yellow", "warning": "bright_red"}  # of remarks
SEVERITY_COLOURS = {"error": "red", "warning": "bright_red", "note": "yellow"}
WIDE = 140  # characters, where no terminal tells
ROUNDING = 1e-9  # of an importance, below which it is none
LESSON = 96  # characters of a line of an explanation


@final
class Screen:
    """Shows remarks and epochs: a table with a bar and the time left on a terminal, plain lines elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Progress | None = None
        self._columns: list[str] = []

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *problem: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, record: Any) -> None:
        if self._quiet:
            return
        try:
            self._show(record)
        except BrokenPipeError:  # the reader left (| head); the run goes on
            self._quiet = True

    def _show(self, record: Any) -> None:
        if not hasattr(record, "epoch") or not sys.stdout.isatty():
            if self._bar is not None:
                self._bar.stop()
                self._bar = None
            kind = getattr(record, "kind", "")
            colour = COLOURS.get(kind)
            click.echo(click.style(str(record), fg=colour) if colour else str(record))
            return
        self._show_epoch(record)

    def _show_epoch(self, record: Any) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        figures = record.columns()
        names = [
            name for name in figures if name not in ("epoch", "step", "learning_rate", "train_seconds", "valid_seconds")
        ]
        if self._bar is None:
            self._bar = Progress(
                TextColumn("epoch"), BarColumn(), MofNCompleteColumn(), TextColumn("time left"), TimeRemainingColumn()
            )
            self._bar.add_task("epoch", total=record.of_epochs)
            self._bar.start()
            heading = "  ".join(f"{name:>14}" for name in names)
            self._bar.console.print(f"[bold]{'epoch':>6}  {heading}  {'seconds':>8}[/bold]", highlight=False)
        values = "  ".join(f"{figure(figures[name], 5):>14}" for name in names)
        seconds = record.train_seconds + record.valid_seconds
        line = f"{record.epoch:>6}  {values}  {seconds:>8.2f}"
        self._bar.console.print(f"[green]{line}  best[/green]" if record.best else line, highlight=False)
        self._bar.update(self._bar.task_ids[0], completed=record.epoch)


def print_test(test: dict[str, Any]) -> None:
    """Print the content of test.json."""
    click.echo(
        f"test: {counted(test['n'], 'row')}, weights {test['weights']}, {counted(test['looks'], 'look')} at these rows so far"
    )
    for name, entry in test["metrics"].items():
        between = f"   95 % interval {figure(entry['low'])} to {figure(entry['high'])}" if "low" in entry else ""
        click.echo(f"  {name:<22} {figure(entry['value'])}{between}")
    if why := headline_sentence(test):
        click.echo(f"  {why}")
    for line in _examined_lines(test):
        click.echo(f"  {line}")
    _print_baselines(test)
    _print_members(test)
    for told in test.get("notes", []):
        click.echo(told)


def _print_baselines(test: dict[str, Any]) -> None:
    """Print what models without a network reach on the same rows, and by how much the network differs."""
    found = test.get("baselines") or {}
    names = (principal_metric(test), *PRINCIPAL)
    name = next((one for one in names if any(one in entry["metrics"] for entry in found.values())), None)
    if name is None:
        return
    click.echo(f"beside, fitted on the same train rows ({name}, and the network less it):")
    width = max(len(entry["name"]) for entry in found.values())
    for entry in found.values():
        gap = entry["difference"].get(name)
        if gap is not None:
            between = (
                f"   95 % interval {figure(gap['low'], 4, '+')} to {figure(gap['high'], 4, '+')}" if "low" in gap else ""
            )
            note = f"   ({entry['note']})" if "note" in entry else ""
            click.echo(
                f"  {entry['name']:<{width}} {figure(entry['metrics'][name])}   {figure(gap['value'], 4, '+')}{between}{note}"
            )


def _print_members(test: dict[str, Any]) -> None:
    """Print what the members of an ensemble reach on the same rows, and by how much the ensemble differs from their mean."""
    members = test.get("members")
    if not members:
        return
    click.echo("its members on the same rows, their mean, and the ensemble less it:")
    for name, mean in members["mean"].items():
        values, gap = [one[name] for one in members["each"]], members["difference"][name]
        between = f"   95 % interval {figure(gap['low'], 4, '+')} to {figure(gap['high'], 4, '+')}" if "low" in gap else ""
        among = f"{figure(min(values))} to {figure(max(values))}, mean {figure(mean)}"
        click.echo(f"  {name:<22} {among}   {figure(gap['value'], 4, '+')}{between}")


def _examined_lines(test: dict[str, Any]) -> list[str]:
    """Return what was examined beside the figures, a line each: calibration, threshold, coverage, what the network leans on."""
    lines = []
    if calibration := test.get("calibration"):
        heat = calibration.get("temperature")
        before = f" ({heat['ece_before']:.3f} before temperature {heat['value']:.3g})" if heat else ""
        lines.append(f"{'calibration error':<22} {calibration['ece']:.3f}{before}, Brier score {calibration['brier']:.4g}")
    lines += _balance_lines(test.get("balance"))
    if threshold := test.get("threshold"):
        name = threshold["for"]
        at, half = figure(threshold["metrics"][name]), figure(threshold["at_half"][name])
        lines.append(f"{'threshold':<22} {threshold['value']:.3g}, chosen on valid rows: {name} {at}, at 0.5 {half}")
    if intervals := test.get("conformal"):
        widths = ", ".join(f"+-{figure(entry['half_width'])}" for entry in intervals["outputs"][:4])
        share = intervals["coverage"]["value"]
        lines.append(
            f"{'intervals':<22} {widths} hold {share:.1%} of the test values; {intervals['level']:.1%} were asked for"
        )
    if columns := [entry for entry in (test.get("importance") or {}).get("columns", []) if entry["value"] > ROUNDING][:4]:
        worth = ", ".join(f"{entry['column']} {figure(entry['value'], 3)}" for entry in columns)
        word = "rises" if test["importance"]["metric"] == "rmse" else "falls"
        lines.append(f"{'most important':<22} {worth} ({test['importance']['metric']} {word} so much without)")
    return lines


def _balance_lines(balance: dict[str, Any] | None) -> list[str]:
    """Return what became of the rarest class, and what the changed prior did to probabilities."""
    if not balance or not balance["classes"]:
        return []
    rare = balance["classes"][0]
    said = f", mean probability {rare['mean_probability']:.2%}" if "mean_probability" in rare else ""
    lines = [
        f"{'rarest class':<22} {rare['class']}: {rare['share']:.2%} of the rows, predicted for {rare['predicted']:.2%}{said}; "
        f"recall {rare['recall']:.3f}, average precision {rare['average_precision']:.3f}"
    ] * (len(balance["classes"]) > 1)  # of one class nothing can be told
    if undone := balance.get("undone"):
        loss = undone["log_loss"]
        lines.append(
            f"{'prior undone':<22} divided by their weights, probabilities have a log loss of {loss['after']:.4g}, not "
            f"{loss['before']:.4g}, and a mean of {undone['mean_probability'][rare['class']]:.2%} for {rare['class']}"
        )
    return [*lines, *([f"{'focal loss':<22} {balance['remark']}"] if "remark" in balance else [])]


def print_preflight(found: Preflight) -> None:
    """Print findings in groups; the severity is coloured."""
    for line in str(found).splitlines():
        word = line.split()[0] if line.startswith("  ") and line[2:3].strip() else ""
        colour = SEVERITY_COLOURS.get(word)
        click.echo(line.replace(word, click.style(word, fg=colour, bold=True), 1) if colour else line)


def print_lesson(lines: Sequence[Any]) -> None:
    """Print lines of code with what they do below them: in colours on a terminal, plain elsewhere."""
    coloured = sys.stdout.isatty()
    for line in lines:
        indent = " " * (len(line.code) - len(line.code.lstrip()) + 4 * line.code.endswith(":"))
        click.echo(click.style(line.code, bold=True) if coloured else line.code)
        for text in line.comment.splitlines():
            for part in [text] if text.startswith(" ") else textwrap.wrap(text, LESSON):
                click.echo(click.style(f"{indent}# {part}", fg="green") if coloured else f"{indent}# {part}")


def print_replay(found: dict[str, Any]) -> None:
    """Print a step that failed, layer by layer."""
    from rich import box
    from rich.table import Table

    told = found["diagnosis"]
    click.echo(f"step {found['step']} (epoch {found['epoch']}), {counted(found['rows'], 'row')}: {found['then']}")
    table = Table(box=box.SIMPLE, header_style="bold")
    for name in ("layer", "", "largest output", "largest gradient"):
        table.add_column(name, justify="left" if name in ("layer", "") else "right", no_wrap=True)
    for layer in told["layers"]:
        table.add_row(
            layer["path"],
            layer["kind"],
            _largest(layer["largest"], layer["finite"]),
            _largest(layer["gradient"], layer["gradient_finite"]),
        )
    _draw(table)
    click.echo(f"loss {told['loss']}" if told["error"] is None else f"error {told['error']}")
    if told["first_bad"]:
        click.echo(f"it begins with {told['first_bad']}")
    if told["rows"]:
        click.echo(f"rows that are not finite: {', '.join(map(str, told['rows']))}")
    click.echo(f"again: {found['now']}" if found["reproduced"] else "again: the step works")


def _largest(value: float | None, finite: bool) -> str:
    """Return a magnitude, and whether others are not finite."""
    if value is None:
        return ""
    return figure(value) if finite else f"not finite (else {figure(value)})"


def print_layers(described: dict[str, Any], shape: Sequence[int]) -> None:
    """Print a summary of a network, and the shape of one row that comes in."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, show_footer=True, header_style="bold", footer_style="bold")
    table.add_column("", "")
    table.add_column("layer", "total", overflow="fold")
    table.add_column("output", "", no_wrap=True)
    for name, total in (("parameters", "parameters"), ("multiply-adds", "multiply_adds"), ("memory", "memory_bytes")):
        value = _bytes(described[total]) if total == "memory_bytes" else f"{described[total]:,}"
        table.add_column(name, value, justify="right", no_wrap=True)
    table.add_row("", "input", _shape(shape), "", "", "")
    for layer in described["layers"]:
        table.add_row(
            layer["path"],
            layer["text"],
            _shape(layer["output"]),
            f"{layer['parameters']:,}",
            f"{layer['multiply_adds']:,}",
            _bytes(layer["memory_bytes"]),
        )
    _draw(table)
    frozen = described["parameters"] - described["trainable"]
    click.echo(
        f"{described['trainable']:,} parameters are trained"
        + (f" in epoch 1, {frozen:,} are frozen" if frozen else "")
        + "; multiply-adds and memory are of one row (memory: float32 outputs, the total with the parameters)"
    )


def print_runs(found: Sequence[dict[str, Any]]) -> None:
    """Print runs with their figures, a line each."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, header_style="bold")
    for name in ("run", "status", "task", "epochs", "best epoch", "valid", "test"):
        table.add_column(name, no_wrap=name == "run")
    for entry in found:
        best, test = entry["best"] or {}, entry["test"]
        main = next((name for name in (entry["headline"], *PRINCIPAL) if name in test), None)
        table.add_row(
            Path(entry["run"]).name,
            entry["status"] + (f", {counted(entry['runs'], 'run')}" if "runs" in entry else ""),
            entry["task"] or "",
            str(entry["epochs"] or 0),
            str(best.get("epoch", "")),
            f"{best['monitor']} {figure(best['value'])}" if best else "",
            f"{main} {figure(test[main])}" if main else "",
        )
    _draw(table)


def _shape(sizes: Sequence[int]) -> str:
    return "(" + ", ".join(["N", *map(str, sizes)]) + ")"


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _draw(table: Table) -> None:
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    console.print(table, highlight=False, markup=False)
