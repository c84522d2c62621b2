"""Layers that would read padding are refused, in words that say what to write; so are lengths that come to nothing."""

from __future__ import annotations

import pytest
import torch

from netwright.config.calls import parse_call
from netwright.model.build import Sizes, construct, resolve
from netwright.model.layers import Form
from netwright.model.masked import Masked
from netwright.model.padding import unmaskable

NTC, NCT, CODES = Form((30, 6), "NTC"), Form((6, 30), "NCT"), Form((30,), None, True)
MEAN = ["MeanOverTime()", "Linear()"]
POOLED = ["AdaptiveAvgPool1d(1)", "Flatten()", "Linear()"]
STATISTICS = "it would count padding in its statistics; write {} in its place"


def problem(texts: list[str], form: Form, lengths: list[int]) -> tuple[str, str] | None:
    """Return what hinders a network on sequences of some lengths."""
    calls = resolve([parse_call(text, "layers") for text in texts], form, Sizes(2, 10)).calls
    return unmaskable(Masked(*construct(calls), channels_first=form.layout == "NCT"), torch.tensor(lengths))


@pytest.mark.parametrize(
    ("texts", "form", "path", "reason"),
    [
        (["Conv1d(8, 3)", "BatchNorm1d()", *POOLED], NCT, "1", STATISTICS.format("Transpose(), LayerNorm(), Transpose()")),
        (["InstanceNorm1d()", *POOLED], NCT, "0", STATISTICS.format("Transpose(), LayerNorm(), Transpose()")),
        (["GroupNorm(2)", *POOLED], NCT, "0", STATISTICS.format("Transpose(), LayerNorm(), Transpose()")),
        (["LayerNorm()", *POOLED], NCT, "0", STATISTICS.format("Transpose(), LayerNorm(), Transpose()")),
        (["LayerNorm([30, 6])", *MEAN], NTC, "0", STATISTICS.format("LayerNorm()")),
        (["Residual([Tanh(), BatchNorm1d()])", *POOLED], NCT, "0.1",
         STATISTICS.format("Transpose(), LayerNorm(), Transpose()")),
        (["Flatten()", "Linear()"], NTC, "0",
         "it would put padding among the features; put LastStep() or MeanOverTime() before it"),
        (["Flatten()", "Linear()"], NCT, "0", "it would put padding among the features; put AdaptiveAvgPool1d(1) before it"),
        (["EmbeddingBag(4)", "Linear()"], CODES, "0",
         "it would count padding as codes; write Embedding(), MeanOverTime() in its place"),
        (["Upsample(scale_factor=2)", *POOLED], NCT, "0",
         "it would read padding as data; put AdaptiveAvgPool1d(1) before it, or choose another layer"),
        (["ConvTranspose1d(4, 3)", *POOLED], NCT, "0",
         "it would read padding as data; put AdaptiveAvgPool1d(1) before it, or choose another layer"),
        (["Unflatten(2, (2, 3))", "Flatten()", "Linear()"], NTC, "0",
         "it would read padding as data; put LastStep() or MeanOverTime() before it, or choose another layer"),
        (["Linear(30, 5)", *POOLED], NCT, "0", "it would mix the steps, padding included; put Transpose() before it"),
        (["Softmax(dim=1)", *MEAN], NTC, "0", "it runs along time, padding included; choose another axis"),
        (["GLU()", *POOLED], NCT, "0", "it runs along time, padding included; choose another axis"),
        (["PReLU(num_parameters=30)", *MEAN], NTC, "0",
         "num_parameters=30 would be one slope per step; leave num_parameters out"),
        (["Embedding(4, scale_grad_by_freq=True)", *MEAN], CODES, "0",
         "scale_grad_by_freq=True would count padding; leave it out"),
        (['Conv1d(8, 3, padding=1, padding_mode="circular")', *POOLED], NCT, "0",
         "padding_mode='circular' would read padding as data; leave padding_mode out"),
        (["MaxPool1d(2, ceil_mode=True)", *POOLED], NCT, "0", "ceil_mode=True would read padding as data; leave ceil_mode out"),
        (["AvgPool1d(2, ceil_mode=True)", *POOLED], NCT, "0", "ceil_mode=True would read padding as data; leave ceil_mode out"),
        (["AvgPool1d(3, padding=1, count_include_pad=False)", *POOLED], NCT, "0",
         "count_include_pad=False would count padding; leave it out"),
        (["AdaptiveAvgPool1d(4)", "Flatten()", "Linear()"], NCT, "0",
         "it would divide padding among its outputs; write 1 as its size"),
        (["AdaptiveMaxPool1d(2)", "Flatten()", "Linear()"], NCT, "0",
         "it would divide padding among its outputs; write 1 as its size"),
        (["Parallel([GRU(4), Linear(4)], dim=1)", *MEAN], NTC, "0",
         "it joins its branches along time, behind the padding of the first; leave dim out"),
        (["Parallel([Conv1d(4, 1), Conv1d(4, 3, padding=1)], dim=2)", *POOLED], NCT, "0",
         "it joins its branches along time, behind the padding of the first; leave dim out"),
    ],
)  # fmt: skip
def test_what_would_read_padding_is_refused_with_what_to_do(texts: list[str], form: Form, path: str, reason: str) -> None:
    assert problem(texts, form, [9, 30]) == (path, reason)


@pytest.mark.parametrize(
    ("texts", "lengths", "path", "left"),
    [
        (["Conv1d(8, 3)", "Conv1d(8, 5)", *POOLED], [30, 6, 9], "1", 4),
        (["Sequential([Conv1d(4, 5), MaxPool1d(2)])", *POOLED], [5, 30], "0.1", 1),
        (["ZeroPad1d((-4, 0))", *POOLED], [4, 30], "0", 4),
    ],
)
def test_the_layer_that_leaves_nothing_of_the_shortest_sequence_is_named(
    texts: list[str], lengths: list[int], path: str, left: int
) -> None:
    assert problem(texts, NCT, lengths) == (
        path,
        f"nothing is left of the shortest sequence ({left} steps before this layer); expected one step at least; use a smaller "
        "kernel, add padding, or leave short sequences out",
    )
    assert problem(texts, NCT, [30, min(lengths) + 1]) is None


def test_branches_that_meet_for_some_lengths_only_are_refused() -> None:
    branches = ["Parallel([Conv1d(4, 2, stride=2), Conv1d(4, 1, stride=2)])", *POOLED]
    assert problem(branches, NCT, [4, 6, 30]) is None
    assert problem(branches, NCT, [4, 5, 30]) == (
        "0",
        "it joins what has not the same steps any more; make strides and padding equal",
    )


def test_a_shortcut_around_other_lengths_is_refused() -> None:
    shortcut = ["Residual([Conv1d(6, 1, stride=2), ZeroPad1d((0, 15))])", *POOLED]
    assert problem(shortcut, NCT, [30, 30]) is None
    found = problem(shortcut, NCT, [10, 30])
    assert found == ("0", "it joins what has not the same steps any more; make strides and padding equal")


def test_after_time_has_ended_every_layer_is_allowed_and_branches_may_have_had_any_length() -> None:
    text_network = [
        "Parallel([Sequential([Conv1d(4, 3), AdaptiveMaxPool1d(1)]), Sequential([Conv1d(4, 5), AdaptiveMaxPool1d(1)])])",
        "BatchNorm1d()", "Flatten()", "BatchNorm1d()", "Unflatten(1, (2, 4))", "GroupNorm(2)", "Flatten()", "Linear()",
    ]  # fmt: skip
    assert problem(text_network, NCT, [7, 30]) is None
