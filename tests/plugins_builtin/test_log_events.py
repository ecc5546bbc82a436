"""The lines that built-in plugins log: their style, and that each is explained on the plugin's page and tested."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gatepost_builtin

LOG_CALL = re.compile(r"(self\.)?_?log\.(info|warning|error)|warn")
TESTS = Path(__file__).parent


def logged() -> Iterator[tuple[str, str]]:
    """Yield the module and the name of each event that a built-in plugin logs."""
    for path in sorted(Path(gatepost_builtin.__file__).parent.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and LOG_CALL.fullmatch(ast.unparse(call.func)):
                yield str(path), ast.literal_eval(call.args[0])


EVENTS = [pytest.param(*found, id=found[1]) for found in dict.fromkeys(logged())]


def test_a_plugin_s_log_events_are_named_in_snake_case() -> None:
    names = [name for _, name in logged()]
    assert {"list_off", "list_empty", "mail_is_discarded"} <= set(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []


@pytest.mark.parametrize(("module", "name"), EVENTS)
def test_an_event_of_a_plugin_is_explained_on_its_page(module: str, name: str) -> None:
    page = ast.get_docstring(ast.parse(Path(module).read_text())) or ""
    assert f"`{name}`" in page


@pytest.mark.parametrize(("module", "name"), EVENTS)
def test_an_event_of_a_plugin_is_seen_by_a_test(module: str, name: str) -> None:
    sources = [path.read_text() for path in TESTS.rglob("test_*.py") if path != Path(__file__)]
    assert any(f'"{name}"' in source for source in sources)
