"""Each key of a TOML text has its line, whatever strings, brackets and comments stand around it."""

import tomllib

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from gatepost.config.toml_lines import error_line, key_lines, read_toml

DIFFICULT = '''\
title = "top"                       # 1
"quoted.key" = 1

[plugins.dnsbl]                     # a comment with [brackets] and "quotes
text = """
[not.a.header]
nor = "a key"
escaped \\""" still inside"""
zones."bl.example.com" = 2

[ "plugins" . 'odd name' ]
raw = \'\'\'
[[nor.this]]
\'\'\'
servers = [
  "127.0.0.1",   # one
  # none

  [1, 2],
  { host = "a", port = 1 },
]
after = 1979-05-27 07:32:00

[[access.allow]]
network = "192.0.2.0/24"
[[access.allow]]
sender = "a@example.com"
[access.allow.more]
inline = { a = { b = "}" }, "c.d" = [1] }
[access]
last = true'''

LINES = {
    ("title",): 1,
    ("quoted.key",): 2,
    ("plugins",): 4,
    ("plugins", "dnsbl"): 4,
    ("plugins", "dnsbl", "text"): 5,
    ("plugins", "dnsbl", "zones"): 9,
    ("plugins", "dnsbl", "zones", "bl.example.com"): 9,
    ("plugins", "odd name"): 11,
    ("plugins", "odd name", "raw"): 12,
    ("plugins", "odd name", "servers"): 15,
    ("plugins", "odd name", "servers", 0): 16,
    ("plugins", "odd name", "servers", 1): 19,
    ("plugins", "odd name", "servers", 1, 0): 19,
    ("plugins", "odd name", "servers", 1, 1): 19,
    ("plugins", "odd name", "servers", 2): 20,
    ("plugins", "odd name", "servers", 2, "host"): 20,
    ("plugins", "odd name", "servers", 2, "port"): 20,
    ("plugins", "odd name", "after"): 22,
    ("access",): 30,
    ("access", "allow"): 24,
    ("access", "allow", 0): 24,
    ("access", "allow", 0, "network"): 25,
    ("access", "allow", 1): 26,
    ("access", "allow", 1, "sender"): 27,
    ("access", "allow", 1, "more"): 28,
    ("access", "allow", 1, "more", "inline"): 29,
    ("access", "allow", 1, "more", "inline", "a"): 29,
    ("access", "allow", 1, "more", "inline", "a", "b"): 29,
    ("access", "allow", 1, "more", "inline", "c.d"): 29,
    ("access", "allow", 1, "more", "inline", "c.d", 0): 29,
    ("access", "last"): 31,
}


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_every_key_of_a_difficult_text_has_its_line(line_end: str) -> None:
    text = DIFFICULT.replace("\n", line_end)
    tomllib.loads(text)
    assert key_lines(text) == LINES


@pytest.mark.parametrize(
    ("string", "lines"),
    [
        ('"""ends in quotes"""""', 1),
        ("'''ends in quotes'''''", 1),
        ('"""\n\n"""', 3),
        ('"""a \\\n  [b]\n"""', 3),
        (r'"a \" [b] # c"', 1),
        (r"'a \'", 1),
        ('""', 1),
        ('""""""', 1),
    ],
)
def test_the_key_behind_a_string_is_found(string: str, lines: int) -> None:
    text = f"first = {string}\nsecond = 2"
    assert tomllib.loads(text)["second"] == 2
    assert key_lines(text) == {("first",): 1, ("second",): 1 + lines}


def test_an_empty_text_has_no_keys() -> None:
    assert key_lines("") == {}
    assert key_lines("# nothing\n\n") == {}


KEYS = st.text(min_size=1, max_size=6)
SCALARS = st.integers(-9, 9) | st.booleans() | st.text(max_size=12) | st.dates()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


def paths_of(value: object, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = {path} if path else set()
    return found.union(*(paths_of(part, (*path, key)) for key, part in parts))


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.booleans())
def test_exactly_the_keys_that_tomllib_reads_have_lines(table: dict[str, object], is_multiline: bool) -> None:
    text = tomli_w.dumps(table, multiline_strings=is_multiline)
    assert set(key_lines(text)) == paths_of(tomllib.loads(text))


@given(st.lists(SCALARS, min_size=1, max_size=8), st.booleans())
def test_each_key_is_on_the_line_where_it_was_written(values: list[object], is_multiline: bool) -> None:
    text, lines = "", {}
    for number, value in enumerate(values):
        text += f"# comment {number}\n[table{number}]\n"
        lines[f"table{number}",] = text.count("\n")
        lines[f"table{number}", "key"] = text.count("\n") + 1
        text += tomli_w.dumps({"key": value}, multiline_strings=is_multiline)
    assert key_lines(text) == lines


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\nb = \n", 2), ("a = 1\na = 2\n", 2), ('a = 1\nb = "x', 2), ("a = [\n1,\n\n\n", 2), ("[a\n", 1)],
)
def test_a_syntax_error_has_the_line_that_tomllib_names(text: str, line: int) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(text)
    assert error_line(caught.value, text) == line


@pytest.mark.parametrize(
    ("text", "rest", "wrong"),
    [
        ("a = 1\nb 2\nc = 3\n", {"a": 1, "c": 3}, [2]),
        ("a = 1\n[t\nb = 2\n[u]\nc = 3\nd = \n", {"a": 1, "u": {"c": 3}}, [2, 6]),
        ("a = 1\na = 2\n", {"a": 1}, [2]),
        ('a = [\n"x"\n"y"\n]\nb = 1\n', {"a": ["x"], "b": 1}, [3]),
        ('a = """x\nb = 1\n', {}, [2]),
        ('a = ["x",\n[t]\nb = 1\n', {}, [2]),
    ],
)
def test_what_is_no_toml_is_left_out_and_the_rest_is_read(text: str, rest: object, wrong: list[int]) -> None:
    table, _, mistakes = read_toml(text)
    assert table == rest
    assert [line for line, _ in mistakes] == wrong


@given(st.lists(st.sampled_from([*DIFFICULT.splitlines(), "x =", "[y", '"', "]", "z = 1"]), max_size=30))
def test_every_text_has_an_end_to_its_mistakes_and_a_line_for_each(lines: list[str]) -> None:
    table, rest, wrong = read_toml("\n".join(lines))
    assert tomllib.loads(rest) == table
    assert all(1 <= line <= max(len(lines), 1) for line, _ in wrong)
