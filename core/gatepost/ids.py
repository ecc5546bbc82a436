"""Short ids that sort by time: of a session, of a transaction, of a record.

They are ten characters of Crockford's base 32. This module knows nothing of what an id is given to.
"""

from __future__ import annotations

import random
import time
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]
_RANDOM_BITS: Final = 9
_EPOCH: Final = 1_577_836_800_000  # 2020-01-01 in milliseconds: 41 bits last until 2089
_last = 0
_SALT: Final = random.SystemRandom().getrandbits(_RANDOM_BITS)


def new_id() -> str:
    """Ten characters of base 32 (Crockford's alphabet) that sort by time and are unique in this process."""
    return id_of(new_number())


def new_number() -> int:
    """What ``id_of`` makes an id of: half as large, for those of which thousands wait."""
    global _last
    number = ((time.time_ns() // 1_000_000 - _EPOCH) << _RANDOM_BITS) | _SALT
    _last = number = number if number > _last else _last + 1
    return number


def id_of(number: int) -> str:
    """The id that ``number`` stands for."""
    return (
        _PAIRS[number >> 40]
        + _PAIRS[number >> 30 & 1023]
        + _PAIRS[number >> 20 & 1023]
        + _PAIRS[number >> 10 & 1023]
        + _PAIRS[number & 1023]
    )
