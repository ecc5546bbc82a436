"""maildir: whatever a client writes before and behind the @, it names one folder where the path says, and its own."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from gatepost import Address, AddressError
from gatepost_builtin.delivery.maildir import LONGEST_PART, Maildir, MaildirOptions, safe_part
from tests.plugins_builtin.delivery.test_maildir import files_in, policy_of, send

ROOT = Path("/var/mail")
ANY_TEXT = st.text(st.characters(), max_size=300)
HARD_TEXT = st.text("./%\\~$ \0\n@-+:Aa\u212a\u0130ß\ud800", max_size=12)
TEXTS = st.one_of(ANY_TEXT, HARD_TEXT)


def folder_of(recipient: Address, path: str = "/var/mail/{domain}/{local}") -> Path:
    plugin: Any = Maildir(MaildirOptions.model_validate({"path": path}), None, None)  # type: ignore[arg-type]
    folder: Path = plugin._folder(recipient)
    return folder


def folded(text: str) -> str:
    """ASCII capitals as small letters, and nothing else."""
    return text.translate({ord(letter): letter.lower() for letter in string.ascii_uppercase})


# What a part of a path may be


@given(TEXTS)
@example("..")
@example(".")
@example("")
@example("../../etc/passwd")
@example(".ssh")
@example("a\0b")
@example("x" * 10_000)
@example("%2E")
def test_a_part_is_one_plain_visible_name(text: str) -> None:
    part = safe_part(text)
    assert 1 <= len(part.encode()) <= LONGEST_PART
    assert set(part) <= set(string.ascii_letters + string.digits + "+-.=_%")
    assert not part.startswith(".")


@given(TEXTS, TEXTS)
@example("a/b", "a%2Fb")
@example("a/b", "a%2fb")
@example("", "%")
@example(".x", "%2Ex")
@example("\u212a", "k")
@example("ß", "ss")
@example("\u0130", "i")
@example("x" * 300, "x" * 299 + "y")
@example("x" * 300, "x" * 301)
@example("x" * 300, safe_part("x" * 300))
def test_different_texts_are_different_parts(one: str, other: str) -> None:
    assert (safe_part(one) == safe_part(other)) == (folded(one) == folded(other))


@given(st.text(string.ascii_lowercase + string.digits + "+-=_", min_size=1, max_size=60))
def test_an_ordinary_name_stays_as_it_is(text: str) -> None:
    assert safe_part(text) == text
    assert safe_part(f"{text}.{text}") == f"{text}.{text}"


# Where a recipient's folder lies


@given(TEXTS, TEXTS)
def test_a_recipient_never_leaves_the_folder_that_the_path_names(local: str, domain: str) -> None:
    folder = folder_of(Address(local, domain))
    assert folder.parent.parent == ROOT
    assert ".." not in folder.parts


@given(TEXTS, TEXTS, TEXTS, TEXTS)
@pytest.mark.parametrize("path", ["/var/mail/{domain}/{local}", "/m/{local}@{domain}", "/m/x{local}/y{domain}/z"])
def test_different_recipients_have_different_folders(path: str, a: str, b: str, c: str, d: str) -> None:
    one, other = Address(a, b or "x"), Address(c, d or "x")
    same = (folded(one.local), folded(one.domain)) == (folded(other.local), folded(other.domain))
    assert (folder_of(one, path) == folder_of(other, path)) == same


@pytest.mark.parametrize(
    ("recipient", "folder"),
    [
        ("bob@example.org", "example.org/bob"),
        ("Bob.Smith+list@example.org", "example.org/bob.smith+list"),
        ('"../../etc/passwd"@example.org', "example.org/%2E.%2F..%2Fetc%2Fpasswd"),
        ('".."@example.org', "example.org/%2E."),
        ('".forward"@example.org', "example.org/%2Eforward"),
        ('"a b"@example.org', "example.org/a%20b"),
        ("~root@example.org", "example.org/%7Eroot"),
        ("$HOME@example.org", "example.org/%24home"),
        ("müller@example.org", "example.org/m%C3%BCller"),
        ("a%b@example.org", "example.org/a%25b"),
        ("bob@[192.0.2.1]", "%5B192.0.2.1%5D/bob"),
        ("bob@[IPv6:2001:db8::1]", "%5Bipv6%3A2001%3Adb8%3A%3A1%5D/bob"),
        ("postmaster", "localhost/postmaster"),
    ],
)
def test_recipients_lie_where_one_would_look(recipient: str, folder: str) -> None:
    assert folder_of(Address.parse(recipient)) == ROOT / folder


async def test_hostile_recipients_get_their_mail_inside_the_folder(tmp_path: Path) -> None:
    hostile = ['"../../escape"', '".."', '"."', '"/etc/passwd"', "a" * 256, '"a/../../b"', "new", "tmp", '"~"']
    policy = policy_of(tmp_path / "mail" / "{local}")
    assert (await send(policy, *(f"{local}@example.org" for local in hostile))).code == 250
    files = files_in(tmp_path)
    assert len(files) == len(hostile)
    assert {path.parents[2] for path in files} == {tmp_path / "mail"}


def test_what_cannot_be_an_address_never_comes_this_far() -> None:
    for local in ('"a\0b"', '"a\nb"', '"\ud800"', '""', "b" * 257):
        with pytest.raises(AddressError):
            Address.parse(f"{local}@example.org")


# The path option


@pytest.mark.parametrize(
    "path", ["/var/mail", "/var/mail/{local}", "/m/{domain}/{local}", "/m/{local}@{domain}/Maildir", "/m/.{local}"]
)
def test_a_clear_path_is_taken(path: str) -> None:
    assert MaildirOptions.model_validate({"path": path}).path == Path(path)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("mail/{local}", "expected an absolute path"),
        ("", "expected an absolute path"),
        ("/m/{user}", "only {local} and {domain}"),
        ("/m/{local", "only {local} and {domain}"),
        ("/m/{}", "only {local} and {domain}"),
        ("/m/{local!r}", "only {local} and {domain}"),
        ("/m/{{local}}", "only {local} and {domain}"),
        ("/m/{local}{domain}", "put / or @ between"),
        ("/m/{domain}-{local}", "put / or @ between"),
        (7, "path"),
    ],
)
def test_a_path_that_cannot_be_meant_is_a_mistake(path: Any, sentence: str) -> None:
    with pytest.raises(ValidationError) as raised:
        MaildirOptions.model_validate({"path": path})
    assert sentence in str(raised.value)


def test_the_path_is_required() -> None:
    with pytest.raises(ValidationError):
        MaildirOptions.model_validate({})
