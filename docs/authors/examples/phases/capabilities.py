"""Do not offer SMTPUTF8, because the next hop does not support it. A module can be a plugin, too."""

from gatepost import hookimpl


@hookimpl
def capabilities(keywords: list[str]) -> None:
    if "SMTPUTF8" in keywords:
        keywords.remove("SMTPUTF8")
