"""Each phase has an example in the manual, which does what its first line says."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from gatepost.hookspecs import PHASES
from gatepost.plugins.contract import hooks_of
from gatepost.testing import MESSAGE, Client, Policy, conformance
from tests.docs.manual import ROOT, reference, section

EXAMPLES = ROOT / "docs/authors/examples/phases"
Example = Callable[..., Policy]


def written(phase: str, more: str = "") -> str:
    """Return a configuration with the example of a phase."""
    return f'[plugins]\norder = ["example"]\n[plugins.example]\nuse = "{phase}.py"\n{more}'


@pytest.fixture
def example(policy: Callable[..., Policy]) -> Example:
    """Return a function that makes a policy with the example of a phase."""

    def made(phase: str, more: str = "", **settings: Any) -> Policy:
        return policy(written(phase, more), folder=EXAMPLES, **settings)

    return made


async def greeted(gate: Policy, address: str = "192.0.2.1") -> Client:
    """Return a client that has said EHLO."""
    client = await gate.connect(address)
    await client.ehlo()
    return client


# Completeness


@pytest.mark.parametrize("phase", PHASES)
async def test_a_phase_has_an_example_that_takes_part_in_it_and_passes_the_conformance_kit(
    example: Example, phase: str
) -> None:
    made = example(phase).plugin("example")
    plugin = made if inspect.ismodule(made) else type(made)
    assert phase in {name for name, _ in hooks_of(plugin)}
    report = await conformance.check(plugin)
    assert report.passed, report


@pytest.mark.parametrize("phase", PHASES)
def test_the_example_of_a_phase_is_in_the_manual(phase: str) -> None:
    assert (EXAMPLES / f"{phase}.py").read_text().strip() in section(reference()["phases.md"], phase)


@pytest.mark.parametrize("phase", PHASES)
def test_the_example_of_a_phase_is_tested(phase: str) -> None:
    assert any(name.startswith(f"test_{phase}_") for name in globals())


def test_there_is_no_example_of_another_phase() -> None:
    assert {file.stem for file in EXAMPLES.glob("*.py")} == set(PHASES)


# Each example


async def test_startup_counts_clients_every_hour(example: Example) -> None:
    gate = example("startup")
    await gate.connect()
    await gate.connect()
    await gate.clock.advance("2h")
    assert gate.log.named("clients") == [{"count": 2}, {"count": 0}]


async def test_connect_refuses_a_client_that_talks_early(example: Example) -> None:
    gate = example("connect")
    early = await gate.connect(talks_early=True)
    assert (early.banner.code, early.banner.text) == (554, "wait until you are greeted")
    patient = await gate.connect()
    assert (patient.banner.code, patient.waited) == (220, 2.0)


async def test_greeting_says_that_advertisements_are_not_wanted(example: Example) -> None:
    client = await example("greeting").connect()
    assert client.banner.text == "mx.example.org ESMTP - no advertisements"


async def test_helo_refuses_our_own_name(example: Example) -> None:
    client = await example("helo").connect()
    await client.ehlo("MX.example.org")
    assert (await client.transaction()).text == "MX.example.org is my name, not yours"
    await client.ehlo("client.example.com")
    assert (await client.transaction()).code == 250


async def test_capabilities_leaves_out_smtputf8(example: Example) -> None:
    client = await example("capabilities").connect()
    assert "SMTPUTF8" not in (await client.ehlo()).text
    assert "8BITMIME" in (await client.ehlo()).text


async def test_starttls_is_refused_to_some_networks(example: Example) -> None:
    gate = example("starttls", 'networks = ["192.0.2.0/24"]')
    for address, refused in (("192.0.2.1", True), ("198.51.100.1", False)):
        session = (await gate.connect(address)).session
        assert (await gate.gate.ask("starttls", (session,), session)).refuses is refused


async def test_auth_is_refused_from_outside(example: Example) -> None:
    gate = example("auth")
    for address, refused in (("8.8.8.8", True), ("10.0.0.1", False)):
        session = (await gate.connect(address)).session
        assert (await gate.gate.ask("auth", (session, "PLAIN", None), session)).refuses is refused


async def test_mail_refuses_our_domain_from_outside(example: Example) -> None:
    gate = example("mail")
    assert (await (await gate.connect()).transaction("a@example.org")).text == "example.org sends from inside"
    assert (await (await gate.connect()).transaction("a@example.com")).code == 250


async def test_rcpt_vouches_for_disposable_addresses(example: Example) -> None:
    client = await greeted(example("rcpt"))
    await client.mail()
    recipients = ("shop-2026@example.org", "shop@example.org", "shop-2026@example.com")
    assert [(await client.rcpt(recipient)).code for recipient in recipients] == [250, 450, 450]


async def test_data_refuses_a_bounce_with_two_recipients(example: Example) -> None:
    client = await greeted(example("data"))
    assert (await client.transaction("")).code == 250
    await client.mail("")
    for recipient in ("b@example.org", "c@example.org"):
        await client.rcpt(recipient)
    reply = await client.say("DATA")
    assert (reply.code, reply.text) == (554, "a bounce has one recipient")


@pytest.mark.parametrize("missing", ["From", "Date"])
async def test_headers_must_be_complete(example: Example, missing: str) -> None:
    client = await greeted(example("headers"))
    whole = b"From: a@example.com\r\nDate: Sun, 1 Mar 2026 10:00:00 +0000\r\nSubject: x\r\n\r\nHello.\r\n"
    assert (await client.transaction(content=whole)).code == 250
    reply = await client.transaction(content=whole.replace(missing.encode(), b"X"))
    assert (reply.code, reply.status, reply.text) == (550, "5.6.0", f"there is no {missing} in the header")


async def test_message_refuses_the_test_message(example: Example) -> None:
    gtube = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"
    client = await greeted(example("message"))
    assert (await client.transaction()).code == 250
    assert (await client.transaction(content=MESSAGE + gtube)).text == "this is the test message"


async def test_queue_takes_mail_to_traps(example: Example) -> None:
    client = await greeted(example("queue"))
    assert (await client.transaction(recipient="trap-1@example.org")).text.endswith(": thank you")
    assert (await client.transaction(recipient="b@example.org")).code == 451


async def test_queued_logs_sizes(example: Example) -> None:
    gate = example("queued")
    client = await greeted(gate)
    await client.transaction(content=b"\r\n" + b"x" * 10 + b"\r\n")
    (facts,) = gate.log.named("taken")
    assert facts["octets"] == 14


async def test_vrfy_tells_nothing(example: Example) -> None:
    reply = await (await greeted(example("vrfy"))).say("VRFY b")
    assert (reply.code, reply.text) == (502, "send it, and you will see")


async def test_help_says_where_to_read(example: Example) -> None:
    reply = await (await greeted(example("help"))).say("HELP")
    assert (reply.code, reply.text) == (214, "see https://www.example.org/mail")


async def test_noop_closes_after_ten(example: Example) -> None:
    client = await greeted(example("noop"))
    assert [(await client.say("NOOP")).code for _ in range(11)] == [250] * 10 + [421]
    assert client.closed


async def test_unknown_command_answers_xping(example: Example) -> None:
    client = await greeted(example("unknown_command"))
    assert ((await client.say("xping")).text, (await client.say("xpong")).code) == ("pong", 500)


async def test_reset_closes_after_ten_given_up_transactions(example: Example) -> None:
    client = await greeted(example("reset"))
    await client.transaction()
    for _ in range(10):
        assert (await client.mail()).code == 250
        await client.say("RSET")
    assert (await client.mail()).code == 421


async def test_quit_is_remembered(example: Example) -> None:
    gate = example("quit")
    await (await greeted(gate)).quit()
    await (await greeted(gate, "192.0.2.2")).close()
    assert gate.store.contents("example") == {"192.0.2.1": 1}


async def test_disconnect_logs_the_seconds_of_a_session(example: Example) -> None:
    gate = example("disconnect")
    client = await greeted(gate)
    await gate.clock.advance("90s")
    await client.close()
    assert gate.log.named("left") == [{"client": "192.0.2.1", "seconds": 90.0}]


async def test_ruled_logs_refusals(example: Example) -> None:
    gate = example("ruled", bare=True)
    await (await greeted(gate)).transaction()
    (facts,) = gate.log.named("refused")
    assert (facts["by"], facts["at"]) == ("gatepost", "rcpt")


async def test_shutdown_logs_the_total(example: Example) -> None:
    gate = example("shutdown")
    await (await greeted(gate)).transaction()
    await gate.close()
    assert gate.log.named("total") == [{"messages": 1}]
