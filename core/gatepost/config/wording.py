"""The mistakes that pydantic finds, in sentences that an administrator can act on.

One sentence per key: the allowed values, the found one, and the near miss. Found text is repeated only in place of a
number, a truth value or one of a few words: elsewhere it might be a secret in the wrong place.

This module knows no files: ``Complaint.path`` is the key, and its callers find the line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from gatepost.config.toml_lines import KeyPath
from gatepost.errors import ListFileError
from gatepost.options import as_toml, shown


@dataclass(frozen=True, slots=True)
class Complaint:
    """One sentence about one key."""

    path: KeyPath
    message: str
    is_missing: bool = False
    in_file: tuple[tuple[str, int, str], ...] = ()
    """File, line and sentence of each mistake, if it is about a file that the key names."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean "delay"?`` if a known name is similar, else ""."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {as_toml(near[0])}?" if near else ""


def complaints(
    error: ValidationError, model: type[BaseModel], given: object, also_known: Collection[str] = ()
) -> list[Complaint]:
    """Return a sentence for each key in ``error``, in pydantic's order.

    ``given`` is the input of ``model``; ``also_known`` are top-level keys that the model does not have but that may be
    suggested for a misspelt one.
    """
    by_path: dict[KeyPath, list[_Finding]] = {}
    for detail in error.errors(include_url=False):
        finding = _finding(detail, model, also_known)
        by_path.setdefault(_written_path(detail["loc"], detail["type"], given), []).append(finding)
    return [
        Complaint(
            path,
            _joined(findings),
            any(finding.is_missing for finding in findings),
            tuple(place for finding in findings for place in finding.in_file),
        )
        for path, findings in by_path.items()
        if not _is_inside(path, by_path)
    ]


def _is_inside(path: KeyPath, paths: Iterable[KeyPath]) -> bool:
    """True when a complaint is inside this value: then those about the value itself are of other union members."""
    return any(len(other) > len(path) and other[: len(path)] == path for other in paths)


def _written_path(location: KeyPath, kind: str, given: object) -> KeyPath:
    """Return the location without the parts that pydantic adds, such as the names of union members."""
    path: KeyPath = ()
    for part in location:
        parts = dict(enumerate(given)) if isinstance(given, list) else given
        if isinstance(parts, dict) and part in parts:
            given = parts[part]
        elif not (kind == "missing" and part == location[-1]):
            continue
        path += (part,)
    return path


@dataclass(frozen=True, slots=True)
class _Finding:
    """One error of pydantic: ``wanted`` if it fits "expected … or …, found …", else a ``sentence``."""

    wanted: str
    sentence: str
    found: str
    is_missing: bool = False
    in_file: tuple[tuple[str, int, str], ...] = ()


# pydantic names an error after the expected type and the fault: "int_parsing", "int_type", "model_type". The part
# before the first underscore is the family.
_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a number",
    "bool": "true or false",
    "string": "text in quotes",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen": "a list",
    "dict": "a table",
    "mapping": "a table",
    "model": "a table",
    "path": "a path in quotes",
    "date": "a date such as 2027-01-31",
    "datetime": "a date and time such as 2027-01-31T12:00:00Z",
    "time": "a time such as 12:00:00",
}
"""The expected value in words, for each family."""
_SHOWN = ("int", "float", "finite", "bool", "literal", "enum")
"""The families for which found text is repeated: no secret is a number, a truth value or one of a few words."""
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def _finding(detail: Any, model: type[BaseModel], also_known: Collection[str]) -> _Finding:
    """Return the words for one of pydantic's error details."""
    kind, context, given = detail["type"], detail.get("ctx", {}), detail["input"]
    family = kind.partition("_")[0]
    found = "text" if isinstance(given, str) and family not in _SHOWN and kind not in _BOUNDS else shown(given)
    if kind == "missing":
        return _Finding("", "a required key is missing", "", is_missing=True)
    if kind == "extra_forbidden":
        return _Finding("", _unknown_key(detail["loc"], model, also_known), "")
    if kind == "expected":
        return _Finding(context["what"], "", context["found"])
    if kind == "value_error":
        return _Finding("", str(context["error"]), "", in_file=_in_file(context["error"]))
    if kind in ("literal_error", "enum"):
        return _Finding(*_choice(context["expected"], given), found)
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return _Finding(f"{words} {context[name]:g}", "", found)
    if kind == "too_short":
        return _Finding(f"at least {context['min_length']} in the list", "", str(context["actual_length"]))
    if family in _WANTED and not kind.startswith("string_too"):  # "string_too_long" is not about the type
        hint = _misspelt(detail["loc"], model) if family == "model" else ""
        return _Finding(_WANTED[family], hint, found)
    return _Finding("", detail["msg"][:1].lower() + detail["msg"][1:], "")


def _in_file(error: Exception) -> tuple[tuple[str, int, str], ...]:
    if not isinstance(error, ListFileError) or error.path is None:
        return ()
    return tuple((str(error.path), line, message) for line, message in error.lines)


def _choice(allowed: str, given: object) -> tuple[str, str]:
    words = re.findall(r"'([^']*)'", allowed)
    hint = did_you_mean(given, words) if isinstance(given, str) else ""
    return _either([as_toml(word) for word in words]) or allowed, hint


def _either(words: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _joined(findings: list[_Finding]) -> str:
    """Return one sentence from the findings of all members of a union about one value."""
    wanted = list(dict.fromkeys(finding.wanted for finding in findings if finding.wanted))
    sentences = list(dict.fromkeys(finding.sentence for finding in findings if finding.sentence and not finding.wanted))
    if wanted:
        hint = next((finding.sentence for finding in findings if finding.wanted and finding.sentence), "")
        found = min((finding.found for finding in findings if finding.wanted), key=_repeats_value)
        sentences.insert(0, f"expected {_either(wanted)}, found {found}{hint}")
    return "; or ".join(sentences)


def _repeats_value(found: str) -> bool:
    """False for words that only name the kind. They are preferred, because one member of a union may be a secret."""
    return found not in ("text", "a list", "a table")


def _misspelt(location: KeyPath, model: type[BaseModel]) -> str:
    """Return the near miss of a key in a table that accepts any key, such as [plugins], and so a misspelt one too."""
    owners = [owner for owner in _models_at(location[:-1], model) if owner.model_config.get("extra") == "allow"]
    known = {name for owner in owners for name in _keys(owner)}
    return did_you_mean(str(location[-1]), known - {location[-1]}) if location else ""


def _unknown_key(location: KeyPath, model: type[BaseModel], also_known: Collection[str]) -> str:
    known = {name for owner in _models_at(location[:-1], model) for name in _keys(owner)}
    near = did_you_mean(str(location[-1]), known.union(also_known if len(location) == 1 else ()))
    if near:
        return f"unknown key{near}"
    return f"unknown key; known are {', '.join(sorted(known))}" if known else "unknown key; there are no options here"


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_at(location: KeyPath, model: type[BaseModel]) -> set[type[BaseModel]]:
    """Return the models whose keys are allowed at a location: several if a union allows either."""
    models = {model}
    for part in location:
        fields = [
            field.annotation
            for owner in models
            for name, field in owner.model_fields.items()
            if (field.alias or name) == part
        ]
        models = {inner for annotation in fields for inner in _models_in(annotation)} or models
    return models


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
