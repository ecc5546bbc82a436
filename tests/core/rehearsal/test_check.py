"""Settings that are valid and probably not intended are found: lost mail, an open relay, a plugin that does nothing."""

from __future__ import annotations

import pytest

from tests.core.cli.running import SOUND, Folder, facts, run
from tests.core.rehearsal.policies import errors, granting, messages, policy, warnings


def test_a_policy_that_does_not_vouch_for_recipients_is_an_error(folder: Folder) -> None:
    found = errors(folder, policy("discard"))
    assert messages(found).startswith("5 plugins.order no plugin vouches for recipients")
    assert len(found) == 1


def test_a_policy_that_does_not_deliver_is_an_error(folder: Folder) -> None:
    found = errors(folder, policy("recipients"))
    assert messages(found).startswith("5 plugins.order no plugin delivers")
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


def test_recipients_is_not_an_open_relay(folder: Folder) -> None:
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
    assert "could not find out whether anyone may relay" in warning["message"]


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
        ":10: plugins.earlytalker.mode: it is only observed, but clients still wait for it, up to 9s" in result.stdout
    )


def test_one_that_spares_trusted_clients_stands_behind_the_one_that_trusts(folder: Folder) -> None:
    told = "earlytalker: it skips trusted clients, but access, which decides who is trusted, comes after it"
    tables = {"access": 'allow = [{ network = "192.0.2.0/24" }]'}
    assert told in warnings(folder, policy("earlytalker", "access", "recipients", "discard", **tables))
    assert warnings(folder, policy("access", "earlytalker", "recipients", "discard", **tables)) == []


def test_one_that_remembers_mailboxes_stands_behind_the_one_that_knows_them(folder: Folder) -> None:
    told = "greylist: it stores mailboxes that do not exist, because recipients comes after it"
    assert told in warnings(folder, policy("greylist", "recipients", "discard"))
    assert warnings(folder, policy("recipients", "greylist", "discard")) == []


@pytest.mark.parametrize(
    ("zones", "told"),
    [
        ('"white.example.org" = -3', "so a client that it would speak for is refused by the points so far"),
        ('"bl.example.org" = 2\n"white.example.org" = -3', "so a client that it would speak for is refused"),
        ('"bl.example.org" = 2', "so its points refuse nobody at the first try"),
        ('"seen.example.org" = 0', ""),
    ],
)
def test_a_plugin_that_gives_points_stands_before_one_that_defers(folder: Folder, zones: str, told: str) -> None:
    late = policy("recipients", "greylist", "dnsbl", "discard", dnsbl=f"[plugins.dnsbl.zones]\n{zones}")
    found = warnings(folder, f"{late}[score]\ndeny_at = 3\n")
    assert len(found) == (1 if told else 0)
    assert all(each.startswith("dnsbl: greylist, which defers, comes before it, ") and told in each for each in found)


@pytest.mark.parametrize(
    ("order", "rest"),
    [
        (("recipients", "dnsbl", "greylist"), "[score]\ndeny_at = 3\n"),
        (("recipients", "greylist", "dnsbl"), ""),
        (("recipients", "greylist", "dnsbl"), "[score]\ndefer_at = 3\n"),
    ],
)
def test_points_that_come_in_time_or_deny_nobody_are_no_finding(
    folder: Folder, order: tuple[str, ...], rest: str
) -> None:
    zones = '[plugins.dnsbl.zones]\n"white.example.org" = -3'
    assert warnings(folder, policy(*order, "discard", dnsbl=zones) + rest) == []


def test_a_dnsbl_that_decides_itself_gives_no_points(folder: Folder) -> None:
    own = 'deny_at = 1\n[plugins.dnsbl.zones]\n"white.example.org" = -3'
    text = policy("recipients", "greylist", "dnsbl", "discard", dnsbl=own)
    assert warnings(folder, f"{text}[score]\ndeny_at = 3\n") == []


@pytest.mark.parametrize("observed", ["greylist", "dnsbl"])
def test_an_observed_plugin_neither_defers_nor_gives_points(folder: Folder, observed: str) -> None:
    tables = {"dnsbl": '[plugins.dnsbl.zones]\n"white.example.org" = -3', "greylist": ""}
    tables[observed] = f'mode = "observe"\n{tables[observed]}'
    text = policy("recipients", "greylist", "dnsbl", "discard", **tables)
    assert warnings(folder, f"{text}[score]\ndeny_at = 3\n") == []
