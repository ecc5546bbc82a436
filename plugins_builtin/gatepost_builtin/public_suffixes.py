"""The public suffix list: under which names anybody can register one (https://publicsuffix.org).

It is read once for all plugins, and not again when the configuration is: that takes 30 ms, and half a MiB each time.
"""

from __future__ import annotations

from functools import cache

from publicsuffixlist import PublicSuffixList


@cache
def public_suffixes() -> PublicSuffixList:
    """Return the list that is installed."""
    return PublicSuffixList()
