"""Rulings, and what was said in them."""

from __future__ import annotations

import orjson
import pytest

from gatepost import Address, accept, deny
from gatepost.rulings import Ruling, Said, expanded


def test_two_rulings_that_say_the_same_are_two() -> None:
    assert Ruling("data") != Ruling("data")


def test_what_was_said_shows_who_said_it() -> None:
    assert repr(Said("x", deny("no"))) == "Said('x', 'deny no')"


def test_a_repeated_refusal_says_which_one_it_repeats_and_what_was_said_there() -> None:
    first = Ruling("helo", [("dnsbl", 0.5)])
    first.decide(deny("listed", code=554), "dnsbl")
    second = first.repeat(deny("listed"), Address("b", "example.org"))
    assert (first.repeats, second.repeats) == (None, first)
    assert (second.phase, second.plugin, second.said[0].plugin) == ("helo", "dnsbl", "dnsbl")
    assert (first.refusal.code, second.refusal.code) == (554, None)
    second.trace.append(("more", 0.1))
    assert len(first.trace) == 1


def test_a_ruling_that_refuses_nothing_has_no_refusal() -> None:
    ruling = Ruling("mail")
    with pytest.raises(ValueError, match="refuses nothing"):
        ruling.refusal  # noqa: B018
    ruling.decide(accept(), "access")
    with pytest.raises(ValueError, match="refuses nothing"):
        ruling.refusal  # noqa: B018


def made(*trace: Said | tuple[str, float], by: str = "", **changed: object) -> Ruling:
    """A ruling with this trace, decided by the answer of ``by``."""
    ruling = Ruling("rcpt", trace)
    ruling.seconds = 0.25
    for said in ruling.said:
        if said.plugin == by and said.answer is not None:
            ruling.decide(said.answer, by)
    for name, value in changed.items():
        setattr(ruling, name, value)
    return ruling


BOB = Address("b", "example.org")


@pytest.mark.parametrize(
    "ruling",
    [
        made(),
        made(("access", 0.001), ("dnsbl", 0.25)),
        made(("access", 0.001), Said("dnsbl", deny("listed"), 0.25), by="dnsbl", recipient=BOB),
        made(Said("dnsbl", deny("listed")), by="dnsbl", unasked=("greylist", "spf"), spoken_at="rcpt"),
        made(Said("dnsbl", deny("listed"), did=("trusts x",)), Said("spf", deny("no")), by="dnsbl"),
        made(Said("a", accept("ours")), Said("b", accept()), by="b", vouched=True),
        made(Said("a", accept("ours")), Said("b", deny("x")), by="a", unasked=("c",)),
        made(Said("a", deny("x"), observed=True, withheld=("trusts x",)), Said("b", accept()), by="b"),
        made(Said("a", error="too slow"), Said("b", skipped="trusted"), ("c", 0.000001), vouched=True),
        made(Said("a", answers=((str(BOB), deny("full")),)), decision=deny("full"), plugin="a"),
    ],
    ids=lambda ruling: "-".join(said.plugin for said in ruling.said) or "nobody",
)
def test_a_compact_ruling_expands_to_the_same_facts(ruling: Ruling) -> None:
    observed: list[str] = []
    facts = expanded(orjson.loads(orjson.dumps(ruling.compact(observed))))
    assert facts == ruling.facts()
    assert observed == [said.plugin for said in ruling.said if said.observed]


def test_a_compact_ruling_without_an_opinion_is_short() -> None:
    assert orjson.dumps(made(("access", 0.00001), ("dnsbl", 0.25)).compact([])) == (
        b'["rcpt",250000,["access",10,"dnsbl",250000]]'
    )
