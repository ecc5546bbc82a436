"""The kinds of value that only the configuration of the server has: host names, addresses to listen on, plugin names.

The kinds of value for plugins' options are in ``options.kinds``. Errors are sentences and may repeat what was written,
because nobody writes a secret in place of such a value.
"""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from gatepost.ip import SocketAddress
from gatepost.options import Duration, Size, as_toml, expected

PositiveDuration = Annotated[Duration, Field(gt=0)]
PositiveSize = Annotated[Size, Field(ge=1)]
Count = Annotated[int, Field(ge=1)]


def _beside_config(path: Path, info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("folder", ""), path)


ConfiguredPath = Annotated[Path, AfterValidator(_beside_config)]
"""A path; a relative one is relative to the folder of the configuration file."""


_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


def _host_name(value: object) -> str:
    if isinstance(value, str) and len(value) <= 253 and _HOST_NAME.fullmatch(value):
        return value.lower()
    raise expected("the name of this host, such as mx.example.org", value)


HostName = Annotated[str, BeforeValidator(_host_name)]


def _authserv_id(value: object) -> str:
    if isinstance(value, str) and _AUTHSERV_ID.fullmatch(value):
        return value.rstrip(".").lower()
    raise expected("a name that stands first in Authentication-Results, such as mail.example.org", value)


_AUTHSERV_ID = re.compile(r"[!#-'*-:<-\[\]-~]{1,255}")
"""Without what would end it in the field, or quote or comment a part of it."""
AuthservId = Annotated[str, BeforeValidator(_authserv_id)]


def own_host_name() -> str:
    """Return the fully qualified name of this machine, or "localhost" if the system's name is not a host name."""
    name = socket.getfqdn().rstrip(".").lower()
    return name if len(name) <= 253 and _HOST_NAME.fullmatch(name) else "localhost"


_ADDRESS = re.compile(r"(?:\[(?P<v6>[^]]*)]|(?P<host>[^:]*))(?::(?P<port>.*))?", re.DOTALL)


def _socket_address(value: object, default_port: int | None) -> SocketAddress:
    if isinstance(value, SocketAddress):
        return value
    if not isinstance(value, str):
        raise expected('an address in quotes such as "127.0.0.1:25"', value)
    if default_port is not None and _version(value) == 6:
        return SocketAddress(value, default_port)
    match = _ADDRESS.fullmatch(value)
    if match is None or (match["v6"] is None and _version(value.rpartition(":")[0]) == 6):
        raise ValueError(f'{as_toml(value)} is ambiguous; write an IPv6 address in brackets, such as "[::1]:25"')
    if match["port"] is not None:
        return SocketAddress(_bindable_host(match), _port(match["port"]))
    if default_port is not None:
        return SocketAddress(_bindable_host(match), default_port)
    raise ValueError(f'{as_toml(value)} has no port; add it after a colon, as in "127.0.0.1:25" or "[::1]:25"')


def _bindable_host(match: re.Match[str]) -> str:
    if match["v6"] is not None:
        if _version(match["v6"]) == 6:
            return match["v6"]
        raise expected('an IPv6 address in the brackets, such as "[::1]"', match["v6"])
    host = match["host"].lower()
    if host == "localhost" or _version(host) == 4:
        return host
    raise expected('an IP address such as "127.0.0.1", "0.0.0.0" (all IPv4) or "[::]" (all IPv6)', match["host"])


def _port(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,5}", text) and int(text) <= 65535:
        return int(text)
    raise expected("a port from 0 to 65535", text)


def _version(text: str) -> int:
    """Return the version of an IP address, 4 or 6, or 0 if ``text`` is not one."""
    try:
        return ip_address(text).version
    except ValueError:
        return 0


BindAddress = Annotated[
    SocketAddress,
    PlainValidator(lambda value: _socket_address(value, None)),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "x-kind": "address with port"}),
]
NameServer = Annotated[
    SocketAddress,
    PlainValidator(lambda value: _socket_address(value, 53)),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "x-kind": "address, port 53 if none"}),
]


def _plugin_name(value: object) -> str:
    if not isinstance(value, str):
        raise expected("the name of a plugin in quotes", value)
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value):
        return value
    raise ValueError(
        f"{as_toml(value)} is not a name for a plugin: use letters, digits, _, - and .; "
        'a file goes into the plugin\'s table ([plugins.mine] use = "plugins/mine.py")'
    )


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise ValueError(f"{as_toml(twice[0])} is listed twice; a plugin has one place in the order")
    return names


PluginName = Annotated[str, BeforeValidator(_plugin_name)]
Order = Annotated[tuple[PluginName, ...], AfterValidator(_each_once)]


def _reserved(value: object, info: ValidationInfo) -> None:
    raise ValueError(f"{info.field_name} is reserved for a later version")


Reserved = Annotated[None, BeforeValidator(_reserved), WithJsonSchema({"not": {}, "x-kind": "reserved"})]
"""No value is allowed yet."""


def _store_url(value: object) -> str:
    if isinstance(value, str) and (value == "memory:" or re.fullmatch(r"sqlite:///[^/].*", value)):
        return value
    raise ValueError('expected "sqlite:///var/lib/gatepost/state.db" (an absolute path) or "memory:"')


StoreUrl = Annotated[str, BeforeValidator(_store_url)]
