"""{{ cookiecutter.name }} refuses the right messages and accepts the others. It is driven by gatepost.testing."""

import pytest
from gatepost.testing import Policy, conformance, instance

from {{ cookiecutter.__module }} import {{ cookiecutter.__class }}, {{ cookiecutter.__class }}Options


def with_attachment(field: str) -> bytes:
    """Return a message with a text and one attachment that has this header field."""
    head = 'Subject: hello\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="="\n'
    text = f"{head}\n--=\n\nHello.\n--=\n{field}\n\nMZ\n--=--\n"
    return text.replace("\n", "\r\n").encode()


@pytest.mark.parametrize(
    "field",
    [
        'Content-Disposition: attachment; filename="invoice.pdf.exe"',
        'Content-Disposition: attachment; filename="INVOICE.EXE. "',
        "Content-Disposition: attachment; filename*=utf-8''invoice%2Eexe",
        'Content-Disposition: attachment; filename="=?utf-8?B?aW52b2ljZS5leGU=?="',
        'Content-Type: application/octet-stream; name="invoice.exe"',
    ],
)
async def test_a_program_is_refused(policy: type[Policy], field: str) -> None:
    client = await policy({{ cookiecutter.__class }}).connect()
    reply = await client.transaction(content=with_attachment(field))
    assert (reply.code, reply.status) == (550, "5.7.1")
    assert reply.text == "attachments that end in .exe are not accepted here"


@pytest.mark.parametrize(
    "content",
    [
        with_attachment('Content-Disposition: attachment; filename="exe.pdf"'),
        with_attachment('Content-Disposition: attachment; filename="exe"'),
        b"Subject: hello\r\n\r\nWhat is an .exe?\r\n",
        b"",
    ],
)
async def test_other_messages_are_accepted(policy: type[Policy], content: bytes) -> None:
    client = await policy({{ cookiecutter.__class }}).connect()
    assert (await client.transaction(content=content)).code == 250


async def test_the_endings_can_be_changed(policy: type[Policy]) -> None:
    client = await policy(instance({{ cookiecutter.__class }}, endings=["pdf"])).connect()
    attached = 'Content-Disposition: attachment; filename="invoice.{}"'
    assert (await client.transaction(content=with_attachment(attached.format("pdf")))).code == 550
    assert (await client.transaction(content=with_attachment(attached.format("exe")))).code == 250


async def test_a_message_that_is_made_to_break_the_parser_is_refused(policy: type[Policy]) -> None:
    client = await policy({{ cookiecutter.__class }}).connect()
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(1000))
    reply = await client.transaction(content=nested)
    assert (reply.code, reply.status) == (550, "5.6.0")


def test_an_invalid_list_of_endings_is_refused() -> None:
    with pytest.raises(ValueError, match="endings"):
        {{ cookiecutter.__class }}Options.model_validate({"endings": "exe"})


test_conformance = conformance.suite({{ cookiecutter.__class }})
