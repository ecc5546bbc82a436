"""The public suffix list: the names under which anybody can register a domain (https://publicsuffix.org).

It is read once for all plugins and configurations, because each time takes 30 ms and half a MiB.
"""

from __future__ import annotations

from functools import cache

from publicsuffixlist import PublicSuffixList


@cache
def public_suffixes() -> PublicSuffixList:
    """Return the list of the installed package."""
    return PublicSuffixList()
