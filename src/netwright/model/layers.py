"""How each layer reads its input: number of axes, what they mean, and which size must meet. Imports no torch.

`Form` is the shape of one row with the meaning of its axes; `reading` is what a layer expects; `follow` is the meaning
after it. Floor 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from netwright.config.calls import Call

SEQUENCE_LAYERS = (
    "RNN", "LSTM", "GRU", "MultiheadAttention", "TransformerEncoderLayer", "LastStep", "MeanOverTime",
)  # fmt: skip
IMAGE_LAYERS = ("PixelShuffle", "PixelUnshuffle", "Unfold")
CODE_LAYERS = ("Embedding", "EmbeddingBag")
CHANNEL_LAYERS = ("GroupNorm", "LocalResponseNorm", "ChannelShuffle", "FeatureAlphaDropout")
MOVES = ("RandomMirror", "RandomShift", "RandomStretch", "RandomTurn")
LAYOUT_OF_RANK = {2: "NC", 4: "NCHW", 5: "NCDHW"}
SPATIAL = {1: "NCT", 2: "NCHW", 3: "NCDHW"}
AXES = {
    "NC": "(N, features)",
    "NTC": "(N, time, features)",
    "NCT": "(N, channels, time)",
    "NCHW": "(N, channels, height, width)",
    "NCDHW": "(N, channels, depth, height, width)",
}


@dataclass(frozen=True)
class Form:
    """Shape of one row without the batch axis, the meaning of the axes (None: as given), and whether whole codes."""

    shape: tuple[int, ...]
    layout: str | None
    codes: bool = False

    def __str__(self) -> str:
        return "(N, " + ", ".join(str(size) for size in self.shape) + ")" if self.shape else "(N,)"

    @property
    def size(self) -> int:
        """Numbers in a row."""
        total = 1
        for length in self.shape:
            total *= length
        return total


def layouts_read(call: Call) -> tuple[str, ...]:
    """Return the layouts a layer may read; empty where any will do."""
    name = call.name
    if name in SEQUENCE_LAYERS:
        return ("NTC",)
    if name == "Transpose":
        return ("NTC", "NCT")
    if name == "BatchNorm1d":
        return ("NC", "NCT")
    if name in ("EmbedColumns", "PeriodicEmbeddings"):
        return ("NC",)
    if name in MOVES:
        return tuple(SPATIAL.values())[1:] if name == "RandomTurn" else tuple(SPATIAL.values())
    if name in IMAGE_LAYERS:
        return ("NCHW",)
    if name in CHANNEL_LAYERS:
        return ("NC", "NCT", "NCHW", "NCDHW")
    if name[-1:] == "d" and name[-2:-1] in "123" and len(name) > 2:
        return (SPATIAL[int(name[-2])],)
    if name == "CrossMapLRN2d":
        return ("NCHW",)
    if name == "Linear" and "in_features" not in call.keywords:
        return ("NC", "NTC")
    return ()


def follow(call: Call, form: Form, rank: int) -> str | None:
    """Return the layout after a layer whose output has ``rank`` axes, the batch included."""
    name = call.name
    if name in ("LastStep", "MeanOverTime", "EmbeddingBag"):
        return "NC"
    if name == "Embedding" and rank == 3:
        return "NTC"
    if name == "Transpose":
        return {"NTC": "NCT", "NCT": "NTC"}.get(form.layout or "")
    if name == "Unfold":
        return "NCT"
    if name == "Flatten" and rank == 3 and form.layout in ("NCHW", "NCDHW") and call.keywords.get("start_dim") == 2:
        return "NCT"
    if name in ("Flatten", "Unflatten") or rank != len(form.shape) + 1:
        return LAYOUT_OF_RANK.get(rank)
    if form.layout is None:  # axes as given get the meaning the layer reads
        read = [layout for layout in layouts_read(call) if len(layout) == rank]
        return read[0] if len(read) == 1 else None
    return form.layout


def wanted_size(call: Call, form: Form) -> tuple[str, int, Any] | None:
    """Return (argument, the size the input has, the size the call expects) of a layer with an inferred argument.

    The size is the one a call without the argument gets; None for layers without such an argument.
    """
    keywords = call.keywords
    name = call.name
    shape = form.shape
    if name in ("Linear", "RNN", "LSTM", "GRU", "MultiheadAttention", "TransformerEncoderLayer"):
        argument = {"Linear": "in_features", "MultiheadAttention": "embed_dim", "TransformerEncoderLayer": "d_model"}
        key = argument.get(name, "input_size")
        return key, shape[-1], keywords.get(key, shape[-1])
    if name.startswith(("Conv", "BatchNorm", "InstanceNorm")) or name == "GroupNorm":
        key = "in_channels" if name.startswith("Conv") else "num_channels" if name == "GroupNorm" else "num_features"
        return key, shape[0], keywords.get(key, shape[0])
    return None


def mismatch_advice(call: Call, form: Form) -> str:
    """Return what to do when a layer cannot read what comes."""
    wanted = layouts_read(call)
    if form.layout is not None and form.layout in wanted and call.name != "Linear":
        return "the axes fit: mend the arguments of the layer"
    if call.name == "BatchNorm1d" and form.layout == "NTC":
        return "put Transpose() between, or write LayerNorm()"
    if call.name == "Linear" or "NC" in wanted:
        if form.layout == "NTC":
            return "put LastStep() or MeanOverTime() between"
        if len(form.shape) > 1:
            return f"put Flatten() between ({form.size} features)"
    if {form.layout, *wanted} >= {"NTC", "NCT"} or (form.layout in ("NTC", "NCT") and len(form.shape) == 2):
        if wanted and wanted[0] in ("NTC", "NCT"):
            return "put Transpose() between"
    missing_channel = {("NCT", 1), ("NCHW", 2), ("NCDHW", 3)}
    for layout in wanted:
        if (layout, len(form.shape)) in missing_channel:
            first = form.shape[0]
            return (
                f"if the channel axis is missing put Unflatten(1, (1, {first})) between, or set data.layout = "
                f'"{layout.replace("C", "")}"'
            )
    if wanted:
        return f"reshape to {AXES[wanted[0]]} with Unflatten(1, (...)) or choose another layer"
    return "change the size or choose another layer"
