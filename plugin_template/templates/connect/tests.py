"""{{ cookiecutter.name }} refuses the right clients and lets in the others. It is driven by gatepost.testing."""

import pytest
from gatepost.testing import Policy, conformance, instance

from {{ cookiecutter.__module }} import {{ cookiecutter.__class }}, {{ cookiecutter.__class }}Options

CLIENT = "192.0.2.1"
REVERSE = "1.2.0.192.in-addr.arpa"


async def test_a_client_without_a_name_is_refused(policy: type[Policy]) -> None:
    gate = policy({{ cookiecutter.__class }})
    gate.dns.nxdomain(REVERSE)
    client = await gate.connect(CLIENT)
    assert (client.banner.code, client.banner.status) == (554, "5.7.25")
    assert client.closed


async def test_a_name_that_does_not_resolve_back_does_not_count(policy: type[Policy]) -> None:
    gate = policy({{ cookiecutter.__class }})
    gate.dns.answer(REVERSE, "PTR", "mail.example.com")
    gate.dns.answer("mail.example.com", "A", "198.51.100.1")
    assert (await gate.connect(CLIENT)).banner.code == 554


async def test_a_client_with_a_name_is_let_in(policy: type[Policy]) -> None:
    gate = policy({{ cookiecutter.__class }})
    gate.dns.name(CLIENT, "mail.example.com")
    client = await gate.connect(CLIENT)
    assert (await client.transaction()).code == 250


async def test_a_client_of_a_spared_network_is_not_looked_up(policy: type[Policy]) -> None:
    gate = policy(instance({{ cookiecutter.__class }}, spare=["192.0.2.0/24"]))
    assert (await gate.connect(CLIENT)).banner.code == 220
    assert gate.dns.asked == []


async def test_a_client_is_let_in_while_dns_fails(policy: type[Policy]) -> None:
    gate = policy({{ cookiecutter.__class }})
    gate.dns.servfail(REVERSE)
    assert (await gate.connect(CLIENT)).banner.code == 220


def test_an_invalid_network_is_refused() -> None:
    with pytest.raises(ValueError, match="spare"):
        {{ cookiecutter.__class }}Options.model_validate({"spare": ["mail.example.com"]})


test_conformance = conformance.suite({{ cookiecutter.__class }})
