"""{{ cookiecutter.name }} slows down the right clients, and no others. It is driven by gatepost.testing."""

import pytest
from gatepost.testing import Policy, conformance, instance

from {{ cookiecutter.__module }} import {{ cookiecutter.__class }}, {{ cookiecutter.__class }}Options

TWO_AN_HOUR = instance({{ cookiecutter.__class }}, "{{ cookiecutter.name }}", limit=2, window="1h")


async def codes(gate: Policy, client: str, recipients: int) -> list[int]:
    """Return the reply codes that a client gets when it names this number of recipients."""
    session = await gate.connect(client)
    await session.ehlo()
    await session.mail()
    return [(await session.rcpt(f"b{number}@example.org")).code for number in range(recipients)]


async def test_a_client_with_too_many_recipients_is_told_to_come_back(policy: type[Policy]) -> None:
    gate = policy(TWO_AN_HOUR)
    assert await codes(gate, "192.0.2.1", 3) == [250, 250, 450]
    assert await codes(gate, "192.0.2.1", 1) == [450]


async def test_another_client_is_not_slowed_down(policy: type[Policy]) -> None:
    gate = policy(TWO_AN_HOUR)
    await codes(gate, "192.0.2.1", 3)
    assert await codes(gate, "192.0.2.2", 2) == [250, 250]


async def test_the_count_starts_again_after_the_window(policy: type[Policy]) -> None:
    gate = policy(TWO_AN_HOUR)
    await codes(gate, "192.0.2.1", 3)
    await gate.clock.advance("1h")
    assert await codes(gate, "192.0.2.1", 2) == [250, 250]


async def test_no_client_is_slowed_down_while_the_store_fails(policy: type[Policy]) -> None:
    gate = policy(TWO_AN_HOUR)
    gate.store.broken.add("{{ cookiecutter.name }}")
    assert await codes(gate, "192.0.2.1", 3) == [250, 250, 250]


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": "many"}, {"window": "0s"}, {"window": "soon"}])
def test_an_invalid_limit_or_window_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="limit|window"):
        {{ cookiecutter.__class }}Options.model_validate(wrong)


test_conformance = conformance.suite({{ cookiecutter.__class }})
