"""Policies as configurations, and the errors and warnings that ``gatepost check`` has for them."""

from __future__ import annotations

from typing import Any

from tests.core.cli.running import LISTEN, Folder, facts, run

ORDER = '[plugins]\norder = ["recipients", "discard"]\n[plugins.recipients]\ndomains = ["example.org"]\n'


def errors(folder: Folder, text: str, **files: str) -> list[dict[str, Any]]:
    """The errors of a configuration; each is one of its file, and check ends with 78 for them."""
    path = folder.write(text, **files)
    result = run("check", "--config", path)
    found: list[dict[str, Any]] = facts("check", "--config", path)["errors"]
    assert result.exit_code == (78 if found else 0)
    assert all(str(error["line"]) in result.stdout for error in found)
    return found


def granting(grants: str, phase: str, **more: str) -> str:
    """A plugin that accepts at ``phase``."""
    lines = "".join(f"    {name} = {value}\n" for name, value in more.items())
    return (
        f"from gatepost import accept, hookimpl\nclass Mine:\n    grants = {grants!r}\n{lines}"
        f"    @hookimpl\n    def {phase}(self):\n        return accept()\n"
    )


INSTALLED = ("recipients", "discard", "earlytalker", "forward", "access", "greylist", "dnsbl")


def policy(*order: str, **tables: str) -> str:
    """A configuration of that order; a plugin without a table is a file of its own."""
    named = ", ".join(f'"{name}"' for name in order)
    local = {name: f'use = "{name}.py"' for name in order if name not in INSTALLED}
    tables = {"recipients": 'domains = ["example.org"]', **local, **tables}
    written = "".join(f"[plugins.{name}]\n{body}\n" for name, body in tables.items() if name in order)
    return f'hostname = "mx.example.org"\n{LISTEN}[plugins]\norder = [{named}]\n{written}'


def messages(found: list[dict[str, Any]]) -> str:
    return "\n".join(f"{error['line']} {error['key']} {error['message']}" for error in found)


def warnings(folder: Folder, text: str) -> list[str]:
    """Return the warnings of ``check`` about a configuration without errors."""
    found = facts("check", "--config", folder.write(text))
    assert found["errors"] == []
    return [warning["message"] for warning in found["warnings"]]
