"""What clients may send, against oracles of its own: names, dates, versions, limits and offsets."""

from __future__ import annotations

import string
import unicodedata
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portfolio.api.responses import to_json
from portfolio.api.schemas import (
    DeleteQuerySchema,
    PortfolioCreateSchema,
    PortfolioImportSchema,
    PortfolioUpdateSchema,
    SearchQuerySchema,
    StrictPortfolioCreateSchema,
    load,
)
from portfolio.errors import UnprocessableEntity
from portfolio.models import PortfolioCreate, Search
from portfolio.rules import is_strict_name
from portfolio.storage.documents import from_document, new_id, to_document

NOW = datetime(2024, 1, 20, 14, 45, 0, 123999)
INT32 = 2**31 - 1
INT64 = 2**63 - 1
STRICT = frozenset(string.ascii_letters + string.digits + " -_")


def accepts(schema: Any, data: dict[str, Any]) -> bool:
    """Tell whether ``data`` is taken."""
    try:
        load(schema, data, "body")
    except UnprocessableEntity:
        return False
    return True


def created(**fields: Any) -> PortfolioCreate:
    return load(PortfolioCreateSchema(), {"name": "Growth", **fields}, "body")


def on_the_wire(**fields: Any) -> Any:
    """A portfolio with these fields, as its client gets it."""
    portfolio = created(**fields).to_portfolio(new_id(), NOW)
    return to_json(from_document(to_document(portfolio)))


# Names

any_character = st.characters(exclude_categories=())
names = st.text(any_character, max_size=12) | st.integers(195, 205).map(lambda n: "x" * n)
nearly_strict = st.text(st.sampled_from(sorted(STRICT) + list("é.*\n\t\u00a0\uff21\u0663")))


@given(names)
@example("")
@example(" ")
@example("\u3000")
@example("東京\u3000ファンド")
@example("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645")
@example("\ud800")
@example("a\u202eb")
@example("a\0b")
def test_v1_takes_names_of_1_to_200_printable_characters_that_are_not_blank(name: str) -> None:
    kinds = [unicodedata.category(character) for character in name]
    unprintable = [
        kind
        for kind, character in zip(kinds, name, strict=True)
        if kind in ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp") and character not in "\u200c\u200d"
    ]
    valid = 1 <= len(name) <= 200 and not unprintable and set(kinds) != {"Zs"}
    assert accepts(PortfolioCreateSchema(), {"name": name}) == valid
    change = {"portfolioId": "x", "version": 1, "name": name}
    assert accepts(PortfolioUpdateSchema(), change) == valid


@given(nearly_strict | st.integers(195, 205).map(lambda n: "x" * n))
@example("Growth\n")
@example(" ")
def test_v2_names_hold_letters_digits_space_hyphen_and_underscore_alone(name: str) -> None:
    valid = 1 <= len(name) <= 200 and set(name) <= STRICT and name.strip(" ") != ""
    assert is_strict_name(name) == valid


@pytest.mark.parametrize("value", [None, 7, 1.5, True, [], {}])
def test_a_name_is_a_string(value: Any) -> None:
    for schema in (PortfolioCreateSchema(), StrictPortfolioCreateSchema()):
        assert not accepts(schema, {"name": value})


def test_a_name_is_kept_as_it_was_sent() -> None:
    assert created(name="  Größe 7 ").name == "  Größe 7 "


# Dates

moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999))


@given(
    moment=moments,
    separator=st.sampled_from("Tt "),
    digits=st.integers(0, 9),
    offset=st.none() | st.integers(-14 * 60, 14 * 60),
    colon=st.booleans(),
)
@example(moment=datetime(1, 1, 1), separator="T", digits=3, offset=1, colon=True)
@example(moment=datetime(9999, 12, 31, 23, 59), separator="T", digits=3, offset=-1, colon=True)
def test_a_date_time_is_read_in_utc_to_the_millisecond(
    moment: datetime, separator: str, digits: int, offset: int | None, colon: bool
) -> None:
    text = (
        f"{moment.year:04}-{moment.month:02}-{moment.day:02}{separator}"
        f"{moment.hour:02}:{moment.minute:02}:{moment.second:02}"
    )
    fraction = f"{moment.microsecond:06}999"[:digits]
    if fraction:
        text += f".{fraction}"
    if offset is not None:
        hours, minutes = divmod(abs(offset), 60)
        text += f"{'-' if offset < 0 else '+'}{hours:02}{':' if colon else ''}{minutes:02}"
    milliseconds = int(fraction.ljust(3, "0")[:3])
    try:
        utc = moment.replace(microsecond=milliseconds * 1000) - timedelta(minutes=offset or 0)
    except OverflowError:
        assert not accepts(PortfolioCreateSchema(), {"name": "Growth", "dateCreated": text})
        return
    assert on_the_wire(dateCreated=text)["dateCreated"] == (
        f"{utc.year:04}-{utc.month:02}-{utc.day:02}T"
        f"{utc.hour:02}:{utc.minute:02}:{utc.second:02}.{utc.microsecond // 1000:03}Z"
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2024-01-20T14:45:00.123Z", "2024-01-20T14:45:00.123Z"),
        ("2024-01-20T14:45:00", "2024-01-20T14:45:00.000Z"),
        ("2024-01-20T14:45", "2024-01-20T14:45:00.000Z"),
        ("2024-01-20T14:45:00+02", "2024-01-20T12:45:00.000Z"),
        ("2024-01-20", "2024-01-20T00:00:00.000Z"),
        ("0001-01-01", "0001-01-01T00:00:00.000Z"),
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.000Z"),
        (1705761900.123, "2024-01-20T14:45:00.123Z"),
        ("1705761900", "2024-01-20T14:45:00.000Z"),
        ("1705761900.123", "2024-01-20T14:45:00.123Z"),
        (1705761900123, "2024-01-20T14:45:00.123Z"),
        (1705761900123.7, "2024-01-20T14:45:00.123Z"),
        ("1705761900123", "2024-01-20T14:45:00.123Z"),
        ("-1", "1969-12-31T23:59:59.000Z"),
        (20_000_000_000, "2603-10-11T11:33:20.000Z"),
        (20_000_000_001, "1970-08-20T11:33:20.001Z"),
        (-20_000_000_000, "1336-03-23T12:26:40.000Z"),
        (-20_000_000_001, "1969-05-14T12:26:39.999Z"),
        (-62135596800000, "0001-01-01T00:00:00.000Z"),
        (253402300799999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_date_may_have_any_of_the_forms_of_the_contract(given: Any, expected: str) -> None:
    assert on_the_wire(dateCreated=given)["dateCreated"] == expected


@pytest.mark.parametrize("absent", [{}, {"dateCreated": None}])
def test_no_date_means_now_in_milliseconds(absent: dict[str, Any]) -> None:
    assert on_the_wire(**absent)["dateCreated"] == "2024-01-20T14:45:00.123Z"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "yesterday",
        "2024-13-01",
        "2024-02-30",
        "2024-01-20T25:00:00Z",
        "2024-01-20T14:61:00Z",
        "2024-01-20T14:45:00+25:00",
        "2024-01-20T14:45:00.Z",
        "10000-01-01",
        "0000-01-01",
        "-001-01-01",
        "\uff12\uff10\uff12\uff14-01-20",
        "2024-01-20\n",
        -62135596800001,
        253402300800000,
        "253402300800000",
        "1.",
        "1e9",
        "+1",
        "\u0663",
        "9" * 30,
        1e300,
        10**400,
        True,
        [],
        {},
    ],
)
def test_other_values_and_years_outside_1_to_9999_are_rejected(value: Any) -> None:
    assert not accepts(PortfolioCreateSchema(), {"name": "Growth", "dateCreated": value})
    change = {"portfolioId": "x", "name": "Growth", "version": 1}
    assert not accepts(PortfolioUpdateSchema(), change | {"dateCreated": value})


# Versions

numbers = st.integers(-(2**70), 2**70) | st.sampled_from(
    [-INT64 - 2, -INT64 - 1, -1, 0, 1, INT32, INT32 + 1, INT64 - 1, INT64, INT64 + 1]
)
other = st.none() | st.booleans() | st.floats() | st.text(max_size=4) | st.lists(st.integers())


@given(numbers | numbers.map(str) | other)
@example("")
@example("1.0")
@example(" 1")
@example("\u0663")
@example(2.0)
@example(2.5)
def test_a_new_version_is_an_integer_of_31_bits_that_is_not_negative(value: Any) -> None:
    number = value
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
        number = int(value)
    elif isinstance(value, float) and value % 1 == 0:
        number = int(value)  # JSON tells no difference between 1 and 1.0
    is_number = type(number) is int and 0 <= number <= INT32
    if value is None or is_number:
        assert created(version=value).version == (number or 1)
    else:
        assert not accepts(PortfolioCreateSchema(), {"name": "Growth", "version": value})


@given(numbers | numbers.map(str))
def test_a_seen_version_is_an_integer_of_64_bits(value: int | str) -> None:
    number = int(value)
    assert accepts(DeleteQuerySchema(), {"version": value}) == (-INT64 - 1 <= number <= INT64)
    # The next version has to fit as well.
    change = {"portfolioId": "x", "name": "Growth", "version": value}
    assert accepts(PortfolioUpdateSchema(), change) == (-INT64 - 1 <= number < INT64)


@pytest.mark.parametrize("value", [None, True, 1.5, "", "one", [1]])
def test_a_seen_version_has_to_be_given(value: Any) -> None:
    assert not accepts(DeleteQuerySchema(), {})
    assert not accepts(DeleteQuerySchema(), {"version": value})
    assert not accepts(
        PortfolioUpdateSchema(), {"portfolioId": "x", "name": "Growth", "version": value}
    )


@pytest.mark.parametrize("version", [-INT64 - 1, -5, INT32 + 1, INT64])
def test_an_import_takes_every_version_that_an_export_may_hold(version: int) -> None:
    row = {"name": "Growth", "version": version}
    assert load(PortfolioImportSchema(), row, "body").version == version


def test_no_version_means_one() -> None:
    assert created().version == created(version=None).version == created(version=0).version == 1


# Limits and offsets

parameters = st.integers(-2000, 2000).map(str) | numbers.map(str) | st.text(max_size=4)


@given(limit=parameters, offset=parameters)
@example(limit="0", offset="0")
@example(limit="1", offset="-1")
@example(limit="1000", offset=str(INT64))
@example(limit="1001", offset=str(INT64 + 1))
@example(limit="", offset="")
@example(limit="1.0", offset="1e3")
def test_limit_and_offset_are_integers_within_bounds(limit: str, offset: str) -> None:
    def within(text: str, low: int, high: int) -> bool:
        digits = text.removeprefix("-")
        is_integer = digits != "" and set(digits) <= set(string.digits)
        return is_integer and low <= int(text) <= high

    wrong = {
        name
        for name, is_right in (
            ("limit", within(limit, 1, 1000)),
            ("offset", within(offset, 0, INT64)),
        )
        if not is_right
    }
    query = {"limit": limit, "offset": offset}
    if not wrong:
        found = load(SearchQuerySchema(), query, "query")
        assert found == Search(limit=int(limit), offset=int(offset))
        return
    with pytest.raises(UnprocessableEntity) as rejected:
        load(SearchQuerySchema(), query, "query")
    assert {error["loc"] for error in rejected.value.errors} == {("query", name) for name in wrong}


def test_a_search_without_parameters_is_the_first_fifty() -> None:
    assert load(SearchQuerySchema(), {}, "query") == Search(None, None, limit=50, offset=0)


# The whole


def test_unknown_fields_are_ignored() -> None:
    assert created(portfolioId="x", owner={"name": "y"}) == created()


def test_every_error_is_listed_with_its_location() -> None:
    body = [{"name": "A"}, {"name": 7, "version": -1}, {"dateCreated": "x"}, "B"]
    with pytest.raises(UnprocessableEntity) as rejected:
        load(StrictPortfolioCreateSchema(many=True), body, "body")
    assert {(error["loc"], error["type"]) for error in rejected.value.errors} == {
        (("body", 1, "name"), "string_type"),
        (("body", 1, "version"), "greater_than_equal"),
        (("body", 2, "name"), "missing"),
        (("body", 2, "dateCreated"), "datetime_type"),
        (("body", 3), "dict_type"),
    }
