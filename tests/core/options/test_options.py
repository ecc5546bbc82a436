"""Options read what a person writes, refuse what he cannot mean, and keep secrets."""

import os
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError

from gatepost.options import (
    CORE_KEYS,
    Duration,
    Network,
    Option,
    Options,
    Secret,
    Size,
    WatchedFile,
    describe,
    format_duration,
    format_size,
)
from gatepost.testing.recording import GateEvents

FROM_FILE = {"folder": Path("/etc/gatepost"), "environ": {}}


class Zone(Options):
    points: float
    answers: tuple[str, ...] = ()


class Example(Options):
    """Options of all kinds."""

    count: int = 1
    """How many."""
    share: float = 0.5
    enabled: bool = True
    delay: Duration = 6.0
    """How long to wait."""
    written_delay: Duration = "90s"  # type: ignore[assignment]
    limit: Size = 2048
    domains: frozenset[str] = frozenset({"b.example", "a.example"})
    networks: tuple[Network, ...] = ()
    action: Literal["deny", "defer"] = "deny"
    password: Secret | None = None
    zones: dict[str, float | Zone] = Field(default_factory=dict)


class Required(Options):
    domains: list[str]


def read(kind: Any, value: object) -> Any:
    return TypeAdapter(kind).validate_python(value, context=FROM_FILE)


def refusal(kind: Any, value: object, context: dict[str, Any] | None = None) -> str:
    """The sentence with which a value is refused."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value, context=context or FROM_FILE)
    return caught.value.errors()[0]["msg"].removeprefix("Value error, ")


# Options


def test_options_have_their_defaults() -> None:
    options = Example()
    assert (options.count, options.enabled, options.delay, options.action) == (1, True, 6.0, "deny")


def test_a_default_written_as_text_is_read_like_the_file() -> None:
    assert Example().written_delay == 90.0


def test_lists_become_the_collection_that_the_field_wants() -> None:
    options = Example.model_validate({"domains": ["x.example"], "networks": ["192.0.2.0/24"]})
    assert options.domains == {"x.example"}
    assert options.networks == (ip_network("192.0.2.0/24"),)


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": "5"},
        {"count": True},
        {"count": 5.0},
        {"share": "0.5"},
        {"share": True},
        {"enabled": 1},
        {"enabled": "yes"},
        {"domains": ["a", 5]},
        {"domains": "a"},
        {"action": "refuse"},
        {"zones": {"x": {"points": "1"}}},
        {"zones": {"x": True}},
        {"unknown": 1},
    ],
)
def test_a_value_of_another_type_is_refused_and_never_converted(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Example.model_validate(wrong)


def test_a_whole_number_does_for_a_number() -> None:
    assert Example(share=1).share == 1.0


def test_options_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Example().count = 2


def test_the_error_of_pydantic_does_not_repeat_the_value() -> None:
    with pytest.raises(ValidationError) as caught:
        Example.model_validate({"count": "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", CORE_KEYS)
def test_a_name_of_the_core_is_refused_where_the_class_is_made(name: str) -> None:
    with pytest.raises(TypeError, match=f"Broken may not have an option named {name}"):
        type("Broken", (Options,), {"__annotations__": {name: str}, "__module__": __name__})


def test_options_may_be_named_as_fields_of_the_core_that_are_no_keys() -> None:
    class Free(Options):
        name: str
        options: int
        default: bool
        type: str
        model_name: str = ""

    assert Free.model_validate({"name": "a", "options": 1, "default": True, "type": "t"}).options == 1
    with pytest.raises(ValidationError):
        Free.model_validate({"name": "a", "options": "1", "default": 1, "type": "t"})


# Duration


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10.0),
        ("1.5h", 5400.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("36d", 3_110_400.0),
        ("1w", 604_800.0),
        ("0s", 0.0),
        (0, 0.0),
        (0.0, 0.0),
    ],
)
def test_a_duration_is_seconds(written: object, seconds: float) -> None:
    assert read(Duration, written) == seconds


@pytest.mark.parametrize(
    "wrong", ["", "10", "s", "10 s", "-1s", "1h30m", "10S", "10x", "1e3s", "1" * 400 + "s", "١s", True, -1, None, [1]]
)
def test_what_is_no_duration_is_refused_with_a_sentence(wrong: object) -> None:
    assert refusal(Duration, wrong).startswith('expected a duration such as "10s"')


def test_a_number_without_unit_is_a_mistake_in_a_file() -> None:
    assert refusal(Duration, 10) == 'expected a duration with its unit such as "10s" or "10m", found 10'
    assert "found 2.5" in refusal(Duration, 2.5)


def test_a_number_is_seconds_in_python() -> None:
    assert Example(delay=10).delay == 10.0
    assert Example.model_validate({}, context=FROM_FILE).delay == 6.0


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h", "d", "w"]))
def test_a_duration_survives_being_written_and_read(number: int, unit: str) -> None:
    seconds = read(Duration, f"{number}{unit}")
    assert read(Duration, format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0s"),
        (0.5, "500ms"),
        (90, "90s"),
        (300, "5m"),
        (7200, "2h"),
        (86400, "1d"),
        (604800, "7d"),
        (0.0005, "0.0005s"),
    ],
)
def test_a_duration_is_shown_in_the_largest_whole_unit(seconds: float, written: str) -> None:
    assert format_duration(seconds) == written


def test_the_json_schema_of_a_duration_is_its_pattern_or_0() -> None:
    schema = Example.model_json_schema()["properties"]["delay"]
    text, zero = schema["anyOf"]
    assert text["pattern"].startswith(r"^(\d{1,12}") and zero == {"const": 0}
    assert (schema["default"], schema["description"]) == ("6s", "How long to wait.")


# Size


@pytest.mark.parametrize(
    ("written", "octets"),
    [
        ("100B", 100),
        ("512KiB", 524_288),
        ("25MiB", 26_214_400),
        ("1GiB", 2**30),
        ("10kB", 10_000),
        ("10KB", 10_000),
        ("10MB", 10_000_000),
        ("1GB", 10**9),
        (1000, 1000),
        (0, 0),
    ],
)
def test_a_size_is_octets(written: object, octets: int) -> None:
    assert read(Size, written) == octets


@pytest.mark.parametrize("wrong", ["", "25", "25 MiB", "1.5MiB", "-1B", "25mib", "MiB", -1, 1.0, True, None])
def test_what_is_no_size_is_refused_with_a_sentence(wrong: object) -> None:
    assert refusal(Size, wrong).startswith('expected a size such as "25MiB"')


@given(st.integers(0, 10**15 - 1))
def test_a_size_survives_being_written_and_read(octets: int) -> None:
    assert read(Size, format_size(octets)) == octets


# Network


@pytest.mark.parametrize(
    ("written", "network"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::/0", "::/0"),
    ],
)
def test_a_network_is_cidr_or_one_address(written: str, network: str) -> None:
    assert read(Network, written) == ip_network(network)


def test_host_bits_are_a_mistake_that_names_the_network() -> None:
    assert refusal(Network, "192.0.2.7/24") == '"192.0.2.7/24" has host bits set; did you mean "192.0.2.0/24"?'


@pytest.mark.parametrize("wrong", ["", "192.0.2", "192.0.2.0/33", "example.com", 5, True, None])
def test_what_is_no_network_is_refused_with_a_sentence(wrong: object) -> None:
    assert refusal(Network, wrong).startswith('expected a network such as "192.0.2.0/24"')


# Secret


@pytest.fixture
def folder(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "token").write_text("hunter2\n")
    return {"folder": tmp_path, "environ": {"TOKEN": "hunter2"}}


@pytest.mark.parametrize("written", ["hunter2", {"file": "token"}, {"env": "TOKEN"}])
def test_a_secret_is_text_or_comes_from_a_file_or_a_variable(written: object, folder: dict[str, Any]) -> None:
    secret = TypeAdapter(Secret).validate_python(written, context=folder)
    assert secret.reveal() == "hunter2"
    assert secret == Secret("hunter2")


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ({"file": "nowhere"}, "cannot read {folder}/nowhere: No such file or directory"),
        ({"env": "NOTHING"}, "the environment variable NOTHING is not set"),
        ({"env": "TOKEN", "file": "token"}, 'expected text, {{ file = "…" }} or {{ env = "…" }}'),
        (12345, 'expected text, {{ file = "…" }} or {{ env = "…" }}'),
    ],
)
def test_a_secret_that_cannot_be_had_is_a_mistake(written: object, sentence: str, folder: dict[str, Any]) -> None:
    assert refusal(Secret, written, folder) == sentence.format(folder=folder["folder"])


def test_a_secret_is_not_shown_anywhere() -> None:
    options = Example(password="hunter2")
    shown = f"{options} {options!r} {options.password} {options.model_dump()} {options.model_dump_json()}"
    assert "hunter2" not in shown
    assert "**********" in options.model_dump_json()
    assert options.password is not None and options.password.reveal() == "hunter2"


# WatchedFile


class Watched:
    """A watched file, its clock, and what was logged about it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.time = 0.0
        self.events = GateEvents()
        path.write_text("one\n")
        self.file = WatchedFile(path, monotonic=lambda: self.time, recorder=self.events)

    def write(self, text: str) -> None:
        """Change the file and let the time pass after which it is looked at again."""
        self.path.write_text(text)
        self.path.touch()
        os.utime(self.path, ns=(0, int(self.time + 1) * 10**9))
        self.time += 1.0


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "list")


def test_lines_come_without_comments_and_blanks(watched: Watched) -> None:
    watched.write("# head\n\n  a@example.com  # the boss\n\tb#c@example.com\n#x\n")
    assert watched.file.lines() == ("a@example.com", "b#c@example.com")


def test_a_changed_file_is_reread(watched: Watched) -> None:
    assert watched.file.text() == "one\n"
    watched.write("two\n")
    assert watched.file.text() == "two\n"


def test_a_file_is_looked_at_once_a_second_at_most(watched: Watched) -> None:
    watched.path.write_text("changed\n")
    watched.time = 0.9
    assert watched.file.text() == "one\n"
    watched.time = 1.0
    assert watched.file.text() == "changed\n"


def test_a_replaced_file_of_the_same_size_and_time_is_reread(watched: Watched, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("two\n")
    times = watched.path.stat()
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.rename(watched.path)
    watched.time = 1.0
    assert watched.file.text() == "two\n"


def test_a_file_that_goes_away_leaves_its_last_content_and_one_warning(watched: Watched) -> None:
    watched.path.unlink()
    for _ in range(3):
        watched.time += 1.0
        assert watched.file.lines() == ("one",)
    assert watched.file.problem == f"cannot read {watched.path}: No such file or directory"
    assert watched.events.named("file_unusable") == [{"path": str(watched.path), "error": watched.file.problem}]
    watched.write("back\n")
    assert watched.file.lines() == ("back",)
    assert watched.file.problem is None


def test_a_file_that_is_no_text_any_more_leaves_its_last_content(watched: Watched) -> None:
    watched.path.write_bytes(b"\xff\xfe\n")
    watched.time = 1.0
    assert watched.file.text() == "one\n"
    assert watched.file.problem == f"cannot read {watched.path}: it is not UTF-8 text"


def test_parsed_content_is_kept_until_the_file_changes(watched: Watched) -> None:
    seen = []

    def parse(text: str) -> int:
        seen.append(text)
        return len(text)

    assert [watched.file.parsed(parse), watched.file.parsed(parse)] == [4, 4]
    watched.write("three\n")
    assert watched.file.parsed(parse) == 6
    assert seen == ["one\n", "three\n"]


def test_content_that_does_not_parse_leaves_the_last_good_result(watched: Watched) -> None:
    def parse(text: str) -> str:
        if "bad" in text:
            raise ValueError("line 1 is bad")
        return text

    assert watched.file.parsed(parse) == "one\n"
    watched.write("bad\n")
    assert [watched.file.parsed(parse), watched.file.parsed(parse)] == ["one\n", "one\n"]
    assert watched.file.problem == f"{watched.path}: line 1 is bad"
    assert len(watched.events.named("file_unusable")) == 1
    watched.write("good\n")
    assert watched.file.parsed(parse) == "good\n"
    assert watched.file.problem is None


def test_content_that_never_parsed_raises(watched: Watched) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        watched.file.parsed(int)


def test_a_missing_file_is_a_mistake_and_a_relative_path_is_beside_the_configuration(tmp_path: Path) -> None:
    context = {"folder": tmp_path}
    assert refusal(WatchedFile, "list", context) == f"cannot read {tmp_path}/list: No such file or directory"
    (tmp_path / "list").write_text("a\n")
    assert TypeAdapter(WatchedFile).validate_python("list", context=context).lines() == ("a",)


def test_a_folder_or_a_pipe_is_no_list_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        assert refusal(WatchedFile, str(path)) == f"cannot read {path}: it is not a regular file"
    assert refusal(WatchedFile, 5) == "expected the path of a file, as text"


# describe


def test_every_option_is_described_for_the_manual() -> None:
    described = {option.name: option for option in describe(Example)}
    assert described["delay"] == Option("delay", "duration", '"6s"', "How long to wait.")
    assert described["count"] == Option("count", "whole number", "1", "How many.")
    assert {
        name: (option.type, option.default) for name, option in described.items() if name not in ("delay", "count")
    } == {
        "share": ("number", "0.5"),
        "enabled": ("true or false", "true"),
        "written_delay": ("duration", '"90s"'),
        "limit": ("size", '"2KiB"'),
        "domains": ("list of text", '["a.example", "b.example"]'),
        "networks": ("list of network", "[]"),
        "action": ('"deny" or "defer"', '"deny"'),
        "password": ("secret", "none"),
        "zones": ("table of number or table (points, answers)", "{}"),
    }


def test_a_required_option_is_described_as_such() -> None:
    assert describe(Required) == [Option("domains", "list of text", "required", "")]


class Odd(Options):
    call: Callable[[], None] | None = None


def test_a_type_that_says_nothing_of_itself_is_any_value() -> None:
    assert describe(Odd) == [Option("call", "any value", "none", "")]


class Tree(Options):
    branches: tuple["Tree", ...] = ()
    weight: int = 0


def test_a_model_that_contains_itself_is_exact_and_described_too() -> None:
    assert [(option.name, option.type) for option in describe(Tree)] == [
        ("branches", "list of table (branches, weight)"),
        ("weight", "whole number"),
    ]
    with pytest.raises(ValidationError):
        Tree.model_validate({"branches": [{"weight": "1"}]})
