"""{{ cookiecutter.name }} refuses the right senders and lets the others through. It is driven by gatepost.testing."""

import pytest
from gatepost.testing import Policy, conformance, instance

from {{ cookiecutter.__module }} import {{ cookiecutter.__class }}, {{ cookiecutter.__class }}Options

LISTED = instance({{ cookiecutter.__class }}, domains=["Bad.example"])


@pytest.mark.parametrize("sender", ["a@bad.example", "a@mail.BAD.example"])
async def test_a_sender_of_a_listed_domain_is_refused(policy: type[Policy], sender: str) -> None:
    client = await policy(LISTED).connect()
    reply = await client.transaction(sender)
    assert (reply.code, reply.status) == (550, "5.7.1")
    assert reply.text == f"mail from {sender.lower()[2:]} is not welcome here"


@pytest.mark.parametrize("sender", ["a@example.com", "a@notbad.example", ""])
async def test_all_others_are_let_through(policy: type[Policy], sender: str) -> None:
    gate = policy(LISTED)
    client = await gate.connect()
    assert (await client.transaction(sender)).code == 250
    assert gate.next_hop.messages[0].sender == sender


@pytest.mark.parametrize("domains", ["bad.example", [], ["a@bad.example"]])
def test_an_invalid_list_of_domains_is_refused(domains: object) -> None:
    with pytest.raises(ValueError, match="domains"):
        {{ cookiecutter.__class }}Options.model_validate({"domains": domains})


test_conformance = conformance.suite({{ cookiecutter.__class }}, options={"domains": ["bad.example"]})
