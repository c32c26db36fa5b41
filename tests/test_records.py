"""R5: a record is read from JSON strictly: every deviation is an error that names the key, and nothing is lost."""

from __future__ import annotations

import json
import math
from typing import Any, Literal, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import ManifestError
from edgekit.records import CONTAINER_LIMIT, NESTING_LIMIT, Record, dump, dump_canonical, load_json, parse


class Circle(Record):
    shape: Literal["circle"]
    radius: float


class Square(Record):
    shape: Literal["square"]
    side: int

    def check(self) -> None:
        if self.side < 1:
            raise ManifestError("side", f"expected 1 or more, got {self.side}")


class Drawing(Record):
    title: str
    visible: bool
    size: tuple[int, int]
    shapes: tuple[Union[Circle, Square], ...]
    background: Circle | None
    named: dict[str, Square]
    anything: Any


DOCUMENT: dict[str, Any] = {
    "title": "one",
    "visible": True,
    "size": [3, 4],
    "shapes": [{"shape": "circle", "radius": 1.5}, {"shape": "square", "side": 2}],
    "background": None,
    "named": {"a": {"shape": "square", "side": 1}},
    "anything": {"x": [1, 2.5, None, "s"]},
}


def refused(document: Any, cls: type[Record] = Drawing) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        parse(cls, document)
    return caught.value


def test_a_document_comes_back_as_it_was() -> None:
    drawing = parse(Drawing, DOCUMENT)
    assert drawing.shapes == (Circle(shape="circle", radius=1.5), Square(shape="square", side=2))
    assert dump(drawing) == DOCUMENT
    assert parse(Drawing, load_json(dump_canonical(drawing))) == drawing


def test_canonical_bytes_are_these() -> None:
    assert dump_canonical(Circle(shape="circle", radius=0.1)) == b'{"radius":0.1,"shape":"circle"}'
    assert dump_canonical({"ü": "\U0001f600", "a": [1, 2.0]}) == b'{"a":[1,2.0],"\\u00fc":"\\ud83d\\ude00"}'


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"title": 1}, "title"),
        ({"title": None}, "title"),
        ({"visible": 1}, "visible"),
        ({"visible": "true"}, "visible"),
        ({"size": [1]}, "size"),
        ({"size": [1, 2, 3]}, "size"),
        ({"size": [1, 2.0]}, "size[1]"),
        ({"size": [1, True]}, "size[1]"),
        ({"size": [1, 1 << 63]}, "size[1]"),
        ({"size": "12"}, "size"),
        ({"shapes": [{"shape": "circle", "radius": 1}]}, "shapes[0].radius"),
        ({"shapes": [{"shape": "circle", "radius": math.nan}]}, "shapes[0].radius"),
        ({"shapes": [{"shape": "circle", "radius": math.inf}]}, "shapes[0].radius"),
        ({"shapes": [{"shape": "circle"}]}, "shapes[0].radius"),
        ({"shapes": [{"radius": 1.0}]}, "shapes[0].shape"),
        ({"shapes": [{"shape": "oval", "radius": 1.0}]}, "shapes[0].shape"),
        ({"shapes": [{"shape": ["circle"], "radius": 1.0}]}, "shapes[0].shape"),
        ({"shapes": [{"shape": "square", "side": 0}]}, "shapes[0].side"),
        ({"shapes": [None]}, "shapes[0]"),
        ({"shapes": {}}, "shapes"),
        ({"background": {"shape": "square", "radius": 1.0}}, "background.shape"),
        ({"background": []}, "background"),
        ({"named": {"a": {"shape": "square", "side": 1, "extra": 1}}}, "named.a.extra"),
        ({"named": []}, "named"),
        ({"anything": {"x": {"y": math.inf}}}, "anything.x.y"),
        ({"anything": 1 << 70}, "anything"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(change: dict[str, Any], key: str) -> None:
    assert refused({**DOCUMENT, **change}).key == key


def test_missing_and_unknown_keys_are_named() -> None:
    for key in DOCUMENT:
        error = refused({k: v for k, v in DOCUMENT.items() if k != key})
        assert (error.key, error.problem) == (key, "missing")
    error = refused({**DOCUMENT, "colour": 1})
    assert (error.key, error.problem) == ("colour", "unknown")
    assert refused([]).key == ""


def test_what_people_write_may_have_whole_numbers_for_real_ones_and_no_nulls() -> None:
    without = {k: v for k, v in DOCUMENT.items() if k != "background"}
    assert parse(Drawing, without, by_hand=True).background is None
    assert refused(without).key == "background"
    assert parse(Circle, {"shape": "circle", "radius": 2}, by_hand=True).radius == 2.0
    for wrong in (10**400, True, "2", math.nan):
        with pytest.raises(ManifestError, match="radius"):
            parse(Circle, {"shape": "circle", "radius": wrong}, by_hand=True)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b'{"a":1,"a":1}', "manifest key 'a': stands twice"),
        (b'[{"b":{"c":1,"d":2,"c":3}}]', "manifest key 'c': stands twice"),
        (b"[NaN]", "NaN is not a number"),
        (b"[Infinity]", "Infinity is not a number"),
        (b"[-Infinity]", "-Infinity is not a number"),
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b"\xff", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"\x00{}", "not JSON"),
        (b"9" * 5000, "not JSON"),
        (b'["\\ud800"]', "half a character"),
        (b'{"\\udfff":1}', "half a character"),
        (b"[" * (NESTING_LIMIT + 2) + b"]" * (NESTING_LIMIT + 2), "nested deeper"),
        (b"[" * 20000 + b"]" * 20000, "nested deeper"),
        (b'{"a":' * 20000 + b"1" + b"}" * 20000, "nested deeper"),
        (b"[" + b"[]," * CONTAINER_LIMIT + b"[]]", "lists and tables"),
    ],
    ids=range(19),
)
def test_json_with_two_meanings_or_without_bounds_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ManifestError) as caught:
        load_json(data)
    assert problem in str(caught.value)


def test_many_keys_with_one_twin_are_refused_at_once() -> None:
    """Quadratic search for the twin took minutes here: 100,000 keys."""
    keys = ",".join(f'"{i}":0' for i in range(100_000))
    with pytest.raises(ManifestError, match="'7': stands twice"):
        load_json(f'{{{keys},"7":1}}'.encode())


def test_nesting_up_to_the_limit_is_read() -> None:
    assert load_json(b"[" * NESTING_LIMIT + b"]" * NESTING_LIMIT)


def test_a_foreign_name_in_a_message_is_short_and_printable() -> None:
    for name in ("\x1b[2J", "a\nb", "x" * 5000, "‮txt"):
        message = str(refused({**DOCUMENT, name: 1}))
        assert len(message) < 200
        assert message.isprintable()
        message = str(refused({**DOCUMENT, "named": {name: 1}}))
        assert len(message) < 200
        assert message.isprintable()


def test_a_record_cannot_be_changed_or_half_made() -> None:
    circle = Circle(shape="circle", radius=1.0)
    with pytest.raises(AttributeError):
        circle.radius = 2.0  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del circle.radius
    with pytest.raises(TypeError, match="radius"):
        Circle(shape="circle")  # type: ignore[call-arg]
    with pytest.raises(ManifestError):
        Square(shape="square", side=1).replace(side=0)
    assert {circle: 1}[Circle(shape="circle", radius=1.0)] == 1


def test_what_is_no_json_cannot_be_dumped() -> None:
    for value in (math.nan, object(), {"a": {1, 2}}, b"bytes"):
        with pytest.raises(ManifestError, match="cannot be written"):
            dump_canonical({"x": value})


SHAPES = st.one_of(
    st.builds(Circle, shape=st.just("circle"), radius=st.floats(allow_nan=False, allow_infinity=False)),
    st.builds(Square, shape=st.just("square"), side=st.integers(1, 2**63 - 1)),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
DRAWINGS = st.builds(
    Drawing,
    title=TEXTS,
    visible=st.booleans(),
    size=st.tuples(INTEGERS, INTEGERS),
    shapes=st.lists(SHAPES, max_size=3).map(tuple),
    background=st.none() | SHAPES.filter(lambda s: isinstance(s, Circle)),
    named=st.dictionaries(TEXTS, SHAPES.filter(lambda s: isinstance(s, Square)), max_size=3),
    anything=JSON,
)


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(DRAWINGS)
def test_law_parse_of_dump_is_the_record(drawing: Drawing) -> None:
    data = dump_canonical(drawing)
    again = parse(Drawing, load_json(data))
    assert again == drawing
    assert dump_canonical(again) == data


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(JSON)
def test_any_document_is_a_record_or_a_manifest_error(document: Any) -> None:
    try:
        drawing = parse(Drawing, load_json(json.dumps(document).encode()))
    except ManifestError:
        return
    assert dump(drawing) == document


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_json_or_a_manifest_error(data: bytes) -> None:
    try:
        load_json(data)
    except ManifestError:
        return
