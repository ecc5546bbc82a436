"""Rulings, and what was said in them."""

from __future__ import annotations

from gatepost import deny
from gatepost.rulings import Ruling, Said


def test_two_rulings_that_say_the_same_are_two() -> None:
    assert Ruling("data") != Ruling("data")


def test_what_was_said_shows_who_said_it() -> None:
    assert repr(Said("x", deny("no"))) == "Said('x', 'deny no')"
