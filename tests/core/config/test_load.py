"""Files, drop-ins and variables are merged by simple rules, and every mistake is reported at once."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gatepost
from gatepost.config import (
    default_text,
    find_config_file,
    load_config,
    parse_config,
    survey_config,
    validate_options,
)
from gatepost.errors import ConfigError, Mistake
from gatepost.options import Secret
from tests.core.config.examples import MINIMAL, Example, Write, Zone, configured, mistakes


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.toml"
    assert mistakes(path) == [Mistake(str(path), 0, "", "cannot read the file: No such file or directory")]


def test_a_file_that_is_not_utf_8_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "gatepost.toml"
    path.write_bytes(b"user = 'a'\ngrace = '\xff'\n")
    assert mistakes(path) == [Mistake(str(path), 2, "", "this is not UTF-8 text")]


def test_all_mistakes_are_told_at_once_over_all_sources(write: Write) -> None:
    path = write("grace = 5\n[limits]\nidle = 'x'\nrecipiants = 1\n", a="grace = = 1\n", b="[log]\nlevel = 'all'\n")
    found = mistakes(path, GATEPOST__LINE_ENDS="keep", GATEPOST____X="1")
    folder = path.parent / "gatepost.d"
    assert [(mistake.where, mistake.line, mistake.key) for mistake in found] == [
        (str(path), 1, "grace"),
        (str(path), 3, "limits.idle"),
        (str(path), 4, "limits.recipiants"),
        (f"{folder}/a.toml", 1, ""),
        (f"{folder}/b.toml", 2, "log.level"),
        ("GATEPOST__LINE_ENDS", 0, "line_ends"),
        ("GATEPOST____X", 0, ""),
    ]


def test_a_key_that_a_broken_file_may_contain_is_not_called_missing(write: Write) -> None:
    path = write("[listen.smtp]\nbind = [\n", a="[listen.smtp]\nplugins = []\n")
    assert [mistake.line for mistake in mistakes(path)] == [2]


def test_drop_ins_merge_tables_by_name_and_replace_the_rest(write: Write) -> None:
    config = load_config(
        write(
            f'{MINIMAL}[plugins]\norder = ["a", "b"]\n[plugins.a]\nlist = [1, 2]\nkept = 1\ndeep = {{ x = 1, y = 1 }}',
            **{
                "20-second": "[plugins.a]\nlast = 2\n",
                "10-first": '[plugins]\norder = ["b"]\n[plugins.a]\nlist = [3]\nlast = 1\ndeep.y = 2\n',
            },
        ),
        {},
    )
    assert config.order == ("b",)
    assert config.plugin("a").options == {"list": [3], "kept": 1, "deep": {"x": 1, "y": 2}, "last": 2}


def test_only_toml_files_that_are_not_hidden_are_drop_ins(write: Write) -> None:
    path = write(MINIMAL, a="grace = '1s'\n")
    (path.parent / "gatepost.d/.b.toml").write_text("grace = '2s'\n")
    (path.parent / "gatepost.d/c.toml.bak").write_text("grace = '3s'\n")
    assert load_config(path, {}).grace == 1.0


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("HOSTNAME", "mx.example.org", "mx.example.org"),
        ("HOSTNAME", '"mx.example.org"', "mx.example.org"),
        ("GRACE", "10s", 10.0),
        ("STATE_DIR", "/x\ny = 1", Path("/x\ny = 1")),
    ],
)
def test_a_variable_overrides_one_value(name: str, text: str, value: object, write: Write) -> None:
    config = load_config(write(f'hostname = "x"\n{MINIMAL}'), {f"GATEPOST__{name}": text})
    assert getattr(config, name.lower()) == value


def test_variables_reach_into_tables_and_other_variables_mean_nothing(write: Write) -> None:
    environ = {
        "GATEPOST__LISTEN__SMTP__BIND": '["127.0.0.1:2526"]',
        "GATEPOST__LIMITS__RECIPIENTS": "5",
        "GATEPOST__PLUGINS__A__ZONES": '{ "x.example" = 2 }',
        "GATEPOST_CONFIG": "elsewhere",
        "GATEPOST": "x",
    }
    config = load_config(write(f"{MINIMAL}[plugins.a]\nzones = {{ y = 1 }}\n"), environ)
    assert config.listeners["smtp"].bind == (("127.0.0.1", 2526),)
    assert config.limits.recipients == 5
    assert config.plugin("a").options == {"zones": {"y": 1, "x.example": 2}}


def test_without_a_file_the_embedded_default_runs(tmp_path: Path) -> None:
    config = load_config(None, {"XDG_STATE_HOME": str(tmp_path)})
    state = tmp_path / "gatepost"
    assert config.state_dir == state
    assert config.listeners["smtp"].bind == (("127.0.0.1", 2525),)
    assert config.store.url == "memory:"
    assert config.order == ("earlytalker", "recipients", "maildir")
    assert config.plugin("earlytalker").options == {"delay": "3s", "remember": "0s"}
    assert config.plugin("recipients").options == {"domains": list(dict.fromkeys(["localhost", config.hostname]))}
    assert config.plugin("maildir").options == {"path": f"{state}/maildir/{{local}}"}
    assert config.warnings == ()
    assert config.folder == Path.cwd()


def test_without_a_state_folder_of_the_account_the_default_is_below_its_home() -> None:
    for environ in ({"HOME": "/home/a"}, {"HOME": "/home/a", "XDG_STATE_HOME": "relative"}):
        assert load_config(None, environ).state_dir == Path("/home/a/.local/state/gatepost")


def test_the_embedded_default_follows_the_variables() -> None:
    environ = {"GATEPOST__HOSTNAME": "mx.example", "GATEPOST__STATE_DIR": "/s", "GATEPOST__GRACE": "1s", "HOME": "/h"}
    config = load_config(None, environ)
    assert (config.hostname, config.state_dir, config.grace) == ("mx.example", Path("/s"), 1.0)
    assert config.plugin("recipients").options == {"domains": ["localhost", "mx.example"]}
    assert config.plugin("maildir").options == {"path": "/s/maildir/{local}"}


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f"), min_size=1))
def test_the_embedded_default_is_toml_whatever_the_folder_is_named(name: str) -> None:
    text = default_text({"GATEPOST__STATE_DIR": name, "GATEPOST__HOSTNAME": "mx"})
    assert tomllib.loads(text)["state_dir"] == name


def test_the_file_asked_for_comes_before_the_variable_and_the_standard_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = tmp_path / "near.toml", tmp_path / "far.toml"
    monkeypatch.setattr("gatepost.config.load.STANDARD_PLACES", (near, far))
    assert find_config_file(None, {}) is None
    far.touch()
    assert find_config_file(None, {}) == far
    near.touch()
    assert find_config_file(None, {}) == near
    assert find_config_file(None, {"GATEPOST_CONFIG": "/x"}) == Path("/x")
    assert find_config_file(Path("/y"), {"GATEPOST_CONFIG": "/x"}) == Path("/y")


def test_options_are_validated_by_their_model(write: Write, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a\n")
    table = """
        domains = ["d"]
        delay = "1s"
        files = ["list"]
        password = { env = "PW" }
        zones = { a = 1, b = { points = 2 } }
    """
    config = configured(write, table, PW="hunter2")
    options = validate_options(Example, config.plugin("x"), config)
    assert (options.domains, options.delay) == ({"d"}, 1.0)
    assert options.files[0].lines() == ("a",)
    assert options.password == Secret("hunter2")
    assert options.zones == {"a": 1.0, "b": Zone(points=2)}


class Places(gatepost.Options):
    """Paths in every kind of value."""

    path: Path
    """One."""
    others: tuple[Path, ...]
    """Several."""
    named: dict[str, Path]
    """With names."""
    none: Path | None = None
    """None of them."""


def test_a_relative_path_of_a_plugin_is_relative_to_the_configuration_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(write, 'path = "mb.db"\nothers = ["a", "/b"]\nnamed = { c = "d/e" }\n')
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    options = validate_options(Places, config.plugin("x"), config)
    assert options.path == tmp_path / "mb.db"
    assert options.others == (tmp_path / "a", Path("/b"))
    assert options.named == {"c": tmp_path / "d/e"}
    assert options.none is None


def test_all_mistakes_in_options_are_told_at_once(write: Write) -> None:
    config = configured(write, "domains = 5\ndelay = 5\nlimit = 'x'\nzone = 1\n")
    with pytest.raises(ConfigError) as caught:
        validate_options(Example, config.plugin("x"), config)
    assert [(mistake.line, mistake.key) for mistake in caught.value.mistakes] == [
        (6, "plugins.x.domains"),
        (7, "plugins.x.delay"),
        (8, "plugins.x.limit"),
        (9, "plugins.x.zone"),
    ]


def test_a_mistake_in_a_plugin_without_a_table_is_where_the_order_names_it(write: Write) -> None:
    config = load_config(write(f'{MINIMAL}[plugins]\norder = [\n"a",\n"x"]\n'), {})
    with pytest.raises(ConfigError) as caught:
        validate_options(Example, config.plugin("x"), config)
    assert [(mistake.line, mistake.key) for mistake in caught.value.mistakes] == [(6, "plugins.x.domains")]


def test_a_survey_names_every_mistake_and_reads_the_rest(write: Write) -> None:
    path = write(
        '[listen.smtp]\nbind = ["127.0.0.1:2525", "127.0.0.1:99999", "zz"]\n[listen.other]\nplugins = ["a"]\n'
        '[limits]\nidle = "5x"\nrecipients = 7\n[plugins]\norder = ["a", "bad name", "b"]\n'
        '[plugins.a]\nmode = "of"\nx = 1'
    )
    config, found = survey_config(path, {})
    assert [mistake.line for mistake in found] == [2, 2, 3, 6, 9, 11]
    assert config is not None
    assert config.listeners.keys() == {"smtp"}
    assert [str(address) for address in config.listeners["smtp"].bind] == ["127.0.0.1:2525"]
    assert (config.limits.idle, config.limits.recipients) == (300.0, 7)
    assert (config.order, config.plugin("a").mode, config.plugin("a").options) == (("a", "b"), "enforce", {"x": 1})


def test_a_survey_of_text_that_is_no_toml_has_no_rest(write: Write) -> None:
    config, found = survey_config(write("this is no TOML"), {})
    assert config is None and len(found) == 1


def test_a_survey_leaves_out_a_table_that_lacks_what_was_wrong_in_it(write: Write) -> None:
    config, found = survey_config(write('[listen.smtp]\nbind = ["zz"]\n[plugins]\norder = ["a"]\n'), {})
    assert config is not None
    assert (len(found), config.listeners, config.order) == (1, {}, ("a",))


def test_a_text_alone_is_read_without_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEPOST__HOSTNAME", "mx.example.com")
    config = parse_config('hostname = "mx.example.org"\n[spool]\npath = "spool"\n', tmp_path, "a text")
    assert (config.hostname, config.spool.path) == ("mx.example.org", tmp_path / "spool")
    assert config.locate(("spool", "path")) == ("a text", 3)


@pytest.mark.parametrize("text", ["no TOML", "[limits]\nidle = 5"])
def test_a_text_alone_has_its_mistakes_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, tmp_path, "a text")
    (mistake,) = caught.value.mistakes
    assert (mistake.where, mistake.line) == ("a text", text.count("\n") + 1)
