"""All mistakes at once: one pass of ``gatepost check`` shows all that can be known, whatever else is wrong."""

from __future__ import annotations

from typing import Any

from tests.core.cli.running import SOUND, Folder, facts, run
from tests.core.rehearsal.policies import granting

MINE = """
from gatepost import Options, hookimpl
class Mine:
    class Options(Options):
        limit: int = 1
    def __init__(self, options):
        raise ValueError("the constructor has something to say")
    @hookimpl
    def helo(self): ...
"""
THIRTEEN = """\
hostname = "mx example"
user = "nobody-of-that-name"
[listen.smtp]
bind = ["127.0.0.1:70000", "127.0.0.1:2525"]
[limits]
recipents = 10
idle = "soon"
[score]
defer_at = 5
deny_at = 3
[plugins]
order = ["recipients", "greylisst", "mine", "early", "forward"]
[plugins.recipients]
domains = ["example.org"]
files = ["mailboxes"]
[plugins.mine]
use = "mine.py"
phases = ["hello"]
[plugins.early]
use = "earlytalker"
dellay = "10s"
[plugins.forward]
to = "smtp://127.0.0.1:2525"
mode = "observe"
"""


def found(folder: Folder) -> dict[str, list[tuple[str, int, str, str]]]:
    said: dict[str, Any] = facts("check", "--config", str(folder.config))
    return {
        kind: [(each["where"].rpartition("/")[2], each["line"], each["key"], each["message"]) for each in said[kind]]
        for kind in ("errors", "warnings")
    }


def places(folder: Folder, kind: str = "errors") -> list[tuple[str, int, str]]:
    return [(where, line, key) for where, line, key, _ in found(folder)[kind]]


def test_one_pass_shows_all_of_many_mistakes(folder: Folder) -> None:
    folder.write(THIRTEEN, mine=MINE)
    (folder.path / "mailboxes").write_text("bob@example.org\n@@\nann@exam ple.org\n")
    assert places(folder) == [
        ("gatepost.toml", 1, "hostname"),
        ("gatepost.toml", 2, "user"),
        ("gatepost.toml", 4, "listen.smtp.bind[0]"),
        ("gatepost.toml", 6, "limits.recipents"),
        ("gatepost.toml", 7, "limits.idle"),
        ("gatepost.toml", 8, "score"),
        ("gatepost.toml", 12, "plugins.greylisst"),
        ("gatepost.toml", 16, "plugins.mine"),
        ("gatepost.toml", 18, "plugins.mine.phases"),
        ("gatepost.toml", 21, "plugins.early.dellay"),
        ("gatepost.toml", 24, "plugins.forward.mode"),
        ("mailboxes", 2, "plugins.recipients.files[0]"),
        ("mailboxes", 3, "plugins.recipients.files[0]"),
    ]
    assert run("check").exit_code == 78


def test_a_policy_is_examined_although_the_configuration_has_mistakes(folder: Folder) -> None:
    text = (
        'hostname = "mx.example.org"\nuser = "nobody-of-that-name"\n[limits]\nidle = "soon"\n'
        '[listen.smtp]\nbind = ["127.0.0.1:2525"]\n'
        '[plugins]\norder = ["yes", "forward", "discard"]\n[plugins.yes]\nuse = "yes.py"\n'
        '[plugins.forward]\nto = "smtp://127.0.0.1:2525"\n'
    )
    folder.write(text, yes=granting("recipients", "rcpt"))
    assert [(line, key, message.partition(":")[0]) for _, line, key, message in found(folder)["errors"]] == [
        (2, "user", "there is no account 'nobody-of-that-name' on this machine"),
        (4, "limits.idle", 'expected a duration such as "10s", "5m" or "36d" (ms, s, m, h, d, w), found "soon"'),
        (8, "plugins.discard", "it is never reached"),
        (9, "plugins.yes", "anyone may relay"),
        (11, "plugins.forward", "its next hop 127.0.0.1"),
    ]


def test_nothing_is_said_to_be_missing_where_it_may_be_what_is_wrong(folder: Folder) -> None:
    broken = {
        "an unknown plugin may be the one that vouches": SOUND.replace('"recipients", "d', '"recipents", "d'),
        "the order is wrong": SOUND.replace('["recipients", "discard"]', '"recipients"'),
        "one of the listeners is wrong": SOUND.replace('"127.0.0.1:2525"', '"127.0.0.1"'),
        "a line is no TOML": SOUND.replace('["recipients", "discard"]', '"recipients, discard'),
        "a table is no TOML": SOUND.replace("[listen.smtp]", "[listen.smtp"),
        "an option is no TOML": SOUND.replace('domains = ["example.org"]', 'domains = "example.org'),
    }
    for what, text in broken.items():
        folder.write(text)
        assert len(found(folder)["errors"]) == 1, what


def test_text_that_is_no_toml_hides_no_other_mistake(folder: Folder) -> None:
    folder.write(SOUND.replace('"state"', '"state') + '[limits]\nidle = "soon"\n[plugins.discard]\nkeep true\nx = 1\n')
    assert places(folder) == [
        ("gatepost.toml", 2, ""),
        ("gatepost.toml", 10, "limits.idle"),
        ("gatepost.toml", 12, ""),
        ("gatepost.toml", 13, "plugins.discard.x"),
    ]


def test_a_drop_in_that_is_no_toml_hides_no_mistake_of_the_main_file(folder: Folder) -> None:
    folder.write(SOUND + '[limits]\nidle = "soon"\n', d_10="nothing here\n")
    assert places(folder) == [("gatepost.toml", 10, "limits.idle"), ("10.toml", 1, "")]


def test_a_model_of_the_core_is_examined_although_a_key_beside_it_is_wrong(folder: Folder) -> None:
    twice = '[listen.other]\nbind = ["127.0.0.1:2525"]\nplugin = []\n'
    folder.write(SOUND.replace("[plugins]", f"{twice}[plugins]", 1))
    assert places(folder) == [("gatepost.toml", 3, "listen"), ("gatepost.toml", 7, "listen.other.plugin")]


def test_a_byte_order_mark_is_no_mistake(folder: Folder) -> None:
    secret = "from gatepost import Options, Secret, hookimpl\nclass Mine:\n"
    secret += "    class Options(Options):\n        word: Secret\n"
    secret += "    def __init__(self, options):\n        assert options.word.reveal() == 'sesame'\n"
    secret += "    @hookimpl\n    def helo(self): ...\n"
    text = SOUND.replace('order = ["', 'order = ["mine", "').replace("domains", 'files = ["list"]\ndomains')
    text += '[plugins.mine]\nuse = "mine.py"\nword = { file = "word" }\n'
    folder.write("\ufeff" + text, mine="\ufeff" + secret, d_10="\ufeff[limits]\nrecipients = 10\n")
    (folder.path / "list").write_text("\ufeffbob@example.org\n")
    (folder.path / "word").write_text("\ufeffsesame\n")
    assert found(folder) == {"errors": [], "warnings": []}


def test_a_list_file_in_toml_has_file_line_and_did_you_mean(folder: Folder) -> None:
    folder.write(SOUND.replace('order = ["', 'order = ["access", "') + '[plugins.access]\nfiles = ["partners.toml"]\n')
    partners = (
        '[[allow]]\nnetwrok = "192.0.2.0/24"\n[[deny]]\nsender = "a b@c"\nreason = "no"\n[[deny]]\nreason = "x"\n'
    )
    (folder.path / "partners.toml").write_text(partners + 'until = "soon\n')
    key = "plugins.access.files[0]"
    assert found(folder)["errors"] == [
        ("partners.toml", 2, key, 'allow[0].netwrok: unknown key; did you mean "network"?'),
        ("partners.toml", 4, key, found(folder)["errors"][1][3]),
        ("partners.toml", 6, key, "deny[1]: an entry needs at least one of network, name, helo, sender, recipient"),
        ("partners.toml", 8, key, "this is not TOML: a string ends with its line, without a quotation mark"),
    ]
    assert found(folder)["errors"][1][3].startswith("deny[0].sender: expected an address, a domain or <>")
    shown = run("check").stdout
    assert (
        f'error: {folder.path}/partners.toml:2: {key}: allow[0].netwrok: unknown key; did you mean "network"?' in shown
    )


def test_a_list_file_of_another_kind_does_not_fill_the_screen(folder: Folder) -> None:
    folder.write(SOUND.replace("domains", 'files = ["list"]\ndomains'))
    (folder.path / "list").write_text("not a mailbox\n" * 300)
    errors = found(folder)["errors"]
    assert [line for _, line, _, _ in errors] == [0, *range(1, 21)]
    assert errors[0][3] == "there are 280 more mistakes in this file"


def test_a_list_file_without_entries_is_named_with_its_file(folder: Folder) -> None:
    folder.write(SOUND.replace("domains", 'files = ["list"]\ndomains'))
    (folder.path / "list").write_text("# nobody\n")
    assert found(folder)["errors"] == [
        ("list", 0, "plugins.recipients.files[0]", "it contains no mailbox and no domain")
    ]


def test_the_order_that_a_drop_in_replaces_does_nothing_and_the_file_that_wins_is_named(folder: Folder) -> None:
    folder.write()
    assert found(folder)["warnings"] == []
    assert run("plugins", "enable", "earlytalker").exit_code == 0
    (warning,) = found(folder)["warnings"]
    own = f"{folder.path}/gatepost.d/50-order.toml:3"
    assert warning == (
        "gatepost.toml",
        6,
        "plugins.order",
        f"it does nothing: {own} comes later and wins, with recipients, earlytalker, discard; keep one of the two",
    )
    assert run("check").exit_code == 0


def test_the_order_of_a_listener_that_a_variable_replaces_does_nothing(folder: Folder, monkeypatch: Any) -> None:
    own = SOUND.replace("[plugins]", 'plugins = ["recipients", "discard"]\n[plugins]', 1)
    other = '[listen.other]\nbind = ["127.0.0.1:2526"]\n'
    folder.write(own.replace("[plugins]", f"{other}[plugins]", 1))
    monkeypatch.setenv("GATEPOST__LISTEN__SMTP__PLUGINS", '["recipients", "forward", "discard"]')
    monkeypatch.setenv("GATEPOST__PLUGINS__FORWARD__TO", "smtp://127.0.0.1:10025")
    monkeypatch.setenv("GATEPOST__PLUGINS__FORWARD__DOMAINS", '["example.com"]')
    (warning,) = found(folder)["warnings"]
    assert warning[:3] == ("gatepost.toml", 5, "listen.smtp.plugins")
    assert warning[3].startswith("it does nothing: GATEPOST__LISTEN__SMTP__PLUGINS comes later and wins")


def test_an_order_that_says_the_same_as_the_one_that_wins_is_no_trap(folder: Folder) -> None:
    folder.write(SOUND, d_10='[plugins]\norder = ["recipients", "discard"]\n')
    assert found(folder)["warnings"] == []


def test_an_order_that_no_listener_uses_does_nothing(folder: Folder) -> None:
    folder.write(SOUND.replace("[plugins]", 'plugins = ["recipients", "discard"]\n[plugins]', 1))
    message = "it does nothing, because every listener has an order of its own (plugins)"
    assert found(folder)["warnings"] == [("gatepost.toml", 7, "plugins.order", message)]
