"""What a served run answers: the same as predict, in batches, for every kind of rows; and its description of itself."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

import netwright as nw

for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(package, reason="the extra serve is not installed")

from netwright.serving.answering import Answerer, Question, Reply  # noqa: E402
from netwright.serving.batching import Batcher, BusyError, ClientLeftError  # noqa: E402
from netwright.serving.bodies import RefusedError, read_json  # noqa: E402
from netwright.serving.describing import describe  # noqa: E402
from netwright.serving.expectation import Expected  # noqa: E402
from netwright.serving.limits import Limits  # noqa: E402

JSON, CSV = "application/json", "text/csv"
CLOSE = 1e-5
SHORT = {"epochs": 3}


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> nw.Run:
    return nw.train(
        str(write_houses(tmp_path_factory.mktemp("houses"))),
        target="price",
        **SHORT,
        run_dir=tmp_path_factory.mktemp("h") / "run",
    )


def write_houses(folder: Path) -> Path:
    generator = np.random.default_rng(4)
    lines = ["rooms,town,new,sold,price"]
    for _ in range(120):
        rooms, town, new = (
            generator.uniform(1, 8),
            generator.choice(["Ulm", "Köln", "Bonn"]),
            generator.choice(["true", "false"]),
        )
        lines.append(f"{rooms:.2f},{town},{new},2019-0{generator.integers(1, 10)}-11,{rooms * 3 + (town == 'Ulm'):.3f}")
    (folder / "houses.csv").write_text("\n".join(lines) + "\n")
    return folder / "houses.csv"


ROW = {"rooms": 3.5, "town": "Ulm", "new": True, "sold": "2019-03-11"}


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> nw.Run:
    generator = np.random.default_rng(1)
    values = generator.normal(size=(90, 4))
    return nw.train(data=(values, values[:, 0] > 0), **SHORT, run_dir=tmp_path_factory.mktemp("f") / "run")


def asked(run: Any, body: Any, content_type: str = JSON, **more: Any) -> tuple[int, Any]:
    """Ask one question and return status and JSON; a bug fails the test."""
    (reply,) = Answerer(Expected(run), refuse_bug).answer([question(body, content_type, **more)])
    return reply.status, json.loads(reply.body)


def question(body: Any, content_type: str = JSON, **more: Any) -> Question:
    return Question(body if isinstance(body, bytes) else json.dumps(body).encode(), content_type, **more)


def refuse_bug(number: str, error: BaseException) -> None:
    raise AssertionError(f"a bug: {error!r}") from error


def test_json_and_csv_give_what_predict_gives(houses: nw.Run, tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "rooms": None, "new": False}, {**ROW, "town": "Paris"}]
    table = pa.Table.from_pylist(rows)
    status, found = asked(houses, {"rows": rows})
    assert (status, set(found)) == (200, {"predictions", "notes"})
    assert found["predictions"] == pytest.approx(houses.predict(table), rel=CLOSE)
    assert found["notes"] == [
        "column 'town': a category not seen in training in 1 cell; it counts as unknown",
        "column 'rooms': 1 cell missing, and none was in training; filled with the mean",
    ]
    text = "note,rooms,town,new,sold\nx,3.5,Ulm,yes,2019-03-11\nx,,Ulm,no,2019-03-11\nx,3.5,Paris,yes,2019-03-11\n"
    status, told = asked(houses, text.encode(), CSV)
    assert told["predictions"] == pytest.approx(found["predictions"], rel=CLOSE)
    assert told["notes"][-1] == "columns not used: 'note'"


def test_intervals_are_those_of_the_run(houses: nw.Run) -> None:
    status, found = asked(houses, {"rows": [ROW]}, interval=True)
    low, high = houses.predict_interval(pa.Table.from_pylist([ROW]))
    assert status == 200
    assert (found["low"][0], found["high"][0]) == pytest.approx((low[0], high[0]), rel=CLOSE)


def test_an_ensemble_answers_like_one_run(tmp_path: Path) -> None:
    found = nw.cross_validate(
        str(write_houses(tmp_path)), folds=2, target="price", run_dir=tmp_path / "cv", **{**SHORT, "epochs": 1}
    )
    several = nw.load(found.folder)
    rows = [ROW, {**ROW, "town": "Paris"}]
    status, told = asked(several, {"rows": rows}, interval=True)
    assert status == 200
    assert told["predictions"] == pytest.approx(several.predict(pa.Table.from_pylist(rows)), rel=CLOSE)
    low, high = several.predict_interval(pa.Table.from_pylist(rows))
    assert told["low"] == pytest.approx(low, rel=CLOSE)
    assert told["high"] == pytest.approx(high, rel=CLOSE)
    assert told["notes"][0].startswith("column 'town': a category not seen in training in 1 cell;")
    described = describe(Expected(several), Limits(), False)
    example = described["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert asked(several, example)[0] == 200


def test_classes_come_with_probabilities_and_a_threshold(flowers: nw.Run) -> None:
    values = np.random.default_rng(5).normal(size=(20, 4))
    status, found = asked(flowers, {"inputs": values.tolist()})
    assert (status, found["classes"]) == (200, [False, True])
    assert found["predictions"] == flowers.predict(values).tolist()
    assert np.abs(np.asarray(found["probabilities"]) - flowers.predict_proba(values)).max() < CLOSE
    _, found = asked(flowers, {"inputs": values.tolist()}, threshold=0.0)
    assert found["predictions"] == [True] * 20


def test_categories_of_a_frame_are_known_in_json_and_csv(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    zone = generator.integers(1, 5, 200).astype(float)
    zone[5] = np.nan
    frame = pd.DataFrame(
        {"zone": zone, "open": zone > 2, "a": generator.normal(size=200), "y": np.where(zone == 2, "u", "v")}
    )
    kinds = {"zone": "category", "open": "category"}
    run = nw.train(data=frame, target="y", kinds=kinds, layers=["Linear()"], epochs=1, run_dir=tmp_path / "run")
    new = frame.drop(columns="y").iloc[:4]
    expected = run.predict_proba(new)
    cells = json.dumps({"rows": new.to_dict(orient="records")})
    assert '"zone": 2.0' in cells or '"zone": 3.0' in cells
    for body, kind in ((cells.encode(), JSON), (new.to_csv(index=False).encode(), CSV)):
        status, found = asked(run, body, kind)
        assert (status, found.get("notes")) == (200, None)
        np.testing.assert_allclose(found["probabilities"], expected, rtol=CLOSE)


def test_images_come_alone_or_in_a_form(tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for place in range(12):
            Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(
                tmp_path / "photos" / label / f"{place}.png"
            )
    run = nw.train(str(tmp_path / "photos"), **SHORT, run_dir=tmp_path / "run")
    file = tmp_path / "photos" / "cat" / "0.png"
    status, found = asked(run, file.read_bytes(), "image/png")
    assert (status, found["predictions"]) == (200, run.predict(str(file)).tolist())
    sink = io.BytesIO()
    Image.open(file).save(sink, "JPEG")
    parts = [("a.png", file.read_bytes()), ("../../x.sh", sink.getvalue())]
    form = b"".join(
        f'--XX\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode() + content + b"\r\n"
        for name, content in parts
    )
    status, both = asked(run, form + b"--XX--\r\n", "multipart/form-data; boundary=XX")
    assert (status, len(both["predictions"])) == (200, 2)
    assert both["probabilities"][0] == pytest.approx(found["probabilities"][0], abs=CLOSE)
    status, told = asked(run, b"\x89PNG no", "image/png")
    assert (status, told["error"].startswith("image.png: no image that can be read; expected PNG")) == (422, True)
    status, told = asked(run, file.read_bytes(), "image/jpeg")
    assert (status, "its content is PNG" in told["error"]) == (422, True)
    assert asked(run, form[:60], "multipart/form-data; boundary=XX")[0] in (400, 422)
    assert asked(run, form, "multipart/form-data")[0] == 400


def test_sequences_of_different_length_are_answered_row_by_row(tmp_path: Path) -> None:
    generator = np.random.default_rng(8)
    walks = [generator.normal(size=(int(generator.integers(5, 12)), 2)) for _ in range(40)]
    labels = np.asarray([walk.sum() > 0 for walk in walks])
    run = nw.train(data=(walks, labels), **SHORT, run_dir=tmp_path / "run")
    expected = run.predict_proba(walks[:3])
    bodies = [question({"inputs": [walk.tolist()]}) for walk in walks[:3]]
    replies = Answerer(Expected(run), refuse_bug).answer(
        [*bodies, question({"inputs": [walk.tolist() for walk in walks[:3]]})]
    )
    found = [json.loads(reply.body)["probabilities"] for reply in replies]
    assert np.abs(np.asarray([one[0] for one in found[:3]]) - expected).max() < CLOSE
    assert np.abs(np.asarray(found[3]) - expected).max() < CLOSE
    assert asked(run, {"inputs": [["a"]]})[0] == 422
    assert asked(run, {"inputs": [[[1.0]]]})[0] == 422
    for value, words in (([["1.5", "2"]], 'row 2: "1.5" is a text'), ([[1.5, True]], "row 2: true is a boolean")):
        status, told = asked(run, {"inputs": [[[1.0, None]], value]})
        assert (status, words in told["error"]) == (422, True)


def test_rows_of_steps_are_read_as_strictly_as_rows_of_a_table(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    lines = [f"{place},{generator.normal():.3f},{generator.choice(['hot', 'cold'])}" for place in range(120)]
    (tmp_path / "s.csv").write_text("y,x,sort\n" + "\n".join(lines) + "\n")
    run = nw.train(str(tmp_path / "s.csv"), target="y", window=3, **SHORT, run_dir=tmp_path / "run")
    row = {"y": 3, "x": None, "sort": "hot"}
    rows = [row, {**row, "x": 1.5}, {"sort": "cold", "x": 2, "y": 4}]
    status, found = asked(run, {"rows": rows})
    expected = run.predict(pa.table({"y": [3, 3, 4], "x": [None, 1.5, 2.0], "sort": ["hot", "hot", "cold"]}))
    assert (status, found["predictions"]) == (200, pytest.approx(expected, rel=CLOSE))
    bad = [
        (
            {"y": 3, "X": 1.5, "sort": "hot"},
            "row 3: column 'X' came, which row 1 lacks; expected the same columns in each; did you",
        ),
        ({"y": 3, "sort": "hot"}, "row 3: column 'x' of row 1 is missing; expected the same columns in each"),
        ({**row, "x": "2"}, "row 3: column 'x': \"2\" is a text; expected a number or null"),
        ({**row, "x": True}, "row 3: column 'x': true is a boolean"),
    ]
    status, told = asked(run, {"rows": [{**row, **{f"more{place}": 0 for place in range(100_000)}}]})
    assert (status, told["error"][:61]) == (422, "body: 100003 columns came; expected at most 100000; leave out")
    for last, words in bad:
        status, told = asked(run, {"rows": [*rows[:2], last]})
        assert (status, words in told["error"]) == (422, True), told


def test_texts_come_as_rows(tmp_path: Path) -> None:
    moods = [("fine day", "good"), ("bad luck again", "poor")] * 30
    (tmp_path / "reviews.csv").write_text("review,mood\n" + "".join(f"{text},{mood}\n" for text, mood in moods))
    run = nw.train(
        str(tmp_path / "reviews.csv"), target="mood", settings=['data.text="words"'], **SHORT, run_dir=tmp_path / "run"
    )
    status, found = asked(run, {"rows": [{"review": "fine day"}, {"review": "bad luck again"}]})
    assert (status, found["predictions"]) == (
        200,
        run.predict(pa.table({"review": ["fine day", "bad luck again"]})).tolist(),
    )
    assert asked(run, b"review\nfine day\n", CSV)[1]["predictions"] == found["predictions"][:1]
    assert asked(run, {"rows": [{"review": ["fine day"]}]})[0] == 422


def test_many_questions_at_once_get_their_own_answers(houses: nw.Run) -> None:
    generator = np.random.default_rng(9)
    samples = [
        [
            {**ROW, "rooms": float(generator.uniform(1, 8)), "town": str(generator.choice(["Ulm", "Bonn"]))}
            for _ in range(count)
        ]
        for count in generator.integers(1, 6, 60)
    ]
    questions = [question({"rows": rows}) for rows in samples]
    questions[10] = question(b"{")
    questions[20] = question({"rows": [{**ROW, "rooms": "many"}]})
    questions[30] = question({"rows": [{**ROW, "rooms": 1e300}]})
    questions[40] = question(b"rooms,town,new,sold\nmany,Ulm,yes,2019-03-11\n", CSV)
    replies = Answerer(Expected(houses), refuse_bug).answer(questions)
    bad = {10: 400, 20: 422, 30: 422, 40: 422}
    for place, (rows, reply) in enumerate(zip(samples, replies, strict=True)):
        assert reply.status == bad.get(place, 200)
        if place not in bad:
            given = json.loads(reply.body)
            assert given == {"predictions": pytest.approx(houses.predict(pa.Table.from_pylist(rows)).tolist(), rel=CLOSE)}
            assert reply.rows == len(rows)


def test_a_note_on_one_request_is_not_told_to_another(houses: nw.Run) -> None:
    bodies = [{"rows": [ROW]}, {"rows": [{**ROW, "town": "Paris"}]}, {"rows": [{**ROW, "more": [1]}]}]
    replies = Answerer(Expected(houses), refuse_bug).answer([question(body) for body in bodies])
    notes = [json.loads(reply.body).get("notes", []) for reply in replies]
    assert [len(found) for found in notes] == [0, 1, 1]
    assert notes[2] == ["columns not used: 'more'"]


def test_errors_are_the_lines_of_predict(houses: nw.Run, tmp_path: Path) -> None:
    text = "rooms,town,new,sold\n3,Ulm,yes,2019-03-11\nmany,Ulm,yes,2019-03-11\n"
    (tmp_path / "body.csv").write_text(text)
    with pytest.raises(nw.NetwrightError) as refused:
        houses.predict_file(str(tmp_path / "body.csv"))
    assert asked(houses, text.encode(), CSV) == (422, {"error": str(refused.value)})
    with pytest.raises(nw.NetwrightError) as refused:
        houses.predict(pa.table({"rooms": [1e300], "town": ["Ulm"], "new": [True], "sold": ["2019-03-11"]}))
    status, told = asked(houses, {"rows": [{**ROW, "rooms": 1e300}]})
    assert (status, told["error"]) == (422, str(refused.value).replace("data frame", "body"))


BAD = [
    (b"", 400, "expected JSON"),
    (b"\xff", 400, "byte 1 is no UTF-8"),
    (b'{"rows": [{"rooms": NaN}]}', 400, "NaN is no JSON"),
    (b'{"rows": [{"rooms": -Infinity}]}', 400, "-Infinity is no JSON"),
    (b'{"rows": 1, "rows": 2}', 400, "key 'rows' came twice"),
    (b"[" * 10_000, 400, "nested too deeply"),
    (b'{"rows": ' + b"1" * 5000 + b"}", 400, "too many digits"),
    (b"[]", 422, "a list came; expected an object with the key 'rows'"),
    (b"{}", 422, "key 'rows' is missing"),
    (b'{"row": []}', 422, "did you mean rows?"),
    (b'{"town": 3}', 422, 'expected rows in a list, {"rows": [{"town": ...}]}'),
    (b'{"rows": []}', 422, "no rows"),
    (b'{"rows": [3]}', 422, "row 1: a number came; expected an object of columns"),
    (b'{"rows": [{}]}', 422, "row 1: column 'rooms' is missing"),
]
CELLS = [
    ("rooms", "3", "'rooms': \"3\" is a text; expected a number or null"),
    ("rooms", True, "'rooms': true is a boolean"),
    ("rooms", 10**400, "infinite or beyond float32"),
    ("new", 1, "'new': 1 is a number; expected true, false or null"),
    ("town", ["Ulm"], "'town': [\"Ulm\"] is a list"),
    ("town", "\ud800", "half of a surrogate pair"),
    ("sold", "tomorrow", "'tomorrow' is no date"),
]


@pytest.mark.parametrize(("body", "status", "words"), BAD)
def test_a_bad_body_is_one_line(houses: nw.Run, body: bytes, status: int, words: str) -> None:
    found, told = asked(houses, body)
    assert (found, list(told)) == (status, ["error"])
    assert words in told["error"]
    assert "\n" not in told["error"]
    assert str(houses.folder) not in told["error"]


class Compared(str):
    """A key that counts how often keys are compared."""

    __slots__ = ()
    times = 0

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_a_key_that_came_twice_is_found_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(Compared(place), 1) for place in range(2000)]

    def loads(text: str, *, object_pairs_hook: Any, **_: Any) -> Any:
        return object_pairs_hook([*pairs, (Compared(text), 1), (Compared(text), 1)])

    monkeypatch.setattr(json, "loads", loads)
    with pytest.raises(RefusedError, match="key 'z' came twice"):
        read_json(b"z")
    assert Compared.times < 2000


def test_a_missing_column_is_compared_with_the_first_keys_of_a_row(houses: nw.Run) -> None:
    many = {f"room{place}": 1 for place in range(20_000)}
    status, told = asked(houses, {"rows": [{"Rooms": 3, **many}]})
    assert (status, "did you mean Rooms or room" in told["error"]) == (422, True)
    status, told = asked(houses, {"rows": [{**many, "Rooms": 3}]})
    assert (status, "did you mean room" in told["error"], "Rooms" in told["error"]) == (422, True, False)


@pytest.mark.parametrize(("name", "value", "words"), CELLS)
def test_a_bad_cell_is_named(houses: nw.Run, name: str, value: Any, words: str) -> None:
    status, told = asked(houses, {"rows": [ROW, {**ROW, name: value}]})
    assert status == 422
    assert words in told["error"]


@pytest.mark.parametrize(
    "value",
    [
        [1, 2, 3],
        [[1, 2, 3]],
        [[1, 2, 3, "4"]],
        [[1, 2, 3, True]],
        [[1, 2, 3, [4]]],
        [[1, 2, 3, 10**400]],
        [[1, 2, 3, 1e300]],
        7,
        [],
    ],
)
def test_arrays_of_another_shape_or_kind_are_refused(flowers: nw.Run, value: Any) -> None:
    status, told = asked(flowers, {"inputs": value})
    assert (status, list(told)) == (422, ["error"])


def test_missing_numbers_of_arrays_count_as_the_mean(flowers: nw.Run) -> None:
    _, found = asked(flowers, {"inputs": [[None, 1, 2, 3]]})
    assert found["predictions"] == flowers.predict(np.asarray([[np.nan, 1, 2, 3]])).tolist()


def test_more_rows_than_one_request_may_hold_are_refused(houses: nw.Run) -> None:
    assert asked(houses, {"rows": [ROW] * 10_001})[0] == 422
    assert asked(houses, b"rooms,town,new,sold\n" + b"3,Ulm,yes,2019-03-11\n" * 10_001, CSV)[0] == 422


def test_an_answer_that_is_no_number_is_null(houses: nw.Run) -> None:
    status, found = asked(houses, {"rows": [ROW, {**ROW, "rooms": 3e38}]})
    assert (status, len(found["predictions"])) == (200, 2)
    assert found["predictions"][0] is not None


def test_a_bug_is_told_by_a_number_alone(houses: nw.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a secret")

    told: list[tuple[str, str]] = []
    monkeypatch.setattr(nw.Run, "predict_decoded", fail)
    answerer = Answerer(Expected(houses), lambda number, error: told.append((number, repr(error))))
    replies = answerer.answer([question({"rows": [ROW]}), question({"rows": []}), question({"rows": [ROW]})])
    assert [reply.status for reply in replies] == [500, 422, 500]
    assert len(told) == 2
    assert told[0][0] in json.loads(replies[0].body)["error"]
    assert b"secret" not in replies[0].body


def test_the_description_has_an_example_that_is_answered_and_is_no_row(houses: nw.Run, flowers: nw.Run) -> None:
    for run in (houses, flowers):
        expected = Expected(run)
        tree = describe(expected, Limits(), token=True)
        body = tree["paths"]["/predict"]["post"]["requestBody"]["content"][JSON]["example"]
        assert asked(run, body)[0] == 200
    text = describe(Expected(houses), Limits(), False)["paths"]["/predict"]["post"]["requestBody"]["content"][CSV]["example"]
    assert asked(houses, text.encode(), CSV)[0] == 200
    assert "bearer" in tree["components"]["securitySchemes"]
    typical = Expected(houses).typical
    assert list(typical) == list(ROW)
    assert len(f"{typical['rooms']:g}".replace(".", "")) <= 4


def slow(replies: threading.Event, seen: list[int]) -> Any:
    """Return an answerer that waits, and notes how many questions each batch holds."""

    def answer(questions: Sequence[Question]) -> list[Reply]:
        seen.append(len(questions))
        assert replies.wait(20)
        return [Reply(200, one.body) for one in questions]

    return answer


async def stays() -> None:
    await asyncio.sleep(60)


def test_batches_grow_while_one_is_in_work_and_answers_keep_their_order() -> None:
    seen: list[int] = []
    go = threading.Event()

    async def run() -> list[Reply]:
        batcher = Batcher(slow(go, seen), 1000, lambda count: None)
        batcher.start()
        first = asyncio.create_task(batcher.ask(question(b"first"), 20, stays))
        await asyncio.sleep(0.1)
        others = [asyncio.create_task(batcher.ask(question(str(place).encode()), 20, stays)) for place in range(200)]
        await asyncio.sleep(0.1)
        go.set()
        found = [await first, *[await other for other in others]]
        await batcher.stop()
        assert not batcher.ready
        return found

    replies = asyncio.run(run())
    assert [reply.body for reply in replies] == [b"first", *(str(place).encode() for place in range(200))]
    assert seen == [1, 200]


def test_who_waits_too_long_who_leaves_and_who_is_too_many() -> None:
    seen: list[int] = []
    go = threading.Event()

    async def leaves() -> None:
        await asyncio.sleep(0.1)

    async def run() -> None:
        batcher = Batcher(slow(go, seen), 3, lambda count: None)
        batcher.start()
        held = asyncio.create_task(batcher.ask(question(b"held"), 20, stays))
        await asyncio.sleep(0.1)
        late = asyncio.create_task(batcher.ask(question(b"late"), 0.2, stays))
        left = asyncio.create_task(batcher.ask(question(b"left"), 20, leaves))
        last = asyncio.create_task(batcher.ask(question(b"last"), 20, stays))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await batcher.ask(question(b"one too many"), 20, stays)
        with pytest.raises(TimeoutError):
            await late
        with pytest.raises(ClientLeftError):
            await left
        go.set()
        assert ((await held).body, (await last).body) == (b"held", b"last")
        await batcher.stop()
        with pytest.raises(BusyError):
            await batcher.ask(question(b"after the end"), 20, stays)

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 15
    assert seen == [1, 1]  # what was late or left was not computed


def test_a_note_tells_no_path_of_a_joined_table(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "customers.csv").write_text("id,a\n" + "".join(f"{row},{row % 3}\n" for row in range(60)))
    (tmp_path / "rows.csv").write_text("id,z,y\n" + "".join(f"{row},{row / 7},{row % 3}\n" for row in range(60)))
    settings = ["data.target=y", f"data.join={secret / 'customers.csv'}", 'data.ignore=["id"]', "data.task=regression"]
    run = nw.train(str(tmp_path / "rows.csv"), settings=settings, epochs=1, test=False, run_dir=tmp_path / "run")
    status, found = asked(run, {"rows": [{"id": 77, "z": 0.5}]})
    assert status == 200
    assert "without a match" in found["notes"][0]
    assert str(secret) not in json.dumps(found)
