"""{{ cookiecutter.__summary }}

**What it does.** It reads the names of a message's attachments. One that ends in one of `endings` refuses the message,
and so does a message that is too broken to be read.

**Why it works.** Nobody sends a program by mail but who wants it to be opened by mistake.

**What it costs.** The whole message is parsed, in a thread: about 10 ms for each MiB.

**When not to use it.** As the only shield: it looks into no archive, and a link needs no attachment.

**On the wire.** 550 5.7.1 after the message, or 550 5.6.0 for one that cannot be read.
"""

import email
import email.policy

from gatepost import Decision, Message, Options, deny, hookimpl

BROKEN = deny("the attachments of this message cannot be read", status="5.6.0")
GIVES_UP = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What Python's parser raises at messages that are made to break it."""


class {{ cookiecutter.__class }}Options(Options):
    """What may not come in."""

    endings: frozenset[str] = frozenset({"bat", "cmd", "com", "exe", "hta", "js", "lnk", "msi", "ps1", "scr", "vbs"})
    """Endings of the names of attachments that are refused, in lower case and without a dot."""


class {{ cookiecutter.__class }}:
    """Refuses attachments by the ends of their names."""

    Options = {{ cookiecutter.__class }}Options

    def __init__(self, options: {{ cookiecutter.__class }}Options) -> None:
        self.options = options

    @hookimpl(blocking=True)
    def message(self, message: Message) -> Decision | None:
        try:
            with message.open() as file:
                parts = email.message_from_binary_file(file, policy=email.policy.default).walk()
                names = [part.get_filename("") for part in parts]
        except GIVES_UP:
            return BROKEN
        endings = {name.lower().rstrip(". ").rpartition(".")[2] for name in names if "." in name}
        found = sorted(endings & self.options.endings)
        return deny(f"attachments that end in .{found[0]} are not taken here") if found else None
