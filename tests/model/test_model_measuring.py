"""The form a small layer gives on the CPU is the one it gives on the meta device, and nothing is drawn for it."""

from __future__ import annotations

import pytest
from torch import nn

from netwright.config.calls import parse_call
from netwright.errors import ConfigError
from netwright.model import measuring
from netwright.model.build import Sizes, resolve
from netwright.model.layers import Form
from netwright.seeding import drawn_from

NC, NTC, NCT = Form((6,), "NC"), Form((5, 4), "NTC"), Form((4, 8), "NCT")
NCHW, NCDHW, CODES = Form((2, 8, 8), "NCHW"), Form((2, 4, 4, 4), "NCDHW"), Form((6,), "NC", codes=True)
CASES = (
    ("Linear(8)", NC), ("Linear(8)", NTC), ("ReLU()", NCHW), ("Dropout(0.5)", NC), ("BatchNorm1d()", NC), ("GLU()", NC),
    ("BatchNorm2d()", NCHW), ("LayerNorm()", NTC), ("Conv1d(6, 3)", NCT), ("Conv2d(6, 3, padding='same')", NCHW),
    ("Conv2d(6, 3, padding=2, padding_mode='circular', stride=2)", NCHW), ("Conv3d(6, 2, dilation=2)", NCDHW),
    ("ConvTranspose2d(3, 2, stride=2)", NCHW), ("MaxPool2d(3, ceil_mode=True)", NCHW), ("AvgPool3d(2)", NCDHW),
    ("AdaptiveAvgPool2d(1)", NCHW), ("Flatten()", NCHW), ("Unflatten(1, (2, 3))", NC), ("LSTM(8, bidirectional=True)", NTC),
    ("GRU(8, num_layers=2, dropout=0.1)", NTC), ("MultiheadAttention(2)", NTC), ("TransformerEncoderLayer(2)", NTC),
    ("LastStep()", NTC), ("Transpose()", NTC), ("Embedding(50, 8)", CODES), ("Upsample(scale_factor=2)", NCHW),
    ("InstanceNorm2d(affine=True, track_running_stats=True)", NCHW), ("RReLU()", NC), ("Softmax()", NC),
)  # fmt: skip
REFUSED = (
    ("Conv2d(6, 9)", NCHW), ("MaxPool2d(20)", NCHW), ("Conv2d(6, 3, groups=5)", NCHW), ("GLU()", Form((5,), "NC")),
    ("Unflatten(1, (4, 3))", NC), ("LayerNorm(7)", NC), ("Conv2d(6, 3, padding=9, padding_mode='circular')", NCHW),
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


def form_of(text: str, form: Form) -> Form:
    return resolve([parse_call(text, "0")], form, Sizes(3, codes=50)).form


@pytest.mark.parametrize(("text", "form"), CASES, ids=[f"{form.layout}-{text}" for text, form in CASES])
def test_a_layer_has_the_form_that_the_meta_device_tells(text: str, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    before = drawn_from()
    measured = form_of(text, form)
    assert drawn_from() == before
    monkeypatch.setattr(measuring, "LARGEST_ROW", 0)
    assert measured == form_of(text, form)


@pytest.mark.parametrize(("text", "form"), REFUSED, ids=[text for text, _ in REFUSED])
def test_a_layer_is_refused_in_the_words_of_the_meta_device(text: str, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as found:
        form_of(text, form)
    monkeypatch.setattr(measuring, "LARGEST_ROW", 0)
    with pytest.raises(ConfigError) as told:
        form_of(text, form)
    assert str(found.value) == str(told.value)


def test_a_large_layer_takes_no_memory() -> None:
    assert form_of("Linear(1_000_000)", Form((1_000_000,), "NC")).shape == (1_000_000,)
    assert form_of("Conv2d(64, 3, padding=1)", Form((64, 4096, 4096), "NCHW")).shape == (64, 4096, 4096)


def test_modules_without_weights_draw_nothing_and_others_draw_again_afterwards() -> None:
    with measuring.without_weights():
        assert {value.device.type for value in nn.Embedding(4, 2).state_dict().values()} == {"meta"}
    assert nn.Embedding(4, 2).weight.abs().sum() > 0
