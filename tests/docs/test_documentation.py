"""The manual is complete: it explains every phase, key, option, command, public name and plugin.

The reference is generated from the code, so a missing explanation is a missing docstring. ``test_hand_written``
compares the other pages with the code, and Sphinx checks the links (scripts/docs).
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from pydantic import BaseModel

import gatepost
from gatepost.config.model import Config, PluginTable
from gatepost.events import EVENTS, FACTS, Event
from gatepost.gate.instance import Declaration
from gatepost.hookspecs import PHASES, Hookspecs
from gatepost.options import CORE_KEYS, describe
from gatepost.plugins.contract import hooks_of
from gatepost.plugins.discovery import installed
from gatepost.replies import PHASE_CODES
from tests.docs.manual import ROOT, blocks, commands, mistakes_in, prose, reference, section

ENTRY_POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["gatepost.plugins"]

COMMANDS = dict(commands())


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Return the generated pages by their names."""
    return reference()


def squeezed(text: str) -> str:
    """Return ``text`` without the spaces and commas that ruff inserts when it breaks lines."""
    return re.sub(r",\)", ")", re.sub(r"\s+", "", text))


def parts_of_signature(function: Any) -> list[str]:
    """Return each parameter and the result in the form that the page must have."""
    signature = inspect.signature(function)
    parameters = signature.parameters.values()
    named = [each.name + (f": {each.annotation}" if each.annotation is not each.empty else "") for each in parameters]
    return [squeezed(part) for part in (*named, f"-> {signature.return_annotation}")]


# Phases


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_is_documented_with_its_exact_signature(pages: dict[str, str], phase: str) -> None:
    text = section(pages["phases.md"], phase)
    *named, result = parts_of_signature(getattr(Hookspecs, phase))
    assert squeezed(blocks(text, "python")[0]) == f"def{phase}({','.join(named)}){result}"
    # Its docstring, and not only the word "Example" before the one.
    first = inspect.cleandoc(getattr(Hookspecs, phase).__doc__ or "").partition("\n")[0]
    assert len(first) > 20 and squeezed(first) in squeezed(prose(text))


def test_phases_are_in_the_order_of_a_session(pages: dict[str, str]) -> None:
    assert tuple(re.findall(r"^\| \[(\w+)\]", pages["phases.md"], re.MULTILINE)) == PHASES
    assert tuple(re.findall(r"^## (\w+)$", pages["phases.md"], re.MULTILINE))[1:] == PHASES


@pytest.mark.parametrize("phase", PHASE_CODES)
def test_a_phase_names_the_codes_of_its_refusals(pages: dict[str, str], phase: str) -> None:
    deny, defer = (f"{code} {status}" for code, status in (PHASE_CODES[phase].deny, PHASE_CODES[phase].defer))
    assert f"| [{phase}](#{phase}) | {deny} | {defer} |" in pages["phases.md"]
    written = re.sub(r"\s+", " ", prose(section(pages["phases.md"], phase)))
    assert f"deny and defer: {deny}" in written or re.search(
        rf"deny: {deny}[,;] defer(, and every error)?: {defer}", written
    )


# Configuration


def tables_in(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield a model and all models inside it."""
    yield model
    kinds = [field.annotation for field in model.model_fields.values()]
    while kinds:
        kind = kinds.pop()
        kinds += get_args(kind)
        if inspect.isclass(kind) and issubclass(kind, BaseModel):
            yield from tables_in(kind)


CONFIGURATION_KEYS = [
    pytest.param(model, option, id=f"{model.__name__}.{option.name}")
    for model in (*tables_in(Config), PluginTable)
    for option in describe(model)
    if model is not PluginTable or option.name in CORE_KEYS
]


@pytest.mark.parametrize(("model", "option"), CONFIGURATION_KEYS)
def test_a_key_of_the_configuration_is_documented(pages: dict[str, str], model: type[BaseModel], option: Any) -> None:
    assert option.doc
    if model is Config and option.type.startswith("table"):
        assert f"## `[{option.name}" in pages["configuration.md"]
        return
    heading = (model.__doc__ or "").partition(":")[0] if model is not Config else "At the top of the file"
    assert f"| `{option.name}` | {option.type} |" in section(pages["configuration.md"], heading)
    assert re.sub(r"\s+", " ", option.doc) in section(pages["configuration.md"], heading)


# Plugins


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_a_plugin_has_a_page_that_begins_with_its_docstring(pages: dict[str, str], name: str) -> None:
    module = inspect.getmodule(load(name))
    assert module is not None
    text = inspect.cleandoc(module.__doc__ or "")
    assert text
    assert pages[f"plugins/{name}.md"].startswith(f"# {name}\n\n{text}\n")
    assert f"plugins/{name}\n" in pages["index.md"]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_every_option_of_a_plugin_is_documented(pages: dict[str, str], name: str) -> None:
    model = getattr(load(name), "Options", None)
    text = prose(pages[f"plugins/{name}.md"])
    for option in [option for table in (tables_in(model) if model else ()) for option in describe(table)]:
        assert option.doc, f"{name}: {option.name} has no docstring"
        assert f"| `{option.name}` | {option.type} |" in text
        assert re.sub(r"\s+", " ", option.doc) in text


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_a_plugin_page_shows_the_declarations_of_the_class(pages: dict[str, str], name: str) -> None:
    declared, text = load(name), section(pages[f"plugins/{name}.md"], "What it declares")
    assert {phase for phase, _ in hooks_of(declared)} == set(re.findall(r"phases\.md#(\w+)", text))
    assert f"| grants | {getattr(declared, 'grants', 'nothing')} |" in text
    assert f'`"{getattr(declared, "on_error", "defer")}"`' in text


def test_every_declaration_is_in_the_table_with_its_meaning(pages: dict[str, str]) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", pages["declarations.md"], re.MULTILINE))
    assert list(rows) == [field.name for field in fields(Declaration)]
    assert all(meaning.endswith(".") for meaning in rows.values())


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_a_plugin_page_has_an_example_to_paste(pages: dict[str, str], name: str, tmp_path: Path) -> None:
    examples = blocks(pages[f"plugins/{name}.md"], "toml")
    assert examples
    assert all(name in example for example in examples)
    assert [mistake for example in examples for mistake in mistakes_in(example, tmp_path)] == []


def load(name: str) -> Any:
    """Return the class of a built-in plugin."""
    return next(offer for offer in installed() if offer.target == ENTRY_POINTS[name]).load()


# Public API


@pytest.mark.parametrize("name", gatepost.__all__)
def test_a_public_name_is_documented(pages: dict[str, str], name: str) -> None:
    text = section(pages["api.md"], name)
    assert blocks(text, "python")
    assert prose(text), f"{name} has no docstring"


PUBLIC_FUNCTIONS = {name: made for name in gatepost.__all__ if inspect.isfunction(made := getattr(gatepost, name))} | {
    f"{name}.{method}": function
    for name in gatepost.__all__
    if inspect.isclass(made := getattr(gatepost, name))
    for method, function in vars(made).items()
    if inspect.isfunction(function) and not method.startswith("_") and function.__module__.startswith("gatepost")
}


@pytest.mark.parametrize("name", PUBLIC_FUNCTIONS)
def test_a_public_function_or_method_is_documented_with_its_signature(pages: dict[str, str], name: str) -> None:
    text = section(pages["api.md"], name)
    signature = squeezed(blocks(text, "python")[0])
    assert [part for part in parts_of_signature(PUBLIC_FUNCTIONS[name]) if part not in signature] == []
    assert prose(text)


def test_only_public_names_are_documented_as_public(pages: dict[str, str]) -> None:
    assert sorted(re.findall(r"^### (\w+)$", pages["api.md"], re.MULTILINE)) == sorted(gatepost.__all__)


# The log


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_a_log_event_is_documented_with_its_level_and_fields(pages: dict[str, str], event: Event) -> None:
    (row,) = [line for line in pages["log.md"].splitlines() if line.startswith(f"| `{event.name}` |")]
    assert event.level in row and event.meaning in row
    assert [fact for fact in event.facts if f"`{fact}`" not in row] == []


@pytest.mark.parametrize("fact", FACTS)
def test_a_field_of_the_log_is_explained(pages: dict[str, str], fact: str) -> None:
    assert f"| `{fact}` | {FACTS[fact]} |" in pages["log.md"].splitlines()


# Command line


@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_is_documented_with_all_its_options(pages: dict[str, str], path: str) -> None:
    command, text = COMMANDS[path], section(pages["commands.md"], path)
    explained, _, listed = prose(text).partition("| option")
    assert blocks(text, "console")[0].startswith(f"$ {path} ")
    assert explained, f"{path} has no help"
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{path} {option.opts[0]} has no help"
            row = next(line for line in listed.splitlines() if option.opts[0] in line.partition(" | ")[0])
            assert squeezed(option.help) in squeezed(row)
        else:
            assert option.make_metavar(click.Context(command)).strip("[].") in explained
