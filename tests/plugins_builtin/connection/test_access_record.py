"""access: the record says which entry matched, its reason, and its file and line; the log tells trust from no entry."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.cli.running import Folder, run
from tests.plugins_builtin.connection.access_lists import Entry, policy_of, spam_check

CONFIG = """
hostname = "mx.example.org"

[plugins]
order = ["access", "recipients", "discard"]

[plugins.recipients]
domains = ["example.org"]

[plugins.access]
files = ["partners.toml"]
allow = [
    { network = "192.0.2.0/24", reason = "our branch office" },
    { recipient = "abuse@example.org" },
]

[[plugins.access.deny]]
sender = "news@shop.example"
reason = "we unsubscribed"
"""
PARTNERS = """# our partners

[[allow]]
network = "198.51.100.7"
sender = "example.com"
reason = "a partner"

[[deny]]
helo = "ylmf-pc"
"""


def tried(folder: Folder, *arguments: str) -> str:
    """Return the answers of access in a rehearsal of one message, as ``gatepost try`` prints them."""
    path = folder.write(CONFIG)
    Path(folder.path, "partners.toml").write_text(PARTNERS)
    result = run("try", "--config", path, *arguments)
    return "\n".join(line for line in result.stdout.splitlines() if "access" in line)


async def said(
    allow: list[Entry] | None = None, denied: list[Entry] | None = None, files: tuple[Path, ...] = ()
) -> list[str]:
    """Return the acts and answers of access in the records of one transaction."""
    policy = policy_of(spam_check("rcpt"), allow=allow, denied=denied, files=files)
    client = await policy.connect("192.0.2.1")
    if client.banner.code == 220:
        await client.ehlo("client.example.com")
        await client.transaction("a@example.com", "b@example.org")
    rulings = policy.records[-1].rulings
    return [
        str(said)
        for ruling in rulings
        for said in ruling.said
        if said.plugin == "access" and (said.did or said.answer is not None)
    ]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"network": "192.0.2.0/24", "reason": "our branch"}, "network 192.0.2.0/24: our branch; trusts the client"),
        ({"sender": "example.com"}, "sender example.com; trusts the sender: sender example.com"),
        ({"recipient": "b@example.org", "reason": "abuse"}, "recipient b@example.org: abuse; trusts this recipient"),
    ],
)
async def test_the_record_tells_an_entry_of_trust_with_its_keys_and_its_reason(entry: Entry, told: str) -> None:
    (act,) = await said(allow=[entry])
    assert act.startswith(f"no opinion; allow entry {told}")


async def test_the_record_tells_the_entry_that_refused_and_the_client_hears_its_reason_only(tmp_path: Path) -> None:
    file = tmp_path / "lists.toml"
    file.write_text('[[deny]]\nsender = "example.com"\nreason = "we unsubscribed"\n')
    assert await said(files=(file,)) == [
        f"deny 550 5.7.1 we unsubscribed; deny entry sender example.com ({file}, line 1): we unsubscribed"
    ]
    policy = policy_of(files=(file,))
    client = await policy.connect()
    reply = await client.transaction("a@example.com")
    assert str(tmp_path) not in reply.text and reply.text.startswith("we unsubscribed")


async def test_no_entry_leaves_no_word() -> None:
    assert await said(allow=[{"network": "198.51.100.0/24"}], denied=[{"helo": "ylmf-pc"}]) == []


async def test_a_changed_file_has_its_new_lines_in_the_record(tmp_path: Path) -> None:
    file = tmp_path / "lists.toml"
    entry = '[[allow]]\nnetwork = "192.0.2.0/24"\n'
    file.write_text(f'[[deny]]\nhelo = "ylmf-pc"\n\n{entry}')
    (act,) = await said(files=(file,))
    assert f"allow entry network 192.0.2.0/24 ({file}, line 4)" in act


@pytest.mark.parametrize(
    ("entry", "trusted"),
    [
        ({"network": "192.0.2.0/24", "reason": "our branch"}, "our branch"),
        ({"sender": "example.com", "reason": "a partner"}, "a partner"),
        ({"recipient": "b@example.org", "reason": "abuse desk"}, "abuse desk"),
        ({"recipient": "b@example.org"}, "recipient b@example.org"),
        ({"recipient": "other@example.org"}, ""),
    ],
)
async def test_the_log_tells_trust_in_a_client_a_sender_and_a_recipient_from_no_entry(
    entry: Entry, trusted: str
) -> None:
    policy = policy_of(allow=[entry])
    client = await policy.connect("192.0.2.1")
    assert (await client.transaction("a@example.com", "b@example.org")).code == 250
    assert [record.trusted for record in policy.records if record.event == "accepted"] == [trusted]


def test_an_entry_in_the_configuration_and_in_a_file_has_file_and_line(tmp_path: Path) -> None:
    folder, place = Folder(tmp_path), tmp_path
    assert f"allow entry network 192.0.2.0/24 ({place}/gatepost.toml, line 13): our branch office" in tried(
        folder, "--ip", "192.0.2.7"
    )
    assert f"deny entry sender news@shop.example ({place}/gatepost.toml, line 17): we unsubscribed" in tried(
        folder, "--from", "news@shop.example"
    )
    keys = "network 198.51.100.7/32, sender example.com"
    assert f"allow entry {keys} ({place}/partners.toml, line 3): a partner" in tried(
        folder, "--ip", "198.51.100.7", "--from", "a@example.com"
    )
