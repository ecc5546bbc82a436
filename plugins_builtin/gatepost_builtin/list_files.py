"""List files in options, which must be right when the configuration is loaded.

Later a file may change for the worse: ``WatchedFile`` then keeps its last good content. At the start there is none.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import AfterValidator

from gatepost import ListFileError, WatchedFile


def must_parse(parse: Callable[[str], object], *, vouches: bool = False) -> AfterValidator:
    """Return a validator that refuses a file for which ``parse`` raises ``ValueError`` or ``ListFileError``.

    ``vouches``: mail is refused for want of an entry (see ``WatchedFile.parsed``).
    """

    def check(file: WatchedFile) -> WatchedFile:
        try:
            file.parsed(parse, vouches=vouches)
        except ValueError as error:
            raise ListFileError.of(file.path, error) from None
        return file

    return AfterValidator(check)
