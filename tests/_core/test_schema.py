"""The checker of files' content: what it takes, what it refuses, and the words of its errors."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from xpnn._core import schema
from xpnn._core.schema import at_least, between, checked
from xpnn.errors import ArgumentError, DataError


@dataclass(frozen=True)
class Inner:
    size: schema.Count
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    inner: list[Inner]
    pair: tuple[int, float] | None = None
    table: dict[str, list[float | None]] = field(default_factory=dict)
    rest: Any = None

    def __post_init__(self):
        if len(self.inner) > 2:
            raise ArgumentError(f"inner must be short, got {len(self.inner)}")


GOOD = {"inner": [{"size": 3}, {"size": 1, "kind": "b"}], "pair": [1, 2], "table": {"x": [1, None]}}


def test_a_table_becomes_a_dataclass():
    own = checked(Outer, {**GOOD, "unknown": 5})
    assert own == Outer([Inner(3), Inner(1, "b")], (1, 2.0), {"x": [1.0, None]})
    assert type(own.table["x"][0]) is float


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner": None}, "inner must be a list, got None"),
        ({"inner": {}}, "inner must be a list, got {}"),
        ({"inner": [3]}, r"inner\[0\] must be a table of names and values, got 3"),
        ({"inner": [{}]}, r"inner\[0\].size must be a whole number >= 1, and is missing"),
        ({"inner": [{"size": 0}]}, r"inner\[0\].size must be a whole number >= 1, got 0"),
        ({"inner": [{"size": True}]}, r"inner\[0\].size must be a whole number >= 1, got True"),
        ({"inner": [{"size": 1.0}]}, r"inner\[0\].size must be a whole number >= 1, got 1.0"),
        ({"inner": [{"size": 1, "kind": "c"}]}, r"inner\[0\].kind must be 'a' or 'b', got 'c'"),
        ({"inner": [{"size": 1}] * 3}, "inner must be short, got 3"),
        ({"pair": [1]}, r"pair must be a list of 2 values or none, got \[1\]"),
        ({"pair": [1, "x"]}, r"pair\[1\] must be a number, got 'x'"),
        ({"pair": [1, 10**400]}, r"pair\[1\] must be a number, got 1000"),
        ({"table": {"x": [1, "2"]}}, r"table.x\[1\] must be a number or none, got '2'"),
        ({"table": []}, r"table must be a table of names and values, got \[\]"),
    ],
)
def test_what_is_refused(change, message):
    with pytest.raises(DataError, match=f"^{message}") as caught:
        checked(Outer, {**GOOD, **change})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [0, 624])
def test_ends_of_a_range_are_allowed(value):
    assert checked(Annotated[int, between(0, 624)], value) == value


@pytest.mark.parametrize("value", [-1, 625, 2**64, 3.5, "3", None, [3]])
def test_beyond_a_range(value):
    with pytest.raises(DataError, match=r"^pos must be a number from 0 to 624, got"):
        checked(Annotated[int, between(0, 624)], value, "pos")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
def test_numbers_that_are_not_finite(value):
    with pytest.raises(DataError, match=r"^gauss must be a finite number"):
        checked(Annotated[float, schema.FINITE], value, "gauss")


def test_a_long_value_is_shortened():
    with pytest.raises(DataError) as caught:
        checked(Annotated[int, at_least(0)], ["x" * 10**6] * 1000, "epochs")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "{", "", b"\xff", "[" * 150 + "]" * 150]
)
def test_text_that_is_no_json(text):
    with pytest.raises(DataError, match=r"^its JSON (is nested too deeply|can't be read: )"):
        schema.as_json(text)


@pytest.mark.parametrize(
    "error", [TypeError("t"), KeyError("k"), ArgumentError("a"), RecursionError(), MemoryError()]
)
def test_what_a_part_raises_is_a_fault_of_the_file(error):
    with (
        pytest.raises(DataError, match=r"^m has damaged metadata: layers\[1\]: "),
        schema.reading("m"),
        schema.field("layers[1]"),
    ):
        raise error
