"""Mailboxes, paths and parameters: tables of what passes and what does not, and laws that hold for any text."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatepost.address import NULL, Address, parse_parameters, parse_path
from gatepost.errors import AddressError, GatepostError

T = TypeVar("T")

GOOD = [
    # written, local part, domain, written again
    ("user@example.com", "user", "example.com", "user@example.com"),
    ("<user@example.com>", "user", "example.com", "user@example.com"),
    ("User.Name@EXAMPLE.Com", "User.Name", "example.com", "User.Name@example.com"),
    ("Smith@bar.com", "Smith", "bar.com", "Smith@bar.com"),
    ("user+tag=x@example.com", "user+tag=x", "example.com", "user+tag=x@example.com"),
    ("!#$%&'*+-/=?^_`{|}~@example.com", "!#$%&'*+-/=?^_`{|}~", "example.com", "!#$%&'*+-/=?^_`{|}~@example.com"),
    ("root@localhost", "root", "localhost", "root@localhost"),
    ("a@1.2.3.example", "a", "1.2.3.example", "a@1.2.3.example"),
    ("a@mail_out.example.com", "a", "mail_out.example.com", "a@mail_out.example.com"),
    ("a@x--y.example", "a", "x--y.example", "a@x--y.example"),
    ("postmaster", "postmaster", "", "postmaster"),
    ("<PostMaster>", "PostMaster", "", "PostMaster"),
    # quoted local parts
    ('"user"@example.com', "user", "example.com", "user@example.com"),
    ('"x y"@example.com', "x y", "example.com", '"x y"@example.com'),
    (r'"a\"b"@example.com', 'a"b', "example.com", r'"a\"b"@example.com'),
    (r'"a\\b"@example.com', r"a\b", "example.com", r'"a\\b"@example.com'),
    (r'"\u\s\e\r"@example.com', "user", "example.com", "user@example.com"),
    ('"a..b"@example.com', "a..b", "example.com", '"a..b"@example.com'),
    ('".a."@example.com', ".a.", "example.com", '".a."@example.com'),
    ('"a>b<c"@example.com', "a>b<c", "example.com", '"a>b<c"@example.com'),
    ('" "@example.com', " ", "example.com", '" "@example.com'),
    # address literals
    ("a@[192.0.2.1]", "a", "[192.0.2.1]", "a@[192.0.2.1]"),
    ("a@[IPv6:2001:DB8::1]", "a", "[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"),
    ("a@[ipv6:2001:db8:0:0:0:0:0:1]", "a", "[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"),
    ("a@[IPv6:1:2:3:4:5:6:7::]", "a", "[IPv6:1:2:3:4:5:6:7:0]", "a@[IPv6:1:2:3:4:5:6:7:0]"),  # erratum 4315
    # what relays were tricked with: each is one mailbox at the domain behind the last @
    ('"victim@evil.example"@ours.example', "victim@evil.example", "ours.example", '"victim@evil.example"@ours.example'),
    ("victim%evil.example@ours.example", "victim%evil.example", "ours.example", "victim%evil.example@ours.example"),
    ("evil.example!victim@ours.example", "evil.example!victim", "ours.example", "evil.example!victim@ours.example"),
    ('"@evil.example:victim"@ours.example', "@evil.example:victim", "ours.example", None),
    # dots that break the rule, as large providers gave them away: each leaves as it came, quoted or not
    ("a..b@example.com", "a..b", "example.com", "a..b@example.com"),
    (".a@example.com", ".a", "example.com", ".a@example.com"),
    ("a.@example.com", "a.", "example.com", "a.@example.com"),
    ("..@example.com", "..", "example.com", "..@example.com"),
    ("ü..b@example.com", "ü..b", "example.com", "ü..b@example.com"),
    ("a..b@[192.0.2.1]", "a..b", "[192.0.2.1]", "a..b@[192.0.2.1]"),
    # an absolute name
    ("a@Example.com.", "a", "example.com", "a@example.com"),
    ("a@bücher.example.", "a", "xn--bcher-kva.example", "a@xn--bcher-kva.example"),
    # RFC 6531
    ("jörg@example.com", "jörg", "example.com", "jörg@example.com"),
    ("用户@例子.广告", "用户", "xn--fsqu00a.xn--4rr70v", "用户@xn--fsqu00a.xn--4rr70v"),
    ("a@bücher.example", "a", "xn--bcher-kva.example", "a@xn--bcher-kva.example"),
    ("a@BÜCHER.example", "a", "xn--bcher-kva.example", "a@xn--bcher-kva.example"),
    ("a@bu\u0308cher.example", "a", "xn--bcher-kva.example", "a@xn--bcher-kva.example"),
    ("a@XN--BCHER-KVA.example", "a", "xn--bcher-kva.example", "a@xn--bcher-kva.example"),
    ("a@bücher.xn--p1ai", "a", "xn--bcher-kva.xn--p1ai", "a@xn--bcher-kva.xn--p1ai"),
    ("a@xn--strae-oqa.de", "a", "xn--strae-oqa.de", "a@xn--strae-oqa.de"),
    # IDNA 2008, of which IDNA 2003 would make another domain
    ("a@straße.de", "a", "xn--strae-oqa.de", "a@xn--strae-oqa.de"),
    ("a@STRAẞE.de", "a", "xn--strae-oqa.de", "a@xn--strae-oqa.de"),
    ("a@βόλος.example", "a", "xn--nxasmm1c.example", "a@xn--nxasmm1c.example"),
    ("a@βόλοσ.example", "a", "xn--nxasmq6b.example", "a@xn--nxasmq6b.example"),
    ("a@ΒΌΛΟΣ.example", "a", "xn--nxasmq6b.example", "a@xn--nxasmq6b.example"),  # as Postfix reads it
    ("a@क्\u200dष.example", "a", "xn--11b2ezcw70k.example", "a@xn--11b2ezcw70k.example"),
    # excluded by IDNA 2008, and registered
    ("a@i❤.example", "a", "xn--i-7iq.example", "a@xn--i-7iq.example"),
    ('"jörg müller"@example.com', "jörg müller", "example.com", '"jörg müller"@example.com'),
]

BAD_IN_A_PATH = {
    "no domain": "user",
    "an empty domain": "user@",
    "no local part": "@example.com",
    "no local part and no domain": "@",
    "a domain alone": "example.com",
    "an empty quoted local part (erratum 3135 of RFC 5322)": '""@example.com',
    "a second @": "a@b@example.com",
    "a space in the local part": "a b@example.com",
    "a space before the @": "a @example.com",
    "a space behind the @": "a@ example.com",
    "a space in the domain": "a@example .com",
    "a comma in the local part": "a,b@example.com",
    "a backslash without quotes": r"a\@b@example.com",
    "an open quote": '"a@example.com',
    "an escaped closing quote": r'"a\"@example.com',
    "text behind the quotes": '"a"b@example.com',
    "a quoted word among atoms": 'a."b"@example.com',
    "two dots behind the domain": "a@example.com..",
    "a dot for a domain": "a@.",
    "a dot behind a literal": "a@[192.0.2.1].",
    "a dot before the domain": "a@.example.com",
    "two dots in the domain": "a@example..com",
    "a hyphen before a label": "a@-example.com",
    "a hyphen behind a label": "a@example-.com",
    "a slash in the domain": "a@example.com/x",
    "a label of 64 octets": f"a@{'x' * 64}.example",
    "a label of 64 letters beyond ASCII": f"a@{'ü' * 64}.example",
    "a domain of 256 octets": "a@" + ".".join(["x" * 63] * 3 + ["x" * 61, "yy"]),
    "a domain of 256 octets in U-labels": "a@" + ".".join(["x" * 63] * 3 + ["x" * 55, "bü"]),
    "a local part of 257 octets": "a" * 257 + "@example.com",
    "a local part of 257 octets in 129 letters": "ü" * 128 + "a@example.com",
    "a quoted local part of 257 octets": f'"{" " * 257}"@example.com',
    "a comment": "a(comment)@example.com",
    "a display name": "User <a@example.com>",
    "no closing bracket": "<a@example.com",
    "no opening bracket": "a@example.com>",
    "something behind the bracket": "<a@example.com> SIZE=1",
    "two pairs of brackets": "<<a@example.com>>",
    "an IPv4 literal that is none": "a@[192.0.2.256]",
    "an IPv4 literal with a leading zero": "a@[192.0.2.01]",
    "an IPv6 literal without its tag": "a@[2001:db8::1]",
    "an IPv6 literal that is none": "a@[IPv6:2001:db8::1::2]",
    "an IPv6 literal with a zone": "a@[IPv6:fe80::1%eth0]",
    "an IPv4 address tagged as IPv6": "a@[IPv6:192.0.2.1]",
    "an unknown tag": "a@[x400:abc]",
    "an open literal": "a@[192.0.2.1",
    "text behind a literal": "a@[192.0.2.1].example",
    "a NUL": "a\0b@example.com",
    "a line end": "a@example.com\r\nRCPT TO:<b@example.com>",
    "a line end in quotes": '"a\r\nb"@example.com',
    "a tab": "a@example.com\t",
    "DEL": "a\x7f@example.com",
    "a C1 control": "a\x85@example.com",
    "a line separator": "a\u2028b@example.com",
    "a surrogate": "a\udce4@example.com",
    "a U-label that would become ASCII": "a@ｅxample.com",
    "an ideographic full stop": "a@例。example",
    "a letter that would become a slash": "a@\u2100.example",
    "a zero-width joiner": "a@x\u200dy.example",
    "a U-label with the prefix of an A-label": "a@xn--ü.example",
    "a space beside a U-label": "a@ü x.example",
    "a letter with a symbol that IDNA 2003 would change into another domain": "a@straße❤.example",
}
BAD = BAD_IN_A_PATH | {
    "nothing at all": "",
    "a space alone": " ",
    "a space behind the domain": "a@example.com ",
    "a source route": "@a.example:user@example.com",
}


def test_an_address_error_is_an_error_of_gatepost() -> None:
    assert issubclass(AddressError, GatepostError)


@pytest.mark.parametrize(("written", "local", "domain", "again"), GOOD, ids=[row[0] for row in GOOD])
def test_a_good_mailbox_is_read_and_written(written: str, local: str, domain: str, again: str | None) -> None:
    address = Address.parse(written)
    assert (address.local, address.domain) == (local, domain)
    assert str(address) == (again or written)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("written", BAD.values(), ids=BAD.keys())
def test_a_bad_mailbox_is_refused_with_a_sentence(written: str) -> None:
    with pytest.raises(AddressError, match=r"^[A-Z][ -~]+\.$"):
        Address.parse(written)


@pytest.mark.parametrize("written", BAD_IN_A_PATH.values(), ids=BAD_IN_A_PATH.keys())
def test_a_bad_mailbox_is_refused_in_a_path_too(written: str) -> None:
    for forward in (False, True):
        with pytest.raises(AddressError):
            parse_path(f"<{written}>", forward=forward)


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("user", "must have a domain"),
        ("a,b@c", "must be quoted"),
        ('"a@c', "not closed"),
        ("a@", "domain is empty"),
        ("a@c..", "domain is empty, or has a dot too many"),
        ("a@-c", "label of the domain"),
        (f"{'a' * 257}@c", "local part is longer than 256 octets"),
        ("a@" + "x." * 127 + "xx", "domain is longer than 255 octets"),
        ("a@[1.2.3]", "no valid IP address"),
        ("a@[x]", "address literal must be"),
        ("a@ｅxample", "A-labels"),
        (f"a@{'ü' * 64}", "label of the domain is too long"),
        ("a\0@c", "Control characters"),
    ],
)
def test_the_sentence_says_what_is_wrong(written: str, sentence: str) -> None:
    with pytest.raises(AddressError, match=sentence):
        Address.parse(written)


def test_long_local_parts_and_domains_pass_up_to_the_limits() -> None:
    longest_domain = ".".join(["x" * 63] * 4)
    assert len(longest_domain) == 255
    for local in ("a" * 256, "ü" * 128):
        address, _ = parse_path(f"<{local}@{longest_domain}>", forward=True)
        assert (address.local, address.domain) == (local, longest_domain)


# Addresses as values


def test_domains_are_compared_without_case_and_local_parts_with_it() -> None:
    assert Address.parse("A@EX.com") == Address.parse("A@ex.com")
    assert Address.parse("A@EX.com") != Address.parse("a@ex.com")
    assert len({Address.parse("A@EX.com"), Address.parse('"A"@ex.com'), Address.parse("a@ex.com")}) == 2


def test_a_u_label_domain_equals_its_a_label() -> None:
    assert Address.parse("a@bücher.example") == Address.parse("a@xn--bcher-kva.example")
    assert hash(Address.parse("a@bücher.example")) == hash(Address.parse("a@xn--bcher-kva.example"))


def test_an_address_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Address.parse("a@b").local = "c"  # type: ignore[misc]
    assert not hasattr(NULL, "__dict__")


def test_an_address_is_copied_and_pickled_and_may_be_extended_by_a_plugin() -> None:
    class Noted(Address):
        note = "of a plugin's own"

    address = Address.parse('"x y"@example.com')
    assert copy.deepcopy(address) == copy.copy(address) == pickle.loads(pickle.dumps(address)) == address
    assert str(Noted(address.local, address.domain)) == str(address)


def test_a_local_part_with_a_dot_too_many_is_the_same_with_and_without_quotes() -> None:
    assert Address.parse("a..b@example.com") == Address.parse('"a..b"@example.com')


def test_the_null_address_is_null_and_nothing_else_is() -> None:
    assert NULL.is_null
    assert str(NULL) == ""
    assert Address.parse("<>") == NULL
    assert not Address.parse("a@b").is_null
    assert not Address.parse("postmaster").is_null


@pytest.mark.parametrize("written", ["postmaster", "PostMaster@example.com", '"POSTMASTER"@[192.0.2.1]'])
def test_postmaster_is_known_in_any_case_and_anywhere(written: str) -> None:
    assert Address.parse(written).is_postmaster


@pytest.mark.parametrize("written", ["<>", "post.master@example.com", "a@postmaster"])
def test_others_are_not_postmaster(written: str) -> None:
    assert not Address.parse(written).is_postmaster


@pytest.mark.parametrize(
    ("written", "smtputf8"),
    [
        ("a@example.com", False),
        ("a@xn--bcher-kva.example", False),
        ("a@[IPv6:::1]", False),
        ("<>", False),
        ("jörg@example.com", True),
        ('"jörg x"@example.com', True),
        ("a@bücher.example", True),
    ],
)
def test_an_address_beyond_ascii_needs_smtputf8(written: str, smtputf8: bool) -> None:
    assert Address.parse(written).smtputf8 is smtputf8


# Paths


@pytest.mark.parametrize(
    ("argument", "address", "parameters"),
    [
        ("<user@example.com>", "user@example.com", ""),
        ("<user@example.com> SIZE=1234", "user@example.com", "SIZE=1234"),
        ("<user@example.com>  SIZE=1  BODY=8BITMIME  ", "user@example.com", "SIZE=1  BODY=8BITMIME"),
        ("<user@example.com> ", "user@example.com", ""),
        (" <user@example.com>", "user@example.com", ""),  # forbidden by RFC 5321 §3.3, and sent by many
        ("   <jörg@example.com>  SMTPUTF8", "jörg@example.com", "SMTPUTF8"),
        ('<"a> SIZE=1"@example.com> SIZE=2', '"a> SIZE=1"@example.com', "SIZE=2"),
        ("<a@[IPv6:::1]> SIZE=2", "a@[IPv6:::1]", "SIZE=2"),
        ("<a@b> ORCPT=utf-8;jörg@b", "a@b", "ORCPT=utf-8;jörg@b"),
        # source routes (RFC 5321 Appendix C)
        ("<@a.example:user@c.example>", "user@c.example", ""),
        ("<@hosta.int,@jkl.org:userc@d.bar.org> SIZE=9", "userc@d.bar.org", "SIZE=9"),
        ('<@a:"x y"@b>', '"x y"@b', ""),
        ("<@bücher.example:user@c.example>", "user@c.example", ""),
        # spaces inside the brackets, and no brackets
        ("< user@example.com >", "user@example.com", ""),
        ("<user@example.com > SIZE=1", "user@example.com", "SIZE=1"),
        ('< "x y"@example.com > SIZE=1', '"x y"@example.com', "SIZE=1"),
        ("< @a.example:user@c.example>", "user@c.example", ""),
        ("user@example.com", "user@example.com", ""),
        ("user@example.com SIZE=1", "user@example.com", "SIZE=1"),
        ("  jörg@bücher.example  SMTPUTF8", "jörg@bücher.example", "SMTPUTF8"),
        ('"x > y"@example.com SIZE=1', '"x > y"@example.com', "SIZE=1"),
        ("a..b@example.com. SIZE=1", "a..b@example.com", "SIZE=1"),
    ],
)
@pytest.mark.parametrize("forward", [False, True])
def test_a_path_is_read_whoever_it_names(argument: str, address: str, parameters: str, forward: bool) -> None:
    assert parse_path(argument, forward=forward) == (Address.parse(address), parameters)


def test_a_relay_trick_in_a_source_route_is_the_mailbox_behind_it() -> None:
    address, _ = parse_path("<@ours.example:victim@evil.example>", forward=True)
    assert address.domain == "evil.example"


@pytest.mark.parametrize(
    "argument",
    [
        "",
        " ",
        "user",
        "user@example.com,SIZE=1",
        "@a.example:user@c.example",
        "User <user@example.com>",
        "> SIZE=1",
        "<user@example.com",
        "<user@example.com SIZE=1",
        "user@example.com>",
        "<user@example.com>SIZE=1",
        "<user@example.com>>",
        "< user @example.com>",
        "<<user@example.com>>",
        "<user@example.com> SIZE=\0",
        "<>SIZE=1\0",
        "\t<user@example.com>",
        "<user@example.com>\tSIZE=1",
        "<user>",
        "<@a.example>",
        "<@a.example:>",
        "<@a.example:postmaster>",
        "<@a.example,b.example:user@c.example>",
        "<@a.example,:user@c.example>",
        "<@-a.example:user@c.example>",
        "<@[192.0.2.1]:user@c.example>",
        "<a.example:user@c.example>",
    ],
)
@pytest.mark.parametrize("forward", [False, True])
def test_a_bad_path_is_refused(argument: str, forward: bool) -> None:
    with pytest.raises(AddressError, match=r"^[A-Z][ -~]+\.$"):
        parse_path(argument, forward=forward)


def test_the_null_path_is_a_sender_but_no_recipient() -> None:
    assert parse_path("<>", forward=False) == (NULL, "")
    assert parse_path(" <> SIZE=1 AUTH=<>", forward=False) == (NULL, "SIZE=1 AUTH=<>")
    assert parse_path("< >", forward=False) == (NULL, "")
    with pytest.raises(AddressError, match="null path"):
        parse_path("<>", forward=True)


def test_the_bare_postmaster_is_a_recipient_but_no_sender() -> None:
    address, parameters = parse_path("<PostMaster> NOTIFY=NEVER", forward=True)
    assert (address, parameters) == (Address("PostMaster", ""), "NOTIFY=NEVER")
    assert parse_path("postmaster", forward=True) == (Address("postmaster", ""), "")
    with pytest.raises(AddressError, match="domain"):
        parse_path("<postmaster>", forward=False)


# Parameters


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("", {}),
        ("  ", {}),
        ("SIZE=123", {"SIZE": "123"}),
        ("size=123 Body=8bitMIME smtputf8", {"SIZE": "123", "BODY": "8bitMIME", "SMTPUTF8": None}),
        ("  SIZE=1   BODY=7BIT ", {"SIZE": "1", "BODY": "7BIT"}),
        ("AUTH=<>", {"AUTH": "<>"}),
        ("AUTH= SIZE=1", {"AUTH": "", "SIZE": "1"}),
        ("AUTH=e+3Dmc2@example.com", {"AUTH": "e+3Dmc2@example.com"}),
        ("AUTH=<SRS0=x=y=example.org=user@example.com>", {"AUTH": "<SRS0=x=y=example.org=user@example.com>"}),
        ("ORCPT=rfc822;a+2Bb@example.com NOTIFY=SUCCESS,DELAY", None),
        ("ORCPT=utf-8;jörg@example.com", {"ORCPT": "utf-8;jörg@example.com"}),
        ("X-1-y 2fa=!~", {"X-1-Y": None, "2FA": "!~"}),
    ],
)
def test_parameters_are_read(text: str, parameters: dict[str, str | None] | None) -> None:
    expected = {"ORCPT": "rfc822;a+2Bb@example.com", "NOTIFY": "SUCCESS,DELAY"} if parameters is None else parameters
    assert parse_parameters(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "=1",
        "=",
        "SIZE =1",
        "-X=1",
        "SI_ZE=1",
        "GRÖSSE=1",
        "SIZE=1\t",
        "SIZE=1\0",
        "<a@b>",
        "A=\x85",
        ",",
    ],
)
def test_bad_parameters_are_refused(text: str) -> None:
    with pytest.raises(AddressError, match=r"^[A-Z][ -~]+\.$"):
        parse_parameters(text)


@pytest.mark.parametrize("text", ["SIZE=1 SIZE=1", "SIZE=1 size=2", "SMTPUTF8 SMTPUTF8"])
def test_a_parameter_given_twice_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="twice"):
        parse_parameters(text)


# Laws

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)]
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters=CONTROLS)
LOCAL_PARTS = st.text(LETTERS, min_size=1, max_size=64) | st.from_regex(r"[a-z]+(\.[A-Z0-9+]+)?", fullmatch=True)
LABELS = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?", fullmatch=True)
DOMAINS = st.lists(LABELS, min_size=1, max_size=5).map(".".join)
LITERALS = st.ip_addresses(v=4).map("[{}]".format) | st.ip_addresses(v=6).map("[IPv6:{}]".format)
ADDRESSES = st.builds(Address, LOCAL_PARTS, DOMAINS | LITERALS)

# Any text, surrogates too; and text made of what the grammar is made of, which goes deeper.
PIECES = [*'<>@"\\.,:[]=+- ab1_%!ü例ß\u200d\0\n\x85\udc80', "[IPv6:", "xn--", "<@a:", '"@b', "a@b", "> X=1"]
ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.lists(st.sampled_from(PIECES)).map("".join)


def attempt(parse: Callable[[str], T], text: str) -> T | None:
    """Parse ``text``; return None when that is refused. Any exception but AddressError ends the test."""
    with suppress(AddressError):
        return parse(text)
    return None


@given(ADDRESSES)
def test_what_is_written_is_read_again_as_the_same_address(address: Address) -> None:
    assert Address.parse(str(address)) == address
    assert Address.parse(f"<{address}>") == address


@given(ADDRESSES, st.booleans())
def test_a_path_around_an_address_gives_that_address(address: Address, forward: bool) -> None:
    assert parse_path(f"<{address}> SIZE=1", forward=forward) == (address, "SIZE=1")


@given(LOCAL_PARTS, DOMAINS)
def test_quoting_what_needs_no_quotes_changes_nothing(local: str, domain: str) -> None:
    escaped = "".join(f"\\{letter}" if letter.isascii() else letter for letter in local)
    quoted, _ = parse_path(f'<"{escaped}"@{domain}>', forward=True)
    assert (quoted.local, quoted.domain) == (local, domain)


@given(ANY_TEXT)
@example("a@" + "\u0130.example")
@example("<@" + "a,@" * 5000 + ":b@c>")
@example('"' + "\\a" * 5000)
@example("a@" + "-" * 50000)
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    address = attempt(Address.parse, text)
    if address is not None:
        assert Address.parse(f"<{address}>") == address
        assert address.domain == address.domain.lower().replace("[ipv6:", "[IPv6:")
        assert address.domain.isascii()


@given(ANY_TEXT, st.booleans())
def test_any_argument_is_a_path_or_an_address_error(text: str, forward: bool) -> None:
    for argument in (text, f"<{text}>", f"<a@b>{text}"):
        path = attempt(partial(parse_path, forward=forward), argument)
        if path is not None:
            address, parameters = path
            assert not (forward and address.is_null)
            assert forward or address.is_null or address.domain
            assert parameters == parameters.strip(" ")
            assert parse_path(f"<{address}> {parameters}", forward=forward) == (address, parameters)
            assert str(parse_path(f"<{address}>", forward=forward)[0]) == str(address)  # it leaves as it came


@given(ANY_TEXT)
def test_any_text_is_parameters_or_an_address_error(text: str) -> None:
    parameters = attempt(parse_parameters, text)
    if parameters is not None:
        again = " ".join(key if value is None else f"{key}={value}" for key, value in parameters.items())
        assert parse_parameters(again) == parameters
