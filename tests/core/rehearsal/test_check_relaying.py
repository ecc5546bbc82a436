"""Every trick of a relay abuser is tried, and each plugin that is asked too early about trust or mailboxes is found."""

from __future__ import annotations

import pytest

from tests.core.cli.running import Folder, facts
from tests.core.rehearsal.policies import errors, policy, warnings


def vouching_if(condition: str) -> str:
    """A plugin that vouches for a recipient on this condition, and refuses all others."""
    return (
        "from gatepost import Options, accept, deny, hookimpl\n"
        "class Mine:\n"
        "    class Options(Options):\n        domains: tuple[str, ...]\n"
        "    grants = 'recipients'\n"
        "    seen = frozenset()\n"
        "    @hookimpl\n"
        "    def rcpt(self, recipient):\n"
        "        known = recipient in self.seen\n"
        "        self.seen |= {recipient}\n"
        f"        return accept() if {condition} else deny('no')\n"
    )


VICTIM = "relay-probe.example.net"


@pytest.mark.parametrize(
    ("condition", "probe"),
    [
        (f"recipient.domain == '{VICTIM}'", f"<victim@{VICTIM}>"),
        ("'%' in recipient.local", f"<victim%{VICTIM}@one.example>"),
        ("'!' in recipient.local", f"<{VICTIM}!victim@one.example>"),
        ("'@' in recipient.local", f'<"victim@{VICTIM}"@one.example>'),
        # one that knows a recipient when it is named again, which the source route does
        (f"known and recipient.domain == '{VICTIM}'", f"<@one.example:victim@{VICTIM}>"),
        ("recipient.domain == 'two.example'", f"<victim%{VICTIM}@two.example>"),
        ("recipient.domain == 'two.example' and '!' in recipient.local", f"<{VICTIM}!victim@two.example>"),
        ("recipient.domain == 'mx.example.org'", f"<victim%{VICTIM}@mx.example.org>"),
        ("recipient.domain == 'mx.example.org' and '@' in recipient.local", f'<"victim@{VICTIM}"@mx.example.org>'),
    ],
)
def test_a_plugin_that_falls_for_one_trick_only_is_an_open_relay(folder: Folder, condition: str, probe: str) -> None:
    table = 'use = "careless.py"\ndomains = ["one.example", "two.example", "three.example"]'
    text = policy("careless", "discard", careless=table)
    (error,) = errors(folder, text, careless=vouching_if(condition))
    assert error["key"] == "plugins.careless"
    assert error["message"] == f"anyone may relay: it vouches for {probe} from an unknown client"


def test_a_plugin_that_falls_for_no_trick_is_no_open_relay(folder: Folder) -> None:
    table = 'use = "careful.py"\ndomains = ["one.example"]'
    careful = vouching_if("recipient.domain == 'one.example' and not set('@%!') & set(recipient.local)")
    assert errors(folder, policy("careful", "discard", careful=table), careful=careful) == []


def test_a_client_that_is_trusted_or_at_home_would_prove_nothing(folder: Folder) -> None:
    """The one that tries is a stranger, from an address of nobody's."""
    local = vouching_if("True").replace("def rcpt(self, recipient)", "def rcpt(self, session, recipient)")
    table = 'use = "local.py"\ndomains = ["one.example"]'
    at_home = local.replace("if True", "if session.client.startswith(('127.', '10.', '::1')) or session.trusted")
    assert errors(folder, policy("local", "discard", local=table), local=at_home) == []
    stranger = local.replace("if True", "if session.client == '192.0.2.1' and not session.trusted")
    assert len(errors(folder, policy("local", "discard", local=table), local=stranger)) == 1


# As whom it runs

AS_ROOT = 'gatepost does not serve it as root: set user = "…", or start gatepost from another account'


@pytest.mark.parametrize(
    ("bind", "user", "told"),
    [
        ('"0.0.0.0:2525"', "", True),
        ('"127.0.0.1:2525", "192.0.2.7:2525"', "", True),
        ('"192.0.2.7:2525", "127.0.0.1:2525"', "", True),
        ('"127.0.0.1:2525", "[::1]:2525"', "", False),
        ('"0.0.0.0:2525"', 'user = "nobody"\n', False),
    ],
)
def test_a_listener_for_everybody_without_a_user_is_a_warning(folder: Folder, bind: str, user: str, told: bool) -> None:
    text = user + policy("recipients", "discard").replace('"127.0.0.1:2525"', bind)
    found = facts("check", "--config", folder.write(text))
    assert found["errors"] == []
    assert ((AS_ROOT, "listen.smtp.bind") in [(each["message"], each["key"]) for each in found["warnings"]]) is told


# Trust and mailboxes that come too late

TRUSTING = 'allow = [{ network = "192.0.2.0/24" }]'


def test_the_last_plugin_that_decides_about_trust_counts(folder: Folder) -> None:
    tables = {"access": TRUSTING, "later": f'use = "access"\n{TRUSTING}'}
    order = ("access", "earlytalker", "later", "recipients", "discard")
    (told,) = warnings(folder, policy(*order, **tables))
    assert told == "earlytalker: it skips trusted clients, but later, which decides who is trusted, comes after it"
    order = ("access", "later", "earlytalker", "recipients", "discard")
    assert warnings(folder, policy(*order, **tables)) == []


def test_the_first_plugin_that_knows_the_mailboxes_counts(folder: Folder) -> None:
    tables = {"more": 'use = "recipients"\ndomains = ["example.net"]'}
    assert warnings(folder, policy("recipients", "greylist", "more", "discard", **tables)) == []
    (told,) = warnings(folder, policy("greylist", "recipients", "more", "discard", **tables))
    assert told == "greylist: it stores mailboxes that do not exist, because recipients comes after it"
