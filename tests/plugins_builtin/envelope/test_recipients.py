"""recipients: vouches for ours, refuses foreign domains and relay tricks, and knows an unknown mailbox."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost import Action, Address, AddressError, Session, WatchedFile, hookimpl
from gatepost.address import parse_path
from gatepost.testing import Client, ConfigError, Policy, instance
from gatepost_builtin.envelope.recipients import Recipients, RecipientsOptions, read_directory


class Relaying:
    """Lets every client relay, as authentication does."""

    @hookimpl
    def connect(self, session: Session) -> None:
        session._may_relay = True


async def client_of(*others: Any, **options: Any) -> Client:
    """A client that stands before RCPT, with recipients as the only one that vouches."""
    policy = Policy(*others, instance(Recipients, **options))
    client = await policy.connect()
    await client.ehlo()
    await client.mail("a@example.com", "SMTPUTF8")
    return client


async def reply_to(recipient: str, **options: Any) -> str:
    """The first words of the reply to one RCPT."""
    reply = await (await client_of(**options)).rcpt(recipient)
    return " ".join(reply.wire.decode().split()[:2])


OURS, FOREIGN, UNKNOWN = "250 2.1.5", "550 5.7.1", "550 5.1.1"


# Domains


async def test_every_mailbox_of_a_domain_without_given_addresses_is_ours() -> None:
    assert await reply_to("anybody@example.org", domains=["example.org"]) == OURS


@pytest.mark.parametrize("domain", ["example.net", "sub.example.org", "org", "notexample.org", "[192.0.2.1]"])
async def test_a_foreign_domain_is_refused_for_good(domain: str) -> None:
    assert await reply_to(f"b@{domain}", domains=["example.org"]) == FOREIGN


async def test_domains_are_compared_without_case() -> None:
    assert await reply_to("b@EXAMPLE.org", domains=["Example.ORG"]) == OURS


@pytest.mark.parametrize("written", ["bücher.example", "xn--bcher-kva.example", "BÜCHER.example"])
@pytest.mark.parametrize("sent", ["b@bücher.example", "b@xn--bcher-kva.example", "b@XN--BCHER-KVA.example"])
async def test_domains_are_compared_as_a_labels(written: str, sent: str) -> None:
    assert await reply_to(sent, domains=[written]) == OURS


@pytest.mark.parametrize(
    ("written", "sent"), [("[192.0.2.1]", "b@[192.0.2.1]"), ("[IPv6:2001:DB8:0::1]", "b@[ipv6:2001:db8::1]")]
)
async def test_an_address_literal_is_ours_when_it_is_given(written: str, sent: str) -> None:
    assert await reply_to(sent, domains=[written]) == OURS


async def test_a_source_route_is_judged_as_what_stands_behind_it() -> None:
    assert await reply_to("@example.net:b@example.org", domains=["example.org"]) == OURS
    assert await reply_to("@example.org:b@example.net", domains=["example.org"]) == FOREIGN


# Mailboxes


async def test_with_addresses_given_an_unknown_mailbox_of_ours_is_refused_for_good() -> None:
    options = {"domains": ["example.org"], "addresses": ["bob@example.org"]}
    assert await reply_to("bob@example.org", **options) == OURS
    assert await reply_to("eve@example.org", **options) == UNKNOWN


async def test_addresses_bind_their_own_domain_only() -> None:
    options = {"domains": ["example.org", "example.net"], "addresses": ["bob@example.org"]}
    assert await reply_to("anybody@example.net", **options) == OURS
    assert await reply_to("anybody@example.com", **options) == FOREIGN


async def test_the_domain_of_an_address_is_ours() -> None:
    assert await reply_to("bob@example.org", addresses=["bob@example.org"]) == OURS
    assert await reply_to("eve@example.org", addresses=["bob@example.org"]) == UNKNOWN


@pytest.mark.parametrize("sent", ["bob@example.org", "BOB@example.org", "Bob@Example.Org", '"bob"@example.org'])
@pytest.mark.parametrize("written", ["bob@example.org", "Bob@EXAMPLE.org"])
async def test_local_parts_are_compared_without_case_and_quotes(sent: str, written: str) -> None:
    assert await reply_to(sent, addresses=[written]) == OURS


async def test_a_local_part_beyond_ascii_is_a_mailbox_like_any_other() -> None:
    assert await reply_to("jürgen@example.org", addresses=["Jürgen@example.org"]) == OURS
    assert await reply_to("jurgen@example.org", addresses=["Jürgen@example.org"]) == UNKNOWN


async def test_letters_that_only_look_alike_when_folded_are_two_mailboxes() -> None:
    assert await reply_to("strasse@example.org", addresses=["straße@example.org"]) == UNKNOWN


# Plus addresses


@pytest.mark.parametrize(
    "sent", ["bob+shop@example.org", "Bob+Shop@example.org", "bob+@example.org", "bob+a+b@example.org"]
)
async def test_a_plus_address_of_a_listed_mailbox_is_ours(sent: str) -> None:
    assert await reply_to(sent, addresses=["bob@example.org"]) == OURS
    assert await reply_to(sent, addresses=["bob@example.org"], delimiter="") == UNKNOWN
    assert await reply_to(sent, addresses=["bob@example.org"], delimiter="-") == UNKNOWN


@pytest.mark.parametrize("sent", ["eve+shop@example.org", "+bob@example.org", "+@example.org", "bob-shop@example.org"])
async def test_an_extension_makes_no_mailbox(sent: str) -> None:
    assert await reply_to(sent, addresses=["bob@example.org"]) == UNKNOWN


async def test_several_delimiters_are_one_set_and_the_first_in_the_address_counts() -> None:
    for sent in ("bob-shop@example.org", "bob+shop-2@example.org", "bob-a+b@example.org"):
        assert await reply_to(sent, addresses=["bob@example.org"], delimiter="+-") == OURS
    assert await reply_to("bob-a+b@example.org", addresses=["bob-a@example.org"], delimiter="+-") == UNKNOWN


async def test_a_listed_mailbox_with_a_delimiter_is_found_as_it_stands() -> None:
    assert await reply_to("c++@example.org", addresses=["c++@example.org"]) == OURS
    assert await reply_to("c+@example.org", addresses=["c++@example.org"]) == UNKNOWN


async def test_an_extension_binds_to_its_own_domain_and_to_any_source(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("carol@example.net\n")
    options = {"addresses": ["bob@example.org"], "files": [WatchedFile(tmp_path / "list")]}
    assert await reply_to("carol+x@example.net", **options) == OURS
    assert await reply_to("bob+x@example.org", **options) == OURS
    assert await reply_to("bob+x@example.net", **options) == UNKNOWN
    assert await reply_to("bob+x@example.com", **options) == FOREIGN


async def test_a_plus_address_of_the_postmaster_is_ours_at_our_domains_only() -> None:
    assert await reply_to("postmaster+x@example.org", addresses=["bob@example.org"]) == OURS
    assert await reply_to("postmaster+x@example.org", addresses=["bob@example.org"], postmaster=False) == UNKNOWN
    assert await reply_to("postmaster+x@example.net", addresses=["bob@example.org"]) == FOREIGN


@pytest.mark.parametrize(
    "trick",
    [
        "bob+victim%evil.example@example.org",
        "bob+evil.example!victim@example.org",
        '"bob+victim@evil.example"@example.org',
        "postmaster+victim%evil.example@example.org",
        "evil.example!victim+x@example.org",
    ],
)
async def test_an_extension_is_no_way_around_the_relay_check(trick: str) -> None:
    assert await reply_to(trick, addresses=["bob@example.org"]) == FOREIGN


# Postmaster


@pytest.mark.parametrize("sent", ["postmaster", "POSTMASTER", "postmaster@example.org", "PostMaster@example.org"])
async def test_postmaster_is_ours_even_when_no_address_says_so(sent: str) -> None:
    assert await reply_to(sent, addresses=["bob@example.org"]) == OURS


async def test_postmaster_elsewhere_is_not_ours() -> None:
    assert await reply_to("postmaster@example.net", domains=["example.org"]) == FOREIGN


async def test_postmaster_may_be_left_out() -> None:
    options = {"addresses": ["bob@example.org"], "postmaster": False}
    assert await reply_to("postmaster", **options) == UNKNOWN
    assert await reply_to("postmaster@example.org", **options) == UNKNOWN


# Relay tricks

TRICKS = (
    "victim%evil.example@example.org",
    "victim%evil.example%other.example@example.org",
    "evil.example!victim@example.org",
    "other!evil!victim@example.org",
    '"victim@evil.example"@example.org',
    '"victim%evil.example"@example.org',
    '"evil.example!victim"@example.org',
    '"vic\\tim\\@evil.example"@example.org',
    '"@evil.example:victim"@example.org',
    "@example.org:victim%evil.example@example.org",
    "postmaster%evil.example@example.org",
    '"postmaster@evil.example"@example.org',
    '"bob@example.org"@example.org',
)


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("addresses", [(), ("bob@example.org",)])
async def test_a_relay_trick_is_refused_for_good(trick: str, addresses: tuple[str, ...]) -> None:
    """Stock Postfix would send these on to evil.example for a client in its networks, which we are to it."""
    assert await reply_to(trick, domains=["example.org"], addresses=addresses) == FOREIGN


@pytest.mark.parametrize("listed", ["a%b@example.org", "a!b@example.org", '"a@b"@example.org'])
async def test_a_mailbox_that_looks_like_a_trick_is_ours_when_it_is_given_as_it_stands(listed: str) -> None:
    assert await reply_to(listed, addresses=[listed]) == OURS
    assert await reply_to(listed.replace("b", "c", 1), addresses=[listed]) == FOREIGN


@pytest.mark.parametrize("trick", ["victim%example.org@evil.example", "example.org!victim@evil.example"])
async def test_a_trick_at_a_foreign_domain_is_foreign(trick: str) -> None:
    assert await reply_to(trick, domains=["example.org"]) == FOREIGN


# Relaying clients


async def test_it_does_not_refuse_foreign_recipients_of_a_client_that_may_relay_nor_vouch_for_them() -> None:
    client = await client_of(Relaying(), domains=["example.org"])
    assert (await client.rcpt("b@example.net")).code == 450  # nobody vouched: another plugin's affair
    assert (await client.rcpt("b@example.org")).code == 250


async def test_a_client_that_may_relay_is_told_of_an_unknown_mailbox_and_of_a_trick() -> None:
    client = await client_of(Relaying(), addresses=["bob@example.org"])
    assert (await client.rcpt("eve@example.org")).code == 550
    assert (await client.rcpt("victim%evil.example@example.org")).code == 550


async def test_to_be_trusted_is_not_to_be_allowed_to_relay() -> None:
    class Trusting:
        @hookimpl
        def connect(self, session: Session) -> None:
            session.trust("our office")

    client = await client_of(Trusting(), domains=["example.org"])
    assert (await client.rcpt("b@example.net")).code == 550


async def test_other_plugins_are_still_asked_about_what_it_vouches_for() -> None:
    policy = Policy(instance(Recipients, domains=["example.org"]))
    client = await policy.connect()
    await client.ehlo()
    await client.mail()
    assert (await client.rcpt("b@example.org")).code == 250
    (ruling,) = (ruling for ruling in client.session.envelope._rulings if ruling.phase == "rcpt")
    assert ruling.vouched
    assert ruling.decision is None


# Whatever is asked, a foreign domain is never vouched for

domains = st.sampled_from(["example.org", "example.net", "example.com", "sub.example.org", "org", "[192.0.2.1]", ""])
locals_ = st.one_of(st.sampled_from(["postmaster", "bob", "a%b", "a!b", "a@b", "bob@example.org"]), st.text(min_size=1))
addresses = st.builds(Address, locals_, domains)


@pytest.mark.patches
@given(
    ours=st.frozensets(domains.filter(bool)),
    given_addresses=st.frozensets(addresses.filter(lambda address: bool(address.domain))),
    recipient=addresses,
    may_relay=st.booleans(),
    postmaster=st.booleans(),
)
def test_it_never_vouches_for_a_foreign_domain_nor_for_a_trick(
    ours: frozenset[str],
    given_addresses: frozenset[Address],
    recipient: Address,
    may_relay: bool,
    postmaster: bool,
) -> None:
    if not ours and not given_addresses:
        ours = frozenset({"example.org"})
    plugin = Recipients(RecipientsOptions(domains=ours, addresses=given_addresses, postmaster=postmaster))
    session = Session.__new__(Session)
    session._may_relay = may_relay
    said = plugin.rcpt(session, recipient)
    vouched = said is not None and said.action is Action.ACCEPT
    folded = {(address.local.lower(), address.domain) for address in given_addresses}
    listed = (recipient.local.lower(), recipient.domain) in folded
    if vouched and recipient.domain:
        assert recipient.domain in ours | {address.domain for address in given_addresses}
    if vouched and set("@%!") & set(recipient.local):
        assert listed
    if listed:
        assert vouched
    if not vouched and said is not None:
        assert said.status in {"5.7.1", "5.1.1"}


ADDRESS_PIECES = ["victim", "bob", ".", "..", "%", "!", "@", '"', "\\\\", "+", " ", ":", ",", "<", ">", "ß", "❤"]
ADDRESS_PIECES += ["ours.example", "evil.example", "[192.0.2.1]", "@ours.example", "@evil.example", "@ours.example:"]
TYPED = st.lists(st.sampled_from(ADDRESS_PIECES), max_size=9).map("".join)


@pytest.mark.patches
@given(
    typed=st.one_of(TYPED, TYPED.map("<{}@ours.example>".format), TYPED.map("< bob+{}@ours.example. >".format)),
    only_listed=st.booleans(),
)
def test_no_way_to_spell_an_address_leads_around_the_relay_checks(typed: str, only_listed: bool) -> None:
    """Whatever is taken leaves as an address of ours, also for a mail server that reads it its own way."""
    try:
        recipient, _ = parse_path(typed, forward=True)
    except AddressError:
        return
    session = Session.__new__(Session)
    session._may_relay = False
    listed = frozenset({Address("bob", "b.example"), Address("bob", "ours.example")})
    options = RecipientsOptions(domains=frozenset({"ours.example"}), addresses=listed if only_listed else frozenset())
    said = Recipients(options).rcpt(session, recipient)
    if said is None or said.action is not Action.ACCEPT:
        return
    leaves = str(recipient)
    if leaves.lower() != "postmaster":
        before, _, domain = leaves.rpartition("@")
        assert domain in {"ours.example", "b.example"}
        assert not only_listed or before.split("+")[0].lower() in {"bob", "postmaster"}
        assert not set("@%!") & set(before)


# Files


class Watched:
    """A list file and the clock by which it is looked at."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.seconds = 0.0
        path.write_text(text)
        self.file = WatchedFile(path, lambda: self.seconds)

    def write(self, text: str) -> None:
        """Change the file, and let the time pass until it is looked at again."""
        before = self.path.stat().st_mtime_ns
        self.path.write_text(text)
        os.utime(self.path, ns=(before + 10**9, before + 10**9))
        self.seconds += 2


FILE = """\
# our people
bob@example.org
Alice@example.org     # since 2024
example.net
@Bücher.example

o#d@example.com
"""


async def test_a_file_names_mailboxes_and_domains_one_a_line(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "recipients", FILE)
    for recipient, reply in {
        "bob@example.org": OURS,
        "alice@example.org": OURS,
        "eve@example.org": UNKNOWN,
        "anybody@example.net": OURS,
        "anybody@xn--bcher-kva.example": OURS,
        "o#d@example.com": OURS,
        "b@example.edu": FOREIGN,
    }.items():
        assert await reply_to(recipient, files=[watched.file]) == reply


async def test_files_and_options_are_one_list(tmp_path: Path) -> None:
    one = Watched(tmp_path / "one", "bob@example.org\n").file
    two = Watched(tmp_path / "two", "carol@example.org\nexample.net\n").file
    options = {"domains": ["example.org"], "addresses": ["dave@example.org"], "files": [one, two]}
    for local in ("bob", "carol", "dave"):
        assert await reply_to(f"{local}@example.org", **options) == OURS
    assert await reply_to("eve@example.org", **options) == UNKNOWN
    assert await reply_to("eve@example.net", **options) == OURS


@pytest.mark.parametrize("reverse", [False, True])
async def test_what_one_source_names_is_ours_whatever_the_others_name(tmp_path: Path, reverse: bool) -> None:
    """Each source is read on its own: neither the first nor the last of them counts more."""
    files = [Watched(tmp_path / "one", "bob@one.example\n").file, Watched(tmp_path / "two", "two.example\n").file]
    options = {"domains": ["zero.example"], "files": files[::-1] if reverse else files}
    assert await reply_to("anybody@zero.example", **options) == OURS
    assert await reply_to("anybody@two.example", **options) == OURS
    assert await reply_to("bob@one.example", **options) == OURS
    assert await reply_to("eve@one.example", **options) == UNKNOWN
    assert await reply_to("anybody@three.example", **options) == FOREIGN


async def test_the_mailboxes_of_the_options_bind_although_a_file_names_another_domain(tmp_path: Path) -> None:
    options = {"addresses": ["bob@zero.example"], "files": [Watched(tmp_path / "two", "two.example\n").file]}
    assert await reply_to("eve@zero.example", **options) == UNKNOWN
    assert await reply_to("bob@zero.example", **options) == OURS


async def test_a_file_is_reread_when_it_changes(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "recipients", "bob@example.org\n")
    client = await client_of(files=[watched.file])
    assert (await client.rcpt("eve@example.org")).code == 550
    watched.write("eve@example.org\n")
    assert (await client.rcpt("eve@example.org")).code == 250
    assert (await client.rcpt("bob@example.org")).code == 550


@pytest.mark.parametrize("broken", ["", "# nobody\n", "bob@example.org\nbob@@example.org\n", "two words\n"])
async def test_a_file_that_was_emptied_or_broken_changes_nothing(tmp_path: Path, broken: str) -> None:
    watched = Watched(tmp_path / "recipients", "bob@example.org\n")
    client = await client_of(domains=["example.org"], files=[watched.file])
    watched.write(broken)
    assert (await client.rcpt("bob@example.org")).code == 250
    assert (await client.rcpt("eve@example.org")).code == 550
    assert watched.file.problem


async def test_a_file_that_went_away_changes_nothing(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "recipients", "bob@example.org\n")
    client = await client_of(files=[watched.file])
    watched.path.unlink()
    watched.seconds += 2
    assert (await client.rcpt("bob@example.org")).code == 250


def test_a_file_is_not_read_again_for_each_recipient(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "recipients", "bob@example.org\n")
    assert watched.file.parsed(read_directory) is watched.file.parsed(read_directory)


# Mistakes in the configuration, as `gatepost check` words them


def mistakes(toml: str, folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Policy(f'[plugins]\norder = ["recipients"]\n[plugins.recipients]\n{toml}', folder=folder)
    return [f"{each.key}: {each.message}".removeprefix("plugins.recipients.") for each in caught.value.mistakes]


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("", ": all recipients would be refused: set domains, addresses or files"),
        ('domains = ["exa mple.org"]', 'domains[0]: expected a domain such as "example.org", found "exa mple.org"'),
        ('domains = ["bob@example.org"]', "domains[0]: expected a domain"),
        ('domains = [".example.org"]', "domains[0]: expected a domain"),
        ('domains = [""]', "domains[0]: expected a domain"),
        ('domains = ["[192.0.2.999]"]', "domains[0]: expected a domain"),
        ('domains = ["ｅxample.org"]', "domains[0]: expected a domain"),
        ("domains = [5]", "domains[0]: expected text in quotes"),
        ('domains = "example.org"', "domains: expected a list"),
        ('addresses = ["bob"]', 'addresses[0]: expected a mailbox such as "bob@example.org", found "bob"'),
        ('addresses = ["@example.org"]', "addresses[0]: expected a mailbox"),
        ('addresses = ["postmaster"]', 'addresses[0]: "postmaster" has no domain'),
        ("addresses = [5]", "addresses[0]: expected a mailbox"),
        ('delimiter = "x"', 'delimiter: expected punctuation such as "+" or "+-", or "" for no extensions, found "x"'),
        ('delimiter = "+%"', "delimiter: expected punctuation"),
        ('delimiter = "@"', "delimiter: expected punctuation"),
        ('files = ["nowhere"]', "files[0]: cannot read"),
        ('files = ["bad"]', "files[0]: expected a mailbox"),
        ('files = ["empty"]', "files[0]: it contains no mailbox and no domain"),
        ('domain = ["example.org"]', 'domain: unknown key; did you mean "domains"?'),
    ],
)
def test_a_mistake_gets_a_sentence(toml: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("bob@example.org\nbob@example..org\n")
    (tmp_path / "empty").write_text("# nothing yet\n")
    assert any(message in mistake for mistake in mistakes(toml, tmp_path)), mistakes(toml, tmp_path)


def test_it_declares_that_it_vouches_and_fails_safe() -> None:
    assert Recipients.grants == "recipients"
    assert not hasattr(Recipients, "on_error")
    assert not hasattr(Recipients, "skip_trusted")
