"""TOML with the line of each key, which tomllib does not report, and with every mistake instead of the first.

``key_lines`` follows the grammar of TOML 1.0 just far enough to find the beginnings of keys and values: strings (so
that a header inside a multi-line string is not taken for one), brackets and braces. Its input is text that tomllib has
read, so it checks nothing, and tomllib reads each key, with its quotes and dots.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

KeyPath = tuple[str | int, ...]
"""The path to a value: keys of tables and indexes of lists."""

_TOKEN = re.compile(
    r'''
      """ (?: \\. | [^\\] )*? """ "{0,2}    # strings first: their content is not syntax
    | \'\'\' .*? \'\'\' '{0,2}                # the content may end in one or two quotation marks
    | " (?: \\. | [^"\\] )* "
    | ' [^']* '
    | \#[^\n]*
    | [\[\]{},=\n]
    | [ \t]+
    | [^\[\]{},=\n\#"' \t]+
    ''',
    re.VERBOSE | re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) of every table, key and list element of a valid TOML text."""
    return _Reader(text.replace("\r\n", "\n")).read()


MOST_ATTEMPTS = 50
"""The most parts of a text that are left out to read the rest."""


def read_toml(text: str) -> tuple[dict[str, Any], str, list[tuple[int, str]]]:
    """Return the tables in a TOML text, the part of the text that could be read, and line and message of each mistake.

    A line that is not TOML is left out, a header with the whole table under it, since its keys would count for the
    table above. A mistake that comes of such a gap, as in a list whose first line is left out, is not reported. The
    tables are empty if there is no end to the mistakes, as with a string that is never closed.
    """
    lines, left_out, wrong = text.replace("\r\n", "\n").split("\n"), set[int](), list[tuple[int, str]]()
    for _ in range(MOST_ATTEMPTS):
        rest = "\n".join(lines)
        try:
            table = tomllib.loads(rest)
        except tomllib.TOMLDecodeError as error:
            line = error_line(error, rest)
            if not lines[line - 1].strip() or line < max(left_out, default=0):  # it comes of what was left out
                break
            if not _follows(line, lines, left_out):
                wrong.append((line, _sentence(error)))
            end = line
            if lines[line - 1].lstrip().startswith("["):
                while end < len(lines) and not lines[end].lstrip().startswith("["):
                    end += 1
            left_out.update(range(line, end + 1))
            lines[line - 1 : end] = [""] * (end - line + 1)
        else:
            return table, rest, wrong
    return {}, "", wrong


def _follows(line: int, lines: list[str], left_out: set[int]) -> bool:
    """Return True when nothing stands between a line and a part that was left out, so that one explains the other."""
    above = line - 1
    while above > 0 and above not in left_out and not lines[above - 1].partition("#")[0].strip():
        above -= 1
    return above in left_out


def _sentence(error: tomllib.TOMLDecodeError) -> str:
    message = re.sub(r"\s*\(at [^()]*\)$", "", str(error))
    return message.replace(r"Illegal character '\n'", "a string ends with its line, without a quotation mark")


def error_line(error: tomllib.TOMLDecodeError, text: str) -> int:
    """Return the line in tomllib's message, from 1; the last line if the message says "end of document"."""
    match = re.search(r"\(at line (\d+), column \d+\)", str(error))
    return int(match[1]) if match else text.rstrip().count("\n") + 1


class _Reader:
    """One pass over the tokens. ``_token`` is the current one, ``_line`` the line on which it begins."""

    def __init__(self, text: str) -> None:
        self._lines: dict[KeyPath, int] = {}
        self._tables_in: dict[KeyPath, int] = {}
        """The number of tables so far in each list of tables, such as ``[[deny]]``."""
        self._line = 1
        self._tokens = self._cut(text)
        self._token = ""
        self._next()

    def _cut(self, text: str) -> Iterator[str]:
        for match in _TOKEN.finditer(text):
            token = match[0]
            if not token.startswith((" ", "\t", "#")):
                yield token
            self._line += token.count("\n")
        yield ""

    def _next(self) -> str:
        """Go to the next token, and return the one before."""
        passed, self._token = self._token, next(self._tokens, "")
        return passed

    def read(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._token:
            if self._token == "\n":
                self._next()
            elif self._token == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _header(self) -> KeyPath:
        line = self._line
        self._next()
        is_list = self._token == "["
        if is_list:
            self._next()
        table = self._resolve(self._key("]"), is_list)
        while self._token == "]":
            self._next()
        self._mark(table[:-1] if is_list else table, line)
        self._lines[table] = line
        return table

    def _resolve(self, keys: KeyPath, is_list: bool) -> KeyPath:
        """Return the path of a header: a key in it that is a list of tables means the latest table of that list."""
        path: KeyPath = ()
        for depth, key in enumerate(keys, 1):
            path += (key,)
            if is_list and depth == len(keys):
                self._tables_in[path] = self._tables_in.get(path, 0) + 1
            if path in self._tables_in:
                path += (self._tables_in[path] - 1,)
        return path

    def _key(self, end: str) -> KeyPath:
        """Read a key up to ``end``, such as ``a."b.c"``, into its parts."""
        written = ""
        while self._token != end:
            written += self._next()
        part: object = tomllib.loads(f"{written} = 0")  # one table inside the other, a key each
        keys: KeyPath = ()
        while isinstance(part, dict):
            ((key, part),) = part.items()
            keys += (key,)
        return keys

    def _pair(self, table: KeyPath) -> None:
        line = self._line
        path = table + self._key("=")
        self._next()
        self._mark(path, line)
        self._value(path)

    def _mark(self, path: KeyPath, line: int) -> None:
        """Note the line of a key, and of the tables in its path that have no line yet."""
        for depth in range(1, len(path) + 1):
            self._lines.setdefault(path[:depth], line)

    def _value(self, path: KeyPath) -> None:
        if self._token == "[":
            self._list(path)
        elif self._token == "{":
            self._inline_table(path)
        else:
            while self._token not in (",", "]", "}", "\n", ""):
                self._next()

    def _list(self, path: KeyPath) -> None:
        self._next()
        index = 0
        while self._token != "]":
            if self._token in ("\n", ","):
                self._next()
                continue
            self._lines[(*path, index)] = self._line
            self._value((*path, index))
            index += 1
        self._next()

    def _inline_table(self, path: KeyPath) -> None:
        self._next()
        while self._token != "}":
            if self._token in ("\n", ","):
                self._next()
            else:
                self._pair(path)
        self._next()
