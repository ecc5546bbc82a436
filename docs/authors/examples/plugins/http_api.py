"""Ask an HTTP API about each recipient: 200 means that it is ours, 404 that there is nobody of that name."""

from typing import Annotated
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

from pydantic import Field

from gatepost import Address, Decision, Options, Secret, accept, deny, hookimpl

HTTP = build_opener(ProxyHandler({}))  # straight there, whatever proxies the environment names


class DirectoryOptions(Options):
    url: Annotated[str, Field(pattern="^https?://")]
    """Where the API is: the recipient follows it."""
    token: Secret
    """What the API knows us by."""


class Directory:
    Options = DirectoryOptions
    grants = "recipients"

    def __init__(self, options: DirectoryOptions) -> None:
        self.options = options

    @hookimpl(blocking=True)
    def rcpt(self, recipient: Address) -> Decision | None:
        request = Request(self.options.url + quote(str(recipient), safe=""))
        request.add_header("Authorization", f"Bearer {self.options.token.reveal()}")
        try:
            with HTTP.open(request, timeout=5):
                return accept()
        except HTTPError as error:
            error.close()
            if error.code == 404:
                return deny("there is nobody of that name", status="5.1.1")
            raise  # 500 or 401 is no word about the recipient: it counts as on_error says
