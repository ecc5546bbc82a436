"""Rulings, and what was said in them."""

from __future__ import annotations

import pytest

from gatepost import Address, accept, deny
from gatepost.rulings import Ruling, Said


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
