"""``gatepost check`` names every mistake at once with its line, and policies that are probably not intended."""

from __future__ import annotations

from typing import Any

import pluggy
import pytest

from gatepost.hookspecs import PROJECT, Hookspecs
from tests.core.cli.running import LISTEN, SOUND, Folder, facts, run

ORDER = '[plugins]\norder = ["recipients", "discard"]\n[plugins.recipients]\ndomains = ["example.org"]\n'


def errors(folder: Folder, text: str, **files: str) -> list[dict[str, Any]]:
    """The errors of a configuration; each is one of its file, and check ends with 78 for them."""
    path = folder.write(text, **files)
    result = run("check", "--config", path)
    found: list[dict[str, Any]] = facts("check", "--config", path)["errors"]
    assert result.exit_code == (78 if found else 0)
    assert all(str(error["line"]) in result.stdout for error in found)
    return found


def test_a_sound_configuration_is_status_0_and_names_who_grants_what(folder: Folder) -> None:
    path = folder.write()
    result = run("check", "--config", path)
    assert result.exit_code == 0
    assert "delivery    discard\n" in result.stdout and "recipients  recipients\n" in result.stdout
    said = facts("check", "--config", path)
    assert (said["errors"], said["warnings"]) == ([], [])
    assert said["grants"] == {"recipients": ["recipients"], "discard": ["delivery"]}


def test_the_embedded_default_is_sound(folder: Folder) -> None:
    assert run("check").exit_code == 0


MISTAKES = {
    "unknown key": (f'hostnam = "mx"\n{LISTEN}{ORDER}', 1, "hostnam", "did you mean"),
    "wrong type": (f"{LISTEN}{ORDER}[limits]\nrecipients = true\n", 8, "limits.recipients", "a whole number"),
    "bad duration": (f'{LISTEN}{ORDER}[limits]\nidle = "5 minutes"\n', 8, "limits.idle", "expected a duration"),
    "bad size": (f'{LISTEN}{ORDER}[limits]\nmax_size = "50 MB"\n', 8, "limits.max_size", "expected a size"),
    "bad network": (
        f'{LISTEN}[plugins]\norder = ["access", "recipients", "discard"]\n[plugins.recipients]\n'
        'domains = ["example.org"]\n[plugins.access]\nallow = [{ network = "192.0.2.0/33" }]\n',
        8,
        "plugins.access.allow[0].network",
        "network",
    ),
    "bad port": (f'[listen.smtp]\nbind = ["127.0.0.1:70000"]\n{ORDER}', 2, "listen.smtp.bind[0]", "expected a port"),
    "unknown plugin": (
        f'{LISTEN}[plugins]\norder = ["earlytalkr", "recipients", "discard"]\n'
        '[plugins.recipients]\ndomains = ["example.org"]\n',
        4,
        "plugins.earlytalkr",
        "did you mean earlytalker?",
    ),
    "missing required option": (
        f'{LISTEN}[plugins]\norder = ["recipients", "forward"]\n'
        '[plugins.recipients]\ndomains = ["example.org"]\n[plugins.forward]\npool = 3\n',
        7,
        "plugins.forward.to",
        "required",
    ),
    "observe on a class with grants": (
        f'{LISTEN}{ORDER}[plugins.discard]\nmode = "observe"\n',
        8,
        "plugins.discard.mode",
        "cannot be observed",
    ),
    "no TOML": (f"{LISTEN}this is no TOML\n", 3, "", "this is not TOML"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_each_kind_of_mistake_is_named_with_its_line(folder: Folder, kind: str) -> None:
    text, line, key, words = MISTAKES[kind]
    (error,) = errors(folder, text)
    assert (error["where"], error["line"], error["key"]) == (str(folder.config), line, key)
    assert words in error["message"]


def test_an_unknown_hook_is_named_with_what_was_meant(folder: Folder) -> None:
    plugin = "from gatepost import hookimpl\nclass Mine:\n    @hookimpl\n    def rpct(self):\n        return None\n"
    text = SOUND.replace('"discard"]', '"discard", "mine"]') + '[plugins.mine]\nuse = "mine.py"\n'
    (error,) = errors(folder, text, mine=plugin)
    assert (error["line"], error["key"]) == (9, "plugins.mine")
    assert "'rpct', which is no phase; did you mean rcpt?" in error["message"]


def test_a_file_with_five_different_mistakes_names_all_five_with_their_lines(folder: Folder) -> None:
    text = (
        'hostname = "mx.example.org"\n'
        '[listen.smtp]\nbind = ["127.0.0.1:70000"]\n'  # 3
        '[limits]\nidle = "soon"\n'  # 5
        '[plugins]\norder = ["recipients", "earlytalkr", "forward"]\n'  # 7
        '[plugins.recipients]\ndomain = ["example.org"]\n'  # 9
        '[plugins.forward]\nto = "smtp://127.0.0.1:25"\nmode = "observe"\n'  # 12
    )
    found = {(error["line"], error["key"]) for error in errors(folder, text)}
    assert found >= {
        (3, "listen.smtp.bind[0]"),
        (5, "limits.idle"),
        (7, "plugins.earlytalkr"),
        (9, "plugins.recipients.domain"),
        (12, "plugins.forward.mode"),
    }


def test_it_works_with_every_plugin_broken(folder: Folder) -> None:
    text = f'{LISTEN}[plugins]\norder = ["a", "b"]\n[plugins.a]\nuse = "a.py"\n[plugins.b]\nuse = "b.py"\n'
    found = errors(folder, text, a="import nowhere", b="raise SystemExit(3)")
    assert [error["key"] for error in found] == ["plugins.a.use", "plugins.b.use"]


# Policies that are probably not intended


def granting(grants: str, phase: str, **more: str) -> str:
    """A plugin that accepts at ``phase``."""
    lines = "".join(f"    {name} = {value}\n" for name, value in more.items())
    return (
        f"from gatepost import accept, hookimpl\nclass Mine:\n    grants = {grants!r}\n{lines}"
        f"    @hookimpl\n    def {phase}(self):\n        return accept()\n"
    )


INSTALLED = ("recipients", "discard", "earlytalker", "forward", "access", "greylist")


def policy(*order: str, **tables: str) -> str:
    """A configuration of that order; a plugin without a table is a file of its own."""
    named = ", ".join(f'"{name}"' for name in order)
    local = {name: f'use = "{name}.py"' for name in order if name not in INSTALLED}
    tables = {"recipients": 'domains = ["example.org"]', **local, **tables}
    written = "".join(f"[plugins.{name}]\n{body}\n" for name, body in tables.items() if name in order)
    return f'hostname = "mx.example.org"\n{LISTEN}[plugins]\norder = [{named}]\n{written}'


def messages(found: list[dict[str, Any]]) -> str:
    return "\n".join(f"{error['line']} {error['key']} {error['message']}" for error in found)


def test_nobody_vouches_for_recipients(folder: Folder) -> None:
    found = errors(folder, policy("discard"))
    assert messages(found).startswith("5 plugins.order nobody vouches for recipients")
    assert len(found) == 1


def test_nobody_delivers(folder: Folder) -> None:
    found = errors(folder, policy("recipients"))
    assert messages(found).startswith("5 plugins.order nobody delivers")
    assert len(found) == 1


def test_a_listener_with_an_order_of_its_own_is_looked_at_by_itself(folder: Folder) -> None:
    text = policy("recipients", "discard").replace(
        "[plugins]", '[listen.other]\nbind = ["127.0.0.1:2526"]\nplugins = ["recipients"]\n[plugins]'
    )
    (error,) = errors(folder, text)
    assert (error["line"], error["key"]) == (6, "listen.other.plugins")


def test_anyone_may_relay_through_a_plugin_that_vouches_for_everything(folder: Folder) -> None:
    (error,) = errors(folder, policy("yes", "discard"), yes=granting("recipients", "rcpt"))
    assert (error["line"], error["key"]) == (6, "plugins.yes")
    assert "anyone may relay" in error["message"]


def test_anyone_may_relay_through_a_local_part_that_a_plugin_does_not_look_at(folder: Folder) -> None:
    careless = (
        "from gatepost import Options, accept, deny, hookimpl\n"
        "class Mine:\n"
        "    class Options(Options):\n        domains: frozenset[str]\n"
        "    grants = 'recipients'\n"
        "    def __init__(self, options):\n        self.domains = options.domains\n"
        "    @hookimpl\n"
        "    async def rcpt(self, recipient):\n"
        "        return accept() if recipient.domain in self.domains else deny('foreign')\n"
    )
    table = 'use = "careless.py"\ndomains = ["example.org"]'
    (error,) = errors(folder, policy("careless", "discard", careless=table), careless=careless)
    assert "anyone may relay" in error["message"] and "victim%" in error["message"]


def test_a_plugin_behind_a_refusing_one_relays_for_nobody(folder: Folder) -> None:
    assert errors(folder, policy("recipients", "yes", "discard"), yes=granting("recipients", "rcpt")) == []


def test_nobody_may_relay_through_recipients(folder: Folder) -> None:
    assert errors(folder, policy("recipients", "discard")) == []


def test_those_who_wait_for_nothing_do_not_hold_up_the_check(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatepost.rehearsal.check.PATIENCE", 0.01)
    slow = (
        granting("recipients", "rcpt")
        .replace("return accept()", "await asyncio.sleep(60)")
        .replace("def ", "async def ")
    )
    path = folder.write(policy("slow", "discard"), slow=f"import asyncio\n{slow}")
    (warning,) = facts("check", "--config", path)["warnings"]
    assert "could not be tried" in warning["message"]


def test_a_plugin_behind_one_that_takes_everything_is_never_reached(folder: Folder) -> None:
    found = errors(folder, policy("recipients", "discard", "late"), late=granting("delivery", "queue"))
    assert messages(found) == "8 plugins.late it is never reached: discard takes every recipient before it"


def test_one_that_does_more_than_deliver_is_reached_and_never_delivers(folder: Folder) -> None:
    path = folder.write(policy("recipients", "discard", "forward", forward='to = "lmtp:///run/lmtp"'))
    (warning,) = facts("check", "--config", path)["warnings"]
    assert warning["message"] == "it never delivers: discard takes every recipient before it"


def test_an_account_that_is_not_there_is_a_mistake(folder: Folder) -> None:
    found = errors(folder, f'user = "nobody-of-that-name"\n{SOUND}')
    assert messages(found) == "1 user there is no account 'nobody-of-that-name' on this machine"


def test_a_plugin_before_it_is_reached(folder: Folder) -> None:
    assert errors(folder, policy("recipients", "soon", "discard"), soon=granting("delivery", "queue")) == []


def test_a_plugin_without_a_phase_does_nothing(folder: Folder) -> None:
    (error,) = errors(folder, policy("earlytalker", "recipients", "discard", earlytalker="phases = []"))
    assert error["key"] == "plugins.earlytalker.phases"
    assert "does nothing" in error["message"]


@pytest.mark.parametrize(
    ("bind", "hop", "is_ours"),
    [
        ("127.0.0.1:2525", "127.0.0.1:2525", True),
        ("127.0.0.1:2525", "localhost:2525", True),
        ("localhost:2525", "127.0.0.1:2525", True),
        ("0.0.0.0:2525", "127.0.0.2:2525", True),
        ("0.0.0.0:2525", "mx.example.org:2525", True),
        ("[::]:2525", "[::1]:2525", True),
        ("[::1]:2525", "[::1]:2525", True),
        ("127.0.0.1:2525", "127.0.0.1:25", False),
        ("127.0.0.1:2525", "192.0.2.1:2525", False),
        ("127.0.0.1:2525", "127.0.0.2:2525", False),
        ("[::]:2525", "127.0.0.1:2525", False),
        ("0.0.0.0:2525", "mail.example.org:2525", False),
        ("127.0.0.1:2525", "/run/dovecot/lmtp", False),
    ],
)
def test_a_next_hop_that_is_ourselves(folder: Folder, bind: str, hop: str, is_ours: bool) -> None:
    text = policy("recipients", "hand").replace("127.0.0.1:2525", bind)
    found = errors(folder, text, hand=granting("delivery", "queue", next_hops=f"({hop!r},)"))
    assert ("mail would loop" in messages(found)) is is_ours
    assert len(found) == is_ours


@pytest.mark.parametrize("to", ["smtp://127.0.0.1:2525", "smtp://localhost:2525"])
def test_forward_to_ourselves_is_such_a_next_hop(folder: Folder, to: str) -> None:
    found = errors(folder, policy("recipients", "forward", forward=f'to = ["smtp://192.0.2.1", "{to}"]'))
    assert messages(found).startswith("8 plugins.forward its next hop") and len(found) == 1


def test_forward_takes_everything_unless_it_has_domains(folder: Folder) -> None:
    to = 'to = "lmtp:///run/lmtp"'
    (error,) = errors(folder, policy("recipients", "forward", "discard", forward=to))
    assert error["message"] == "it is never reached: forward takes every recipient before it"
    some = f'{to}\ndomains = ["example.org"]'
    assert errors(folder, policy("recipients", "forward", "discard", forward=some)) == []


def test_an_observed_plugin_that_makes_clients_wait_is_a_warning(folder: Folder) -> None:
    path = folder.write(policy("earlytalker", "recipients", "discard", earlytalker='delay = "9s"\nmode = "observe"'))
    result = run("check", "--config", path)
    assert result.exit_code == 0
    assert (
        ":10: plugins.earlytalker.mode: it is only observed, but clients wait for it all the same, up to 9s"
        in result.stdout
    )


def warnings(folder: Folder, text: str) -> list[str]:
    """What ``check`` warns of in a configuration that it lets pass."""
    found = facts("check", "--config", folder.write(text))
    assert found["errors"] == []
    return [warning["message"] for warning in found["warnings"]]


def test_one_that_spares_trusted_clients_stands_behind_the_one_that_trusts(folder: Folder) -> None:
    told = "earlytalker: it spares trusted clients, but access, which says who is trusted, stands behind it"
    tables = {"access": 'allow = [{ network = "192.0.2.0/24" }]'}
    assert told in warnings(folder, policy("earlytalker", "access", "recipients", "discard", **tables))
    assert warnings(folder, policy("access", "earlytalker", "recipients", "discard", **tables)) == []


def test_one_that_remembers_mailboxes_stands_behind_the_one_that_knows_them(folder: Folder) -> None:
    told = "greylist: it remembers mailboxes that do not exist, since recipients stands behind it"
    assert told in warnings(folder, policy("greylist", "recipients", "discard"))
    assert warnings(folder, policy("recipients", "greylist", "discard")) == []


def test_nobody_listens(folder: Folder) -> None:
    found = errors(folder, policy("recipients", "discard").replace(LISTEN, ""))
    assert [error["key"] for error in found] == ["listen"]


def test_a_table_that_no_order_names_is_a_warning(folder: Folder) -> None:
    path = folder.write(SOUND + '[plugins.greylist]\ndelay = "1m"\n')
    result = run("check", "--config", path)
    assert result.exit_code == 0
    assert "warning" in result.stdout and "plugins.greylist" in result.stdout


def test_a_declaration_that_fails_is_none(folder: Folder) -> None:
    broken = granting("delivery", "queue", takes_everything="property(lambda self: 1 / 0)")
    assert errors(folder, policy("recipients", "broken"), broken=broken) == []


# What goes away


class OldSpecs(Hookspecs):
    """The phases of a gatepost that is about to lose one."""

    @pluggy.HookspecMarker(PROJECT)(warn_on_impl=DeprecationWarning("vrfy is asked no more from 9.0 on"))
    def vrfy(self, session: Any, argument: str) -> Any: ...


def test_a_plugin_that_uses_what_goes_away_is_a_warning_in_one_line(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatepost.plugins.load.Hookspecs", OldSpecs)
    mine = "from gatepost import hookimpl\nclass Mine:\n    @hookimpl\n    def vrfy(self): ...\n"
    text = SOUND.replace('order = ["', 'order = ["mine", "') + '[plugins.mine]\nuse = "mine.py"\n'
    path = folder.write(text, mine=mine)
    result = run("check", "--config", path)
    assert result.exit_code == 0
    line = f"warning: {path}:9: plugins.mine: {folder.path}/mine.py: vrfy is asked no more from 9.0 on"
    assert [each for each in result.stdout.splitlines() if "vrfy" in each] == [line]
    assert len(facts("check", "--config", path)["warnings"]) == 1
