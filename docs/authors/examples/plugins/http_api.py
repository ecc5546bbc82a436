"""Ask an HTTP API about each recipient: 200 means that it is ours, 404 that it does not exist."""

from typing import Annotated
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

from pydantic import Field

from gatepost import Address, Decision, Options, Secret, accept, deny, hookimpl

HTTP = build_opener(ProxyHandler({}))  # connect directly, whatever proxies the environment names


class DirectoryOptions(Options):
    url: Annotated[str, Field(pattern="^https?://")]
    """URL of the API; the recipient is appended to it."""
    token: Secret
    """Token that identifies us to the API."""


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
            raise  # 500 or 401 says nothing about the recipient: on_error decides
