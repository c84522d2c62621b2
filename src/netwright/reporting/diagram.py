"""A drawing of the network as SVG: one box per layer, top to bottom, containers as frames around their layers.

Built from the records of a run's summary alone, as text, with everything escaped. The drawing stands on its own as a
`.svg` file: colours are written on the shapes for plain viewers, and a style sheet of its own, kept to its own class
names, changes them on a dark background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from netwright.reporting.families import FAMILIES, arguments_text, family_of, layer_name
from netwright.reporting.wording import as_number, plural, shape_text, shortened

_WIDTH = 440.0
_MARGIN = 14.0
_INDENT = 14.0
_BOX = 48.0
_HINTS = {"Residual": "· x + layers(x)", "Parallel": "· side by side, then joined"}
_DEEPEST = 6  # frames inside frames are drawn no narrower than this
_MONO = 6.65  # the width of one character of the small fixed-width text


@dataclass
class _Node:
    """A layer, or a container with the layers in it."""

    path: str
    record: Mapping[str, object] | None
    children: list[_Node] = field(default_factory=list)


@dataclass
class _Drawing:
    """What has been drawn so far and how far down it reaches."""

    y: float
    gap: float
    parts: list[str] = field(default_factory=list)
    families: list[str] = field(default_factory=list)


def diagram_svg(
    layers: Sequence[Mapping[str, object]], input_shape: Sequence[int], title: str, *, styled: bool = True
) -> str:
    """Draw a network from the layer records of its summary.

    Args:
        layers: Records with ``path``, ``text``, ``output`` (sizes of one row) and ``parameters``, in the order of
            the forward pass; a path such as ``2.0`` lies inside ``2``, which may have a record of its own or none.
        input_shape: Sizes of one input row, without the batch.
        title: The heading, and the name for readers who cannot see the drawing.
        styled: Whether the drawing brings its own colours for a dark background; a page that has `dark_rules` needs none.

    Returns:
        One ``<svg>`` element, a file of its own once saved.
    """
    drawing = _Drawing(y=44.0, gap=20.0 if len(layers) <= 60 else 14.0)
    _draw_end(drawing, f"input {shape_text(input_shape)}")
    nodes = _nested(layers)
    for node in nodes:
        _draw_arrow(drawing)
        _draw_node(drawing, node, 0)
    _draw_arrow(drawing)
    _draw_end(drawing, f"output {shape_text(_output_of(nodes, input_shape))}")
    _draw_legend(drawing)
    heading = escape(shortened(title, 60))
    return "\n".join(
        [
            f'<svg class="netwright-diagram" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {drawing.y:g}" '
            f'width="{_WIDTH:g}" height="{drawing.y:g}" role="img" aria-label="{escape(title)}" '
            "font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif\">",
            *(["<style>@media screen and (prefers-color-scheme:dark){" + dark_rules("") + "}</style>"] if styled else []),
            f'<text class="nd-quiet" x="{_WIDTH / 2:g}" y="24" text-anchor="middle" font-size="15" font-weight="600" '
            f'fill="#5b6570">{heading}</text>',
            *drawing.parts,
            "</svg>",
        ]
    )


def _nested(layers: Sequence[Mapping[str, object]]) -> list[_Node]:
    """Put records under their containers; a container without a record of its own gets an empty node."""
    root = _Node("", None)
    for record in layers:
        path = str(record.get("path", ""))
        steps = path.split(".")
        parent = root
        for depth in range(1, len(steps)):
            prefix = ".".join(steps[:depth])
            if not parent.children or parent.children[-1].path != prefix:
                parent.children.append(_Node(prefix, None))
            parent = parent.children[-1]
        parent.children.append(_Node(path, record))
    return root.children


def _output_of(nodes: Sequence[_Node], otherwise: object) -> object:
    """Return the output of the last layer, the input's shape where there is no layer."""
    if not nodes:
        return otherwise
    last = nodes[-1]
    return last.record.get("output") if last.record is not None else _output_of(last.children, None)


def _parameters_of(node: _Node) -> float:
    """Return a node's parameters: its own figure or its children's together, the larger."""
    own = as_number(node.record.get("parameters")) if node.record is not None else None
    return max(own or 0.0, sum(_parameters_of(child) for child in node.children))


def _draw_node(drawing: _Drawing, node: _Node, depth: int) -> None:
    """Draw a layer as a box, a container as a frame around its children."""
    if not node.children:
        _draw_box(drawing, node, depth)
        return
    place = len(drawing.parts)
    top = drawing.y
    left = _MARGIN + _INDENT * min(depth, _DEEPEST)
    width = _WIDTH - 2 * left
    drawing.y += 28
    text = str(node.record.get("text", "")) if node.record is not None else ""
    kind = layer_name(text)
    for number, child in enumerate(node.children):
        if number and kind == "Parallel":
            drawing.y += drawing.gap / 2
        elif number:
            _draw_arrow(drawing)
        _draw_node(drawing, child, depth + 1)
    drawing.y += 12
    right = plural(_parameters_of(node), "parameter") if _parameters_of(node) else ""
    room = int((width - 30 - 5.6 * len(right)) / 7.2)
    name = shortened(" ".join(part for part in (node.path, kind, _HINTS.get(kind, "")) if part), max(room, 8))
    drawing.parts[place:place] = [
        f'<rect class="nd-frame" x="{left:g}" y="{top:g}" width="{width:g}" height="{drawing.y - top:g}" rx="12" '
        'fill="#8a94a0" fill-opacity="0.07" stroke="#9aa4b0" stroke-dasharray="4 4"/>',
        f'<text class="nd-quiet" x="{left + 14:g}" y="{top + 18:g}" font-size="12" font-weight="600" fill="#5b6570">'
        f"{escape(name)}<title>{escape(text or node.path)}</title></text>",
        f'<text class="nd-quiet" x="{left + width - 14:g}" y="{top + 18:g}" font-size="11" text-anchor="end" '
        f'fill="#5b6570">{right}</text>',
    ]


def _draw_box(drawing: _Drawing, node: _Node, depth: int) -> None:
    """Draw one layer: name and output shape above, arguments and parameters below."""
    record = node.record or {}
    text = str(record.get("text", ""))
    family = family_of(text)
    if family not in drawing.families:
        drawing.families.append(family)
    look = FAMILIES[family]
    left = _MARGIN + _INDENT * min(depth, _DEEPEST)
    width = _WIDTH - 2 * left
    inner = left + 18
    end = left + width - 14
    count = as_number(record.get("parameters"))
    right = plural(count, "parameter") if count else ""
    shape = shortened(shape_text(record.get("output")), 30)
    room = end - inner
    name_room = int((room - _MONO * len(shape)) / 8) - len(node.path) // 2 - 2
    name = shortened(layer_name(text) or "layer", max(name_room, 6))
    written = shortened(arguments_text(text), max(int((room - 6.2 * len(right)) / _MONO) - 2, 6))
    top = drawing.y
    first = top + (20 if written or right else 29)
    drawing.parts += [
        f'<g class="nd-{family}"><title>{escape(f"{node.path}: {text}")}</title>',
        f'<rect class="nd-box" x="{left:g}" y="{top:g}" width="{width:g}" height="{_BOX:g}" rx="9" '
        f'fill="{look.light}" stroke="{look.strong}" stroke-opacity="0.45"/>',
        f'<rect class="nd-bar" x="{left + 6:g}" y="{top + 9:g}" width="4" height="{_BOX - 18:g}" rx="2" '
        f'fill="{look.strong}"/>',
        f'<text class="nd-ink" x="{inner:g}" y="{first:g}" font-size="13.5" font-weight="600" fill="#1b2129">'
        f'{escape(name)}<tspan class="nd-soft" dx="7" font-size="11" font-weight="400" fill="#5b6570">'
        f"{escape(shortened(node.path, 24))}</tspan></text>",
        _mono(inner, top + 37, "start", "nd-soft", "#5b6570", written),
        _mono(end, first, "end", "nd-ink", "#1b2129", shape),
        f'<text class="nd-soft" x="{end:g}" y="{top + 37:g}" font-size="11" text-anchor="end" fill="#5b6570">'
        f"{right}</text></g>",
    ]
    drawing.y += _BOX


def _mono(x: float, y: float, anchor: str, name: str, colour: str, text: str) -> str:
    """Return a line of small fixed-width text."""
    return (
        f'<text class="{name}" x="{x:g}" y="{y:g}" font-size="11" text-anchor="{anchor}" fill="{colour}" '
        f"font-family=\"ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace\">{escape(text)}</text>"
    )


def _draw_end(drawing: _Drawing, text: str) -> None:
    """Draw the rounded end that names the shape going in or coming out."""
    words = shortened(text, 60)
    width = max(140.0, _MONO * len(words) + 36)
    left = (_WIDTH - width) / 2
    drawing.parts += [
        f'<rect class="nd-end" x="{left:g}" y="{drawing.y:g}" width="{width:g}" height="30" rx="15" fill="#eef1f4" '
        'stroke="#9aa4b0"/>',
        _mono(_WIDTH / 2, drawing.y + 19, "middle", "nd-ink", "#1b2129", words),
    ]
    drawing.y += 30


def _draw_arrow(drawing: _Drawing) -> None:
    """Draw the arrow to the next box."""
    centre, top, bottom = _WIDTH / 2, drawing.y + 2, drawing.y + drawing.gap - 3
    drawing.parts.append(
        f'<path class="nd-arrow" d="M{centre:g} {top:g}V{bottom:g}m-4 -4.5l4 4.5l4 -4.5" fill="none" stroke="#8a94a0" '
        'stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round"/>'
    )
    drawing.y += drawing.gap


def _draw_legend(drawing: _Drawing) -> None:
    """Draw the colours of the families that occur, as many in a line as fit, each line centred."""
    lines: list[list[str]] = []
    used = _WIDTH
    for family in (name for name in FAMILIES if name in drawing.families):
        width = 22 + 5.9 * len(family)
        if used + width > _WIDTH - 2 * _MARGIN:
            lines.append([])
            used = 0.0
        lines[-1].append(family)
        used += width
    drawing.y += 24
    for line in lines:
        x = (_WIDTH - sum(22 + 5.9 * len(family) for family in line)) / 2 + 6
        for family in line:
            drawing.parts.append(
                f'<g class="nd-{family}"><rect class="nd-bar" x="{x:g}" y="{drawing.y:g}" width="10" height="10" '
                f'rx="3" fill="{FAMILIES[family].strong}"/><text class="nd-quiet" x="{x + 15:g}" y="{drawing.y + 9:g}" '
                f'font-size="11" fill="#5b6570">{family}</text></g>'
            )
            x += 22 + 5.9 * len(family)
        drawing.y += 19
    drawing.y += 6


def dark_rules(before: str) -> str:
    """Return the style rules that change the colours on a dark background; they reach drawings of networks only.

    Args:
        before: What each selector begins with, such as ``:root[data-theme="dark"] ``; empty for none.
    """
    own = f"{before}.netwright-diagram"
    rules = [
        f"{own} .nd-ink{{fill:#eef1f5}}",
        f"{own} .nd-soft{{fill:#aeb7c2}}",
        f"{own} .nd-quiet{{fill:#a3adb9}}",
        f"{own} .nd-end{{fill:#252b33;stroke:#5a6571}}",
        f"{own} .nd-arrow{{stroke:#76818d}}",
        f"{own} .nd-frame{{stroke:#5a6571}}",
    ]
    for family, look in FAMILIES.items():
        rules.append(f"{own} .nd-{family} .nd-box{{fill:{look.dark};stroke:{look.bright}}}")
        rules.append(f"{own} .nd-{family} .nd-bar{{fill:{look.bright}}}")
    return "".join(rules)
