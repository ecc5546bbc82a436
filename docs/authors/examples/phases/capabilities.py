"""Do not offer SMTPUTF8, when the mail server behind us has not got it. A module can be a plugin, too."""

from gatepost import hookimpl


@hookimpl
def capabilities(keywords: list[str]) -> None:
    if "SMTPUTF8" in keywords:
        keywords.remove("SMTPUTF8")
