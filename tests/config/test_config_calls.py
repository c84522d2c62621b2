"""The grammar of call texts: what it reads, what it says back, and what it never does."""

from __future__ import annotations

import contextlib
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from netwright.config.calls import CONTAINERS, DEEPEST_NESTING, LONGEST_TEXT, Call, parse_call
from netwright.errors import ConfigError, NetwrightError, SafetyError


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("Linear()", Call("Linear")),
        ("Linear(64)", Call("Linear", (64,))),
        ("Linear(784, 128)", Call("Linear", (784, 128))),
        ("  Linear( 64 ,)  ", Call("Linear", (64,))),
        ("Linear(\n  64,\n  bias=False,\n)", Call("Linear", (64,), (("bias", False),))),
        ("Linear(64)  # hidden", Call("Linear", (64,))),
        ("Conv2d(32, kernel_size=3)", Call("Conv2d", (32,), (("kernel_size", 3),))),
        ("Conv2d(32, kernel_size=(3, 5))", Call("Conv2d", (32,), (("kernel_size", (3, 5)),))),
        ("Conv2d(32, (3,))", Call("Conv2d", (32, (3,)))),
        ("Conv2d(32, [3, 5])", Call("Conv2d", (32, [3, 5]))),
        ("Unflatten(1, ((1, 2), [3, (4,)]))", Call("Unflatten", (1, ((1, 2), [3, (4,)])))),
        ("Flatten(-1)", Call("Flatten", (-1,))),
        ("Flatten(+1, - -2)", Call("Flatten", (1, 2))),
        ("LeakyReLU(-1.5e-3)", Call("LeakyReLU", (-0.0015,))),
        ("Linear(1_000, 0x10)", Call("Linear", (1000, 16))),
        ("AdaptiveAvgPool2d((None, 7))", Call("AdaptiveAvgPool2d", ((None, 7),))),
        ("ReLU(inplace=True)", Call("ReLU", (), (("inplace", True),))),
        ("Conv1d(8, 3, padding='same')", Call("Conv1d", (8, 3), (("padding", "same"),))),
        ('Upsample(mode="it\'s")', Call("Upsample", (), (("mode", "it's"),))),
        ("Linear('__class__')", Call("Linear", ("__class__",))),
        ("Residual([Linear(4), ReLU()])", Call("Residual", ([Call("Linear", (4,)), Call("ReLU")],))),
        ("Residual(Linear(4), ReLU())", Call("Residual", (Call("Linear", (4,)), Call("ReLU")))),
        ("Parallel([nn.Linear(4)], dim=-1)", Call("Parallel", ([Call("Linear", (4,))],), (("dim", -1),))),
        ("Sequential([Residual([Tanh()])])", Call("Sequential", ([Call("Residual", ([Call("Tanh")],))],))),
    ],
)
def test_a_call_is_read_into_plain_values(text: str, call: Call) -> None:
    found = parse_call(text, "model.layers.0")
    assert found == call
    assert [type(value) for value in found.args] == [type(value) for value in call.args]
    assert parse_call(str(found), "model.layers.0") == found


@pytest.mark.parametrize("prefix", ["", "nn.", "torch.nn.", "optim.", "torch.optim.", "nn . "])
def test_the_prefixes_of_torch_are_understood_and_left_out(prefix: str) -> None:
    assert str(parse_call(f"{prefix}Adam(lr=0.1)", "here")) == "Adam(lr=0.1)"


@pytest.mark.parametrize(
    "prefix", ["torch.", "os.", "nn.nn.", "nn.functional.", "numpy.", "torch.nn.modules.", "builtins.", "self.", "NN."]
)
def test_other_prefixes_are_refused(prefix: str) -> None:
    with pytest.raises(SafetyError, match="only the name of a torch.nn or torch.optim class may be called"):
        parse_call(f"{prefix}Linear(3)", "here")


VALUES: tuple[Any, ...] = (
    0, -7, 2**70, 0.1, -0.0, 1e-300, 1e22, True, False, None, "", "a'b\"c\\d\n", "é\u2028\x00",
    (), (1,), (1, (2, (None,))), [], [[1], []],
)  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_is_written_is_read_back_equal(value: Any) -> None:
    call = Call("Linear", (value, [value]), (("first", value), ("second", (value, -1))))
    again = parse_call(str(call), "here")
    assert again == call
    assert str(again) == str(call)
    assert repr(again) == repr(call)


@pytest.mark.parametrize("text", ["Linear(1e400)", "Linear(p=-1e999)", "Linear([1e400])"])
def test_a_number_that_is_not_finite_is_refused_for_it_could_not_be_written_back(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_call(text, "here")


def test_a_call_with_a_keyword_changed_is_a_new_call() -> None:
    call = parse_call("SGD(0.1, momentum=0.9)", "here")
    assert str(call.with_keyword("momentum", 0.5)) == "SGD(0.1, momentum=0.5)"
    assert str(call.with_keyword("nesterov", True)) == "SGD(0.1, momentum=0.9, nesterov=True)"
    assert str(call) == "SGD(0.1, momentum=0.9)"
    assert call.keywords == {"momentum": 0.9}


def test_the_children_of_a_container_come_in_order_and_a_layer_has_none() -> None:
    assert [str(child) for child in parse_call("Residual([Linear(4), ReLU()])", "here").children()] == [
        "Linear(4)",
        "ReLU()",
    ]
    assert parse_call("Conv2d(3, (3, 3))", "here").children() == []
    assert CONTAINERS == ("Sequential", "Residual", "Parallel")


ACT = "__import__('os').system('touch CANARY')"
HIDDEN_CODE = [
    ACT,
    f"Linear({ACT})",
    f"Linear(64, bias={ACT})",
    f"Residual([{ACT}])",
    f"Residual([Linear({ACT})])",
    f"Parallel([Linear(3)], dim={ACT})",
    f"Linear(lambda: {ACT})",
    f"(lambda: {ACT})()",
    f"Linear([{ACT} for _ in (1,)])",
    f"Linear({{{ACT} for _ in (1,)}})",
    f"Linear({{1: {ACT}}})",
    f"Linear(({ACT} for _ in (1,)))",
    f'Linear(f"{{{ACT}}}")',
    f"Linear((x := {ACT}))",
    f"Linear(*[{ACT}])",
    f"Linear(**{{'a': {ACT}}})",
    f"Linear({ACT} if True else 1)",
    f"Linear({ACT} or 1)",
    f"Linear(1 < {ACT})",
    f"Linear([1][{ACT}])",
    f"Linear({ACT} + 1)",
    f"Linear(-{ACT})",
    f"Linear()({ACT})",
    f"[Linear(3), {ACT}]",
    f"Linear(3), {ACT}",
    f"Linear(3); {ACT}",
    f"Linear(3)\n{ACT}",
    "import os",
    "Linear(open('CANARY', 'w'))",
    "exec(\"open('CANARY', 'w')\").x()",
    "getattr(nn, 'Linear')()",
    "type('X', (), {})()",
    "nn.Linear.__init__(3)",
    "Linear.__class__()",
    "().__class__.__bases__[0].__subclasses__()",
    "Linear(().__class__.__base__)",
    "Linear(__name__)",
    "Linear(__builtins__)",
    "__builtins__",
    "__import__",
    "__import__()",
    "torch.os.system('touch CANARY')",
    "os.system('touch CANARY')",
    "nn.os.system('touch CANARY')",
    "nn.functional.relu(x)",
    "torch.load('CANARY')",
    "Linear(os.environ['HOME'])",
    "Linear(a.b)",
    "Linear(a[0])",
    "Linear(*rest)",
    "Linear(**rest)",
    "Linear(await x)",
    "Linear((yield))",
    "Linear(yield x)",
    "lambda: Linear(3)",
    "x if y else z",
    "{}",
    "Linear({1, 2})",
    "Linear(x for x in y)",
    "Linear(print)",
    "Linear(10 ** 10 ** 10)",
    "Linear('a' * 10 ** 10)",
    "Linear(1 << 99999999999)",
    "Linear(b'bytes')",
    "Linear(1j)",
    "Linear(...)",
    "Linear(~1)",
    "Linear(not 1)",
    "Linear(-True)",
    "Linear(-'a')",
    "Linear(-[1])",
    "Linear(x=y)",
    "Linear(3",
    "Linear 3",
    "Linear(3))",
    "Linear(a b)",
    "Linear('unfinished",
    "Linear(0777)",
    "@Linear",
    "",
    " \n\t",
    "()",
    "1",
    "'Linear(3)'",
    "Linear",
    "nn.Linear",
    "Linear(\x00)",
    "\x00",
    "\ud800",
    "Linear('\ud800')",
    "Linear(\uff13)",
    "Linear(" + "9" * 5000 + ")",
    "(" * 10_000,
    ")" * 10_000,
    "(" * 9_999 + ")" * 9_999,
    "Linear(" + "(" * 9_000 + "1" + ")" * 9_000 + ")",
    "Linear(" + "[" * 9_000 + "]" * 9_000 + ")",
    "Linear(" * 2_500 + ")" * 2_500,
    "Residual(" * 1_000 + ")" * 1_000,
    "Linear(" + "-" * 10_000 + "1)",
    "Linear(" + "not " * 600 + "1)",
    "Linear(1" + "+1" * 600 + ")",
    "Linear(1" + "+1" * 9_900 + ")",
    "Linear(" + "2**" * 600 + "1)",
    "a" + ".a" * 600 + "()",
    "a" + ".a" * 9_900 + "()",
    "L" + ".a()" * 300,
    "L" + "()" * 9_000,
    "L" + "[0]" * 600 + "()",
    "Linear(" + "lambda:" * 600 + "1)",
    "Linear(" + "f'{" * 100 + "1" + "}'" * 100 + ")",
    "[" * 10_000 + "]" * 10_000,
    "Linear(" + "1," * 500_000 + ")",
    "a" * 1_000_000,
    " " * 1_000_000,
]  # fmt: skip


@pytest.mark.parametrize("text", HIDDEN_CODE, ids=lambda text: ascii(text[:40]))
def test_code_in_a_text_is_refused_and_nothing_runs(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NetwrightError) as caught:
        parse_call(text, "model.layers.3")
    assert type(caught.value) in (ConfigError, SafetyError)
    assert caught.value.exit_code in (2, 8)
    message = str(caught.value)
    assert message.startswith("model.layers.3: ")
    assert "\n" not in message
    assert len(message) < 1000
    message.encode()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "exit_code"),
    [
        (ACT, 8), (f"Linear({ACT})", 8), (f"Residual([{ACT}])", 8), ("Linear(lambda: 1)", 8), ("Linear([x for x in y])", 8),
        ("Linear(f'{1}')", 8), ("Linear((x := 1))", 8), ("Linear(a.b)", 8), ("Linear(a[0])", 8), ("Linear(*a)", 8),
        ("Linear(**a)", 8), ("Linear(__name__)", 8), ("Linear(Linear(3))", 8), ("os.system('x')", 8), ("a" * 20_001, 8),
        ("Linear(" + "[" * 30 + "]" * 30 + ")", 8), ("Linear(1 + 2)", 2), ("Linear(x=y)", 2), ("Linear", 2), ("Linear(", 2),
        ("nn.ReLU(x)", 2), ("Linear(b'a')", 2), ("", 2),
    ],
)  # fmt: skip
def test_what_looks_like_code_is_exit_8_and_what_is_misspelled_exit_2(text: str, exit_code: int) -> None:
    with pytest.raises(NetwrightError) as caught:
        parse_call(text, "here")
    assert caught.value.exit_code == exit_code


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nn.ReLU(x)", "w: 'nn.ReLU(x)' came; 'x' is no literal, and a layer is not applied to its input here (the network "
                       "does that); write ReLU() or give a number"),
        ("Linear", "w: 'Linear' came; expected a call with brackets; write Linear()"),
        ("nn.ReLU", "w: 'nn.ReLU' came; expected a call with brackets; write ReLU()"),
        ("Linear(3", "w: 'Linear(3' came ('(' was never closed); expected a call such as Linear(64); check the brackets and "
                     "quotes"),
        ("Linear(1+2)", "w: argument 1: 'Linear(1+2)' came; '1 + 2' is no literal; write a number, text, True, False, None, "
                        "tuple or list"),
        ("Linear(3, bias=no)", "w: bias: 'Linear(3, bias=no)' came; 'no' is no literal; write a number, text, True, False, None, "
                               "tuple or list"),
        ("Linear(ReLU())", "w: argument 1: 'Linear(ReLU())' came; an argument may not be a call (only Sequential, Residual, "
                           "Parallel hold layers); write a literal"),
        ("Linear(**a)", "w: 'Linear(**a)' came; ** is refused; write each argument by keyword"),
        ("x" * 20_001, f"w: a text of 20001 characters came; at most {LONGEST_TEXT} are read; shorten it"),
        ("Linear([" + "[" * 20 + "1" + "]" * 20 + "])",
         f"w: argument 1: values nested deeper than {DEEPEST_NESTING} came; they are refused; flatten them"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_came_and_what_to_write(text: str, message: str) -> None:
    with pytest.raises(NetwrightError, match=f"^{re.escape(message)}$"):
        parse_call(text, "w")


def test_a_long_text_is_shown_by_its_beginning() -> None:
    text = "Linear(" + "1, " * 100 + "x=y)"
    with pytest.raises(ConfigError) as caught:
        parse_call(text, "w")
    assert f"{text[:77] + '...'!r} came" in str(caught.value)


def test_nesting_is_read_to_its_limit_and_no_further() -> None:
    inside = "Residual([" * 10 + "ReLU()" + "])" * 10
    assert str(parse_call(inside, "w")) == inside
    with pytest.raises(SafetyError, match="nested deeper than 20 came"):
        parse_call("Residual([" * 21 + "ReLU()" + "])" * 21, "w")


@pytest.mark.parametrize("text", [r"Conv2d(3, padding='\d')", "Linear(1if 1 else 2)", "Linear(0x1for x in y)"])
def test_reading_a_text_never_prints_a_warning_of_pythons_own(text: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(NetwrightError):
            parse_call(text, "w")
    assert [str(warning.message) for warning in caught] == []
