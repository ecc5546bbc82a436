"""Ids of sessions, transactions and records."""

from __future__ import annotations

from gatepost.ids import new_id


def test_ids_are_ten_characters_that_sort_by_time_and_never_repeat() -> None:
    ids = [new_id() for _ in range(2000)]
    assert ids == sorted(set(ids))
    assert {len(text) for text in ids} == {10}
    assert set("".join(ids)) <= set("0123456789abcdefghjkmnpqrstvwxyz")
