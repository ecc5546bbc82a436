"""Short ids of sessions, transactions and records: ten characters of Crockford's base 32 that sort by time.

An id is a number of 50 bits: milliseconds since 2020 and 9 random bits, which are the same for all ids of a process. If
two ids fall into the same millisecond, the second is the first plus one.
"""

from __future__ import annotations

import random
import time
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
# An id is made of five pairs of characters, looked up here: half as many steps as with single characters.
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]
_RANDOM_BITS: Final = 9
_EPOCH: Final = 1_577_836_800_000  # 2020-01-01 in milliseconds: 41 bits last until 2089
_last = 0
_SALT: Final = random.SystemRandom().getrandbits(_RANDOM_BITS)


def new_id() -> str:
    """Return an id that sorts after all earlier ones and is unique in this process."""
    return id_of(new_number())


def new_number() -> int:
    """Return the number of a new id. It takes half the memory of the text, for objects that exist by the thousand."""
    global _last
    # The wall clock may stand still between two ids, or be set back. Ids rise all the same.
    number = ((time.time_ns() // 1_000_000 - _EPOCH) << _RANDOM_BITS) | _SALT
    _last = number = number if number > _last else _last + 1
    return number


def id_of(number: int) -> str:
    """Return the text of the id with this number."""
    return (
        _PAIRS[number >> 40]
        + _PAIRS[number >> 30 & 1023]
        + _PAIRS[number >> 20 & 1023]
        + _PAIRS[number >> 10 & 1023]
        + _PAIRS[number & 1023]
    )
