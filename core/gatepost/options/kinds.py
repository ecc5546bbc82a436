"""The kinds of value for options: durations, sizes, networks and secrets.

``Duration`` is seconds (float) in the program and "10s" in the file; ``Size`` is octets (int) and "25MiB". Python code
(a default, a test) may give a plain number of seconds; in a configuration file a duration needs its unit.

This module does not know files and lines. It takes two things from pydantic's validation context: ``folder``, to which
paths are relative (if it is there, the values come from a file), and ``environ``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    BeforeValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


def expected(what: str, found: object) -> PydanticCustomError:
    """Return the error to raise for a wrong value, which it shows; ``what`` are the allowed ones. Not for secrets."""
    return PydanticCustomError("expected", "expected {what}, found {found}", {"what": what, "found": shown(found)})


def shown(value: object) -> str:
    """Return a value for a message. The content of a list or table is not shown, because it might be a secret."""
    match value:
        case dict():
            return "a table"
        case list() | tuple():
            return "a list"
    return as_toml(value)


def as_toml(value: object) -> str:
    """Return the value as one line of TOML, cut at 80 characters. For messages and manuals, not for files."""
    text = toml_value(value)
    return text if len(text) <= 80 else text[:79] + "…"


def toml_value(value: object) -> str:
    """Return the value as one line of TOML; "none" for None, which does not exist in TOML."""
    match value:
        case Mapping():
            pairs = ", ".join(f"{dotted_key((key,))} = {toml_value(part)}" for key, part in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case None:
            return "none"
        case list() | tuple():
            return "[" + ", ".join(map(toml_value, value)) + "]"
        case str() | bool() | int():
            return json.dumps(value, ensure_ascii=False)
    return str(value)


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def dotted_key(path: Iterable[str | int]) -> str:
    """Return the path in TOML's syntax, with list indexes in brackets: ``zones."bl.example.com"``, ``bind[0]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (
                part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            )
    return text


_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|s|m|h|d|w)", re.ASCII)
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def _seconds(value: object, info: ValidationInfo) -> float:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return float(Decimal(match[1]) * _MILLISECONDS[match[2]] / 1000)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        if value == 0 or "folder" not in (info.context or {}):  # only a value from a file needs its unit
            return float(value)
        raise expected(f'a duration with its unit such as "{value}s" or "{value}m"', value)
    raise expected('a duration such as "10s", "5m" or "36d" (ms, s, m, h, d, w)', value)


def format_duration(seconds: float | str) -> str:
    """Return the duration as in a file, in the largest unit without a fraction: 300.0 is "5m"."""
    if isinstance(seconds, str):
        return seconds
    for unit in ("d", "h", "m", "s"):
        count, fraction = divmod(seconds, _MILLISECONDS[unit] / 1000)
        if not fraction and (count or unit == "s"):
            return f"{count:.0f}{unit}"
    milliseconds = round(seconds * 1000)
    if milliseconds / 1000 == seconds:
        return f"{milliseconds}ms"
    return f"{seconds:.9f}".rstrip("0") + "s"


Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": f"^{_DURATION.pattern}$"}, {"const": 0}], "x-kind": "duration"}
    ),
]
"""Seconds. Written as one number and one unit: "500ms", "10s", "5m", "2h", "36d", "1w"; 0 needs no unit."""


_SIZE = re.compile(r"(\d{1,15})(B|[kK]B|MB|GB|KiB|MiB|GiB)", re.ASCII)
_OCTETS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _octets(value: object) -> int:
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(match[1]) * _OCTETS[match[2].upper()]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise expected('a size such as "25MiB" or "512KiB" (B, KiB, MiB, GiB, KB, MB, GB) or a number of octets', value)


def format_size(octets: int | str) -> str:
    """Return the size as in a file, in the largest binary unit without a fraction: "25MiB"."""
    if isinstance(octets, str):
        return octets
    for unit in ("GiB", "MiB", "KiB"):
        count, fraction = divmod(octets, _OCTETS[unit.upper()])
        if count and not fraction:
            return f"{count}{unit}"
    return f"{octets}B"


Size = Annotated[
    int,
    BeforeValidator(_octets),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema({"type": ["string", "integer"], "minimum": 0, "pattern": f"^{_SIZE.pattern}$", "x-kind": "size"}),
]
"""Octets. Written as a whole number and a unit ("25MiB", "512KiB", "10MB"), or as a plain number of octets."""


def _network(value: object) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise expected('a network such as "192.0.2.0/24" or "2001:db8::/32"', value)
    try:
        network = ip_network(value, strict=False)  # the suggestion for a value that the next line refuses
        ip_network(value)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(f'{as_toml(value)} has host bits set; did you mean "{network}"?') from None
        raise expected('a network such as "192.0.2.0/24" or "2001:db8::/32"', value) from None
    # The clients of ::ffff:a.b.c.d have IPv4 addresses in a session (RFC 4291 §2.5.5.2).
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and (mapped := network.network_address.ipv4_mapped):
        return IPv4Network((IPv4Address(mapped), network.prefixlen - 96))
    return network


Network = Annotated[
    IPv4Network | IPv6Network,
    BeforeValidator(_network),
    WithJsonSchema({"type": "string", "x-kind": "network"}),
]
"""A network in CIDR notation, or one address. IPv4-mapped IPv6 becomes IPv4."""


class Secret:
    """Text that is never shown, neither in logs nor in errors, dumps or tracebacks. Only ``reveal()`` returns it.

    Written as text, as ``{ file = "/run/secrets/x" }`` (a trailing newline is not part of it) or ``{ env = "NAME" }``.
    """

    __slots__ = ("_text",)
    _mask: ClassVar[str] = "**********"

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret itself. Pass it on at once; keep the ``Secret``."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret('{self._mask}')"

    def __str__(self) -> str:
        return self._mask

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            _secret, serialization=core_schema.to_string_ser_schema(when_used="json")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        one_key = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": False}
        elsewhere = one_key | {"properties": {"file": {"type": "string"}, "env": {"type": "string"}}}
        return {"anyOf": [{"type": "string"}, elsewhere], "x-kind": "secret"}


def _secret(value: object, info: ValidationInfo) -> Secret:
    context = info.context or {}
    match value:
        case Secret():
            return value
        case str():
            return Secret(value)
        case {"file": str(name), **others} if not others:
            return Secret(_secret_file(Path(context.get("folder", ""), name)))
        case {"env": str(name), **others} if not others:
            text = context.get("environ", os.environ).get(name)
            if text is None:
                raise ValueError(f"the environment variable {name} is not set")
            return Secret(text)
    raise ValueError('expected text, { file = "…" } or { env = "…" }')


def _secret_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"cannot read {path}: it is not UTF-8 text") from None
