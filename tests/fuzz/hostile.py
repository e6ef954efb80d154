"""What a hostile client sends."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

# Operators and code of MongoDB, patterns that take for ever, ends of strings, other encodings.
_TRICKS = [
    "$ne", "$where", "$gt", "$regex", "$expr", "$function", "name.$", "__proto__", "this.a == 1",
    "'; return true; //", '{"$ne": null}', "(a+)+$", "(.*)*x", "^(([a-z])+.)+[A-Z]([a-z])+$",
    ".*", "[", "\\", "\0", "a\0b", "\ud800", "\udfff x", "\u202e", "\ufeff", "\x1b[31m", "\r\nX: y",
    "../../etc/passwd", "%00", "%2e%2e%2f", "{{7*7}}", "<script>", "x" * 201, "x" * 5000, " ", "",
    "NaN", "1e400", "-0", "0x10", "١٢٣", "ⅷ", "1_000", " 1", "true", "null",
]  # fmt: skip
_NUMBERS = [0, -1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 10**400, 1.5, 1e308, -0.0]

texts = st.sampled_from(_TRICKS) | st.text(max_size=210)
numbers = (
    st.sampled_from([*_NUMBERS, float("nan"), float("inf"), float("-inf")])
    | st.integers()
    | st.floats()
)
leaves = st.none() | st.booleans() | numbers | texts
keys = st.sampled_from(["name", "version", "dateCreated", "_id", *_TRICKS]) | st.text(max_size=20)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)
plain_names = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9 _-]{0,30}", fullmatch=True)
dates = st.sampled_from(
    ["2024-01-20", "2024-01-20T14:45:00.123456+05:30", "0001-01-01T00:00:00+14:00",
     "9999-12-31T23:59:59.999999-12:00", "2024-02-30", "24:00", 0, -1e18, 1e300,
     1705761900123, "1705761900123", "1705761900.5", 253402300800000, "9" * 30]
)  # fmt: skip


def objects(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects with some of the ``known`` members, hostile or not, and others."""
    members = {name: strategy | values for name, strategy in known.items()}
    return st.builds(
        lambda ours, others: others | ours,
        st.fixed_dictionaries({}, optional=members),
        st.dictionaries(keys, leaves, max_size=2),
    )


drafts = objects(name=plain_names, version=st.integers(0, 9), dateCreated=dates)
bulks = st.lists(st.one_of(drafts, drafts, values), max_size=5)

# Bodies that are not JSON, or more than it.
torn = st.builds(
    lambda value, cut: json.dumps(value).encode()[:-cut], drafts | bulks, st.integers(1, 60)
)
bodies = st.one_of(
    torn,
    st.binary(max_size=200),
    st.sampled_from(
        [
            b"",
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"name": "one", "name": "two"}',
            b'{"name": {"$ne": null, "$ne": 1}}',
            b'{"name": "a", "version": NaN}',
            b'{"name": "a", "version": -Infinity}',
            b'{"name": "a", "version": 1' + b"0" * 5000 + b"}",
            b'{"name": "a", "version": 1e999999}',
            b'\xef\xbb\xbf{"name": "a"}',
            '{"name": "a"}'.encode("utf-16"),
            b'{"name": "\xff\xfe"}',
            b'{"name": "\\ud800"}',
            b'{"name": "\\u0000"}',
            b'{"name": "' + b"x" * 1_000_000 + b'"}',
            b'{"name": "' + b"x" * 1_100_000 + b'"}',
            b'[{"name": "a"}' + b', {"name": "a"}' * 60_000 + b"]",
            b"null",
            b'"name"',
        ]
    ),
)


def to_json(value: Any) -> bytes:
    """Return ``value`` as JSON, and what only Python's dialect of JSON can say."""
    return json.dumps(value).encode()
