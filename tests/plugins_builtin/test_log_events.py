"""The lines that built-in plugins log: their names have the style of gatepost's own events."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import gatepost_builtin

LOG_CALL = re.compile(r"(self\.)?_?log\.(info|warning|error)|warn")


def test_a_plugin_s_log_events_are_named_in_snake_case() -> None:
    names = [
        ast.literal_eval(call.args[0])
        for path in Path(gatepost_builtin.__file__).parent.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and LOG_CALL.fullmatch(ast.unparse(call.func))
    ]
    assert {"list_off", "list_empty", "mail_is_discarded"} <= set(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []
