"""The reference of the manual, generated from the code: configuration, plugins, phases, public API, kit, commands.

The example of each phase is a file in ``authors/examples/phases``.

Sphinx calls ``write`` before it reads the pages (see ``conf``). Anything that the code does not document is missing
from the reference, and ``tests/docs`` fails. The prose around the reference is in the pages of this folder.
"""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import click
from definitions import Definition, definition, exported
from pydantic import BaseModel

from gatepost import events
from gatepost.config.model import Config, PluginTable
from gatepost.hookspecs import ALL_RUN, PHASES
from gatepost.options import CORE_KEYS, Option, describe
from gatepost.plugins.contract import declaration_of, hooks_of, options_of
from gatepost.plugins.discovery import Installed, installed
from gatepost.replies import PHASE_CODES

KINDS = {"duration": "Duration", "size": "Size", "network": "Network", "secret": "Secret", "file": "WatchedFile"}
"""The names of kinds of value in the tables of options, and the public name that documents each."""

EXAMPLES = Path(__file__).parent / "authors/examples/phases"
"""The folder with a plugin for each phase, in a file named after the phase."""

API_SECTIONS = {
    "Decisions": ("decisions", "hookspecs"),
    "Sessions and messages": ("session", "message", "address", "rulings"),
    "Options and services": ("options", "services", "config"),
    "Errors": ("errors",),
}
"""The packages and modules whose public names are listed under each heading."""


def write(folder: Path) -> None:
    """Write all pages into ``folder``, and delete everything else in it."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in pages().items():
        page = folder / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Return every page by its file name."""
    made = {
        "configuration.md": configuration(),
        "commands.md": commands(),
        "log.md": log(),
        "phases.md": phases(),
        "declarations.md": declarations(),
        "api.md": public_api(),
        "testing.md": test_kit(),
    } | {f"plugins/{offer.name}.md": plugin(offer) for offer in built_in()}
    return {"index.md": index(made)} | made


def built_in() -> list[Installed]:
    """Return the plugins that come with gatepost."""
    return [offer for offer in installed() if offer.package == "gatepost"]


def index(names: Iterable[str]) -> str:
    """Return the page that lists the others, in their order."""
    listed = "\n".join(name.removesuffix(".md") for name in names)
    return _page("# Reference", "Generated from the code.", f"```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```")


# Configuration


def configuration() -> str:
    """Return the page on every table and key of the configuration file."""
    tables = {model: key for key, model in _tables_in(Config)}
    own = [option for option in describe(Config) if option.name not in tables.values()]
    parts = [
        "# Configuration keys",
        "[Configuration](../configuration.md) explains how gatepost finds the file, drop-ins and secrets.",
        "## At the top of the file",
        _option_table(own),
    ]
    for model in (*tables, PluginTable):
        title, _, meaning = inspect.cleandoc(model.__doc__ or "").partition(": ")
        keys = [option for option in describe(model) if model is not PluginTable or option.name in CORE_KEYS]
        parts += [f"## {title}", meaning[:1].upper() + meaning[1:], _option_table(keys)]
    parts += ["## Kinds of value", *(f"**{kind}**: {definition('gatepost', name).doc}" for kind, name in KINDS.items())]
    return _page(*parts)


def _tables_in(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the key and the model of each table inside a table."""
    for name, field in model.model_fields.items():
        for inner in _models(field.annotation):
            yield field.alias or name, inner


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _option_table(options: Iterable[Option]) -> str:
    return _table(
        ("key", "type", "default", "meaning"),
        [(_code(option.name), option.type, _default(option), option.doc) for option in options],
    )


def _default(option: Option) -> str:
    if option.default == "required" and "Default:" not in option.doc:
        return "**required**"
    return "–" if option.default in {"required", "none"} else _code(option.default)


# Plugins


def plugin(offer: Installed) -> str:
    """Return the page of one plugin: its module's docstring, its options, an example, and its declarations."""
    loaded = offer.load()
    module, model = import_module(offer.target.partition(":")[0]), options_of(loaded)
    text = inspect.cleandoc(module.__doc__ or "")
    parts = [f"# {offer.name}", text]
    if "```toml" not in text:
        parts += ["**Example.**" + (" These are the defaults." if model else ""), _example(offer.name, model)]
    parts += ["## Options", *(_options_of(model) if model else ["None."]), "## What it declares", _declared(loaded)]
    return _page(*parts)


def _options_of(model: type[BaseModel]) -> Iterator[str]:
    yield "In addition to the keys that [every plugin's table](../configuration.md) may have:"
    yield _option_table(describe(model))
    holders: dict[type[BaseModel], list[str]] = {}
    for key, inner in _tables_in(model):
        holders.setdefault(inner, []).append(_code(key))
    for inner, keys in holders.items():
        yield f"### A table in {' or '.join(keys)}"
        yield _option_table(describe(inner))


def _example(name: str, model: type[BaseModel] | None) -> str:
    """Return a table to paste that states the defaults; for a plugin without options, an order that names it."""
    if model is None:
        return _fence("toml", f'[plugins]\norder = ["{name}"]')
    lines = [f"{option.name} = {option.default}" for option in describe(model) if option.default != "none"]
    return _fence("toml", "\n".join((f"[plugins.{name}]", *lines)))


def _declared(loaded: Any) -> str:
    taken = {phase for phase, _ in hooks_of(loaded)}
    declared = declaration_of(loaded)
    rows = [
        ("takes part in", ", ".join(f"[{phase}](../phases.md#{phase})" for phase in PHASES if phase in taken)),
        ("grants", ", ".join(sorted(declared.grants)) or "nothing"),
        ("`on_error`", _code(f'"{declared.on_error}"')),
        ("trusted clients", "skipped" if declared.skip_trusted else "not skipped"),
    ]
    return _table(("", ""), rows) + "\n\n[How plugins decide](../../plugins.md) explains these terms."


def declarations() -> str:
    """Return the page on every attribute by which a plugin declares something about itself."""
    text = """\
        A plugin declares facts about itself in attributes of its class; all of them are optional. An attribute whose
        value depends on the options is a property, or is set in the constructor: gatepost reads all attributes once,
        when it has made the object. A plugin that is a module declares them as variables.

        A value of the wrong type stops the start. So does an attribute of the class that is one letter away from a
        declaration and could be one, such as `skip_trused = True`. All other names are the plugin's own."""
    rows = [(_code(each.name), each.doc) for each in definition("gatepost.gate.instance", "Declaration").members]
    return _page("# Declarations", inspect.cleandoc(text), _table(("attribute", "meaning"), rows))


# Phases


def phases() -> str:
    """Return the page on every hook specification, in the order of a session."""
    specs = {each.name: each for each in definition("gatepost.hookspecs", "Hookspecs").members}
    rows = [(f"[{phase}](#{phase})", *_codes(phase)) for phase in PHASES]
    parts = [
        "# Phases",
        "The phases in the order of a session, with the codes of a refusal to which the plugin gives no code.",
        "Each example is a complete plugin: save it as a file and name the file with `use` in its table.",
        _table(("phase", "deny", "defer", ""), rows),
        "## hookimpl",
        definition("gatepost", "hookimpl").doc,
    ]
    for phase in PHASES:
        parts += [f"## {phase}", _fence("python", specs[phase].signature), specs[phase].doc, _example_of_phase(phase)]
    return _page(*parts)


def _example_of_phase(phase: str) -> str:
    """Return a complete plugin that takes part in ``phase``; "" if there is none."""
    file = EXAMPLES / f"{phase}.py"
    return "**Example:**\n\n" + _fence("python", file.read_text("utf-8").strip()) if file.is_file() else ""


def _codes(phase: str) -> tuple[str, str, str]:
    if phase not in PHASE_CODES:
        return "–", "–", "all plugins are asked" if phase in ALL_RUN else "the first answer is used"
    codes = PHASE_CODES[phase]
    return f"{codes.deny[0]} {codes.deny[1]}", f"{codes.defer[0]} {codes.defer[1]}", "the first decision is used"


# Public API


def public_api() -> str:
    """Return the page on every name that a plugin may import."""
    parts = ["# Public API", "All names that a plugin may import: `from gatepost import …`. Other names may change."]
    found = exported("gatepost")
    for heading, modules in API_SECTIONS.items():
        parts.append(f"## {heading}")
        for each in [each for each in found if each.module.split(".")[1] in modules]:
            parts += _documented_with_members("###", each)
    return _page(*parts)


def test_kit() -> str:
    """Return the page on every name of the test kit."""
    parts = [
        "# Test kit",
        "All names that a test may import: `from gatepost.testing import …`. See [Testing](../authors/testing.md).",
    ]
    for each in exported("gatepost.testing"):
        parts += _documented_with_members("##", each)
    return _page(*parts)


def _documented_with_members(level: str, found: Definition) -> list[str]:
    parts = _documented(f"{level} {found.name}", found)
    for member in found.members:
        parts += _documented(f"{level}# {found.name}.{member.name}", member) if member.doc else []
    return parts


def _documented(heading: str, found: Definition) -> list[str]:
    undescribed = [member.signature for member in found.members if not member.doc]
    inside = "".join(f"\n    {signature}" for signature in undescribed)
    return [heading, _fence("python", found.signature + inside), found.doc]


# Command line


def commands() -> str:
    """Return the page on every command with its options, read from the objects that run."""
    main: click.Command = import_module("gatepost.cli").main
    parts = ["# Commands"]
    for context in _contexts(click.Context(main, info_name="gatepost")):
        command = context.command
        usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
        parts += [f"## {context.command_path}", _fence("console", f"$ {usage}"), _help(command.help or "")]
        records = [record for each in command.get_params(context) if (record := each.get_help_record(context))]
        parts.append(_table(("option", "meaning"), [(_code(names), meaning) for names, meaning in records]))
    return _page(*parts)


def _contexts(context: click.Context) -> Iterator[click.Context]:
    """Yield a context for each command, parents first."""
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            inner = context.command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _contexts(click.Context(inner, info_name=name, parent=context))


def _help(text: str) -> str:
    r"""Return a command's help as Markdown: text that click does not rewrap (after ``\b``) is a block of code."""
    paragraphs = inspect.cleandoc(text.partition("\f")[0]).split("\n\n")
    return "\n\n".join(
        _fence("text", part.removeprefix("\b\n")) if part.startswith("\b") else part for part in paragraphs
    )


# The log


def log() -> str:
    """Return the page of every event that gatepost itself logs, and of every field of such a line."""
    fields = {
        "timestamp": "UTC, ISO 8601, with milliseconds",
        "level": "`info`, `warning` or `error`; an event has the same level each time",
        "event": "the name of the event",
        **events.FACTS,
    }
    return _page(
        "# Log events",
        "The lines that gatepost itself writes. [The log](../operations.md#the-log) says where they go. "
        "Plugins write lines of their own, with their name in `plugin`.",
        "## Events",
        _table(
            ("event", "level", "meaning", "fields"),
            [
                (_code(event.name), event.level, event.meaning, ", ".join(map(_code, event.facts)))
                for event in events.EVENTS
            ],
        ),
        "## Fields",
        "A field has the same meaning in every line. Fields without a value are left out.",
        _table(("field", "meaning"), [(_code(name), meaning) for name, meaning in fields.items()]),
    )


# Markdown


def _page(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _fence(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(part) for part in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", r"\|")
