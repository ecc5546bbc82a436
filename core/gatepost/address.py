"""Mailboxes and paths of MAIL and RCPT, and the parameters that follow them.

The grammar is RFC 5321 §4.1.2 and §4.1.3, with UTF-8 as RFC 6531 §3.3 adds it. Each regular expression follows its
rule. ``parse_path`` has one expression for the addresses that nearly all clients send, and parses all others step by
step. Both give the same result.

What breaks the grammar and has one meaning all the same is taken, because Postfix and Exim take it and such mail is
wanted: dots at the edge of a local part or in a row, a dot behind the domain, and a path without angle brackets or with
spaces inside them. A local part leaves as it came; all else leaves in its normal form.

This module does not know whether SMTPUTF8 was requested, which parameters exist, or who may receive mail. Here a local
part such as ``victim%evil`` or ``evil!victim`` is a name like any other; plugins decide which recipients are ours.

The message of an ``AddressError`` contains nothing that the client sent, so it is safe in a reply and in a log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from unicodedata import normalize

import idna

from gatepost.errors import AddressError

# Every repetition below is possessive ("++", "*+"): a character that was matched is not given back. So no text that a
# client makes up can have an expression try one combination after another, while all other clients wait.

# RFC 5321 §4.5.3.1.1 has 64 octets, and §4.5.3.1 recommends avoiding limits. Return paths made by VERP and SRS are
# longer than 64; aiosmtpd dropped the limit for them (its issue 257), mox accepts 128, Mailgun's flanker 256.
LOCAL_PART_LIMIT = 256

# RFC 5321 §4.5.3.1.2. A path needs no limit of its own (§4.5.3.1.3 says 256 octets): these two and the length of a
# command line bound it.
DOMAIN_LIMIT = 255

# RFC 6531 §3.3 and RFC 6532 §3.1: UTF8-non-ascii. _FORBIDDEN excludes the characters that no line of text may contain.
_NON_ASCII = r"\x80-\U0010ffff"

# RFC 5321 §4.1.2 excludes C0 and DEL from every rule, and RFC 5198 §2 excludes C1 from text on the network. U+2028 and
# U+2029 begin a new line in programs that show the text later. Surrogates have no UTF-8 form.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# RFC 5322 §3.2.3: atext, which RFC 5321 uses
_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"

# Dot-string = Atom *("." Atom);  RFC 6531: atext =/ UTF8-non-ascii
_DOT_STRING = re.compile(rf"[{_ATEXT}{_NON_ASCII}]++(?:\.[{_ATEXT}{_NON_ASCII}]++)*+")

# What is taken without quotes: also "a..b", "a." and ".a", which are the real names of mailboxes at large providers.
_UNQUOTED = re.compile(rf"[{_ATEXT}{_NON_ASCII}.]++")

# Quoted-string   = DQUOTE *QcontentSMTP DQUOTE
# quoted-pairSMTP = %d92 %d32-126
# qtextSMTP       = %d32-33 / %d35-91 / %d93-126;  RFC 6531: qtextSMTP =/ UTF8-non-ascii
# The rule allows "" as a local part. Erratum 3135 rejects it for the same rule of RFC 5322, and so do we.
_QUOTED_STRING = re.compile(rf'"((?:[ !#-\[\]-~{_NON_ASCII}]|\\[ -~])++)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
_MUST_BE_ESCAPED = re.compile(r'(["\\])')

# sub-domain = Let-dig [Ldh-str];  at most 63 octets (RFC 1035 §2.3.4)
# Host names have no underscores, but the domains of some senders do, and Postfix accepts them.
_SUB_DOMAIN = r"(?!-)[A-Za-z0-9_\-]{1,63}+(?<!-)"

# Domain = sub-domain *("." sub-domain)
_DOMAIN = re.compile(rf"{_SUB_DOMAIN}(?:\.{_SUB_DOMAIN})*+")

# address-literal = "[" ( IPv4-address-literal / IPv6-address-literal / General-address-literal ) "]"   (§4.1.3)
# IPv6 is the only tag ever registered. The RFC's rule for IPv6-comp is wrong (erratum 4315), so ``ipaddress`` checks
# the address inside.
_ADDRESS_LITERAL = re.compile(r"\[(IPv6:)?([0-9A-F:.]++)\]", re.IGNORECASE)

# A-d-l = At-domain *( "," At-domain );  Path = "<" [ A-d-l ":" ] Mailbox ">"
_SOURCE_ROUTE = re.compile(r'@([^@:,<>"]++(?:,@[^@:,<>"]++)*+):')

# esmtp-param = esmtp-keyword ["=" esmtp-value];  esmtp-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
# esmtp-value = 1*(%d33-60 / %d62-126);  RFC 6531: esmtp-value =/ UTF8-non-ascii
# A value may be empty here, since some clients send "AUTH=" for "AUTH=<>"; who reads a parameter judges its value.
# The rule does not allow "=" (%d61) in a value. We do: the first "=" ends the keyword anyway, and a client that does
# not encode a return path such as SRS0=x=y=z@example.com in AUTH= or ORCPT= would lose its mail.
_ESMTP_PARAM = re.compile(rf"([A-Za-z0-9][A-Za-z0-9\-]*+)(?:=([!-~{_NON_ASCII}]*+))?+")

# Nearly all clients send a local part without quotes, "@", a domain in ASCII, and parameters. Spaces before "<" are
# forbidden (§3.3), but some clients send them, and qpsmtpd and Postfix accept them.
_ORDINARY_PATH = re.compile(rf" *+<([{_ATEXT}.]++)@({_DOMAIN.pattern})>(?: ([ -~]*+))?+")


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox, the bare ``postmaster``, or the null reverse-path (RFC 5321 §4.1.2, §4.1.1.3, §4.5.5).

    ``local`` is the local part, unquoted and unescaped, in its original case; "" for the null path only. ``domain`` is
    in lower case, with A-labels, or an address literal such as ``[192.0.2.1]`` or ``[IPv6:2001:db8::1]``; "" for the
    null path and the bare postmaster. ``u_label`` is True when the domain was written with a U-label; comparisons
    ignore it. Local parts are compared with case (§2.4: only their own server may ignore it), domains without.

    ``str()`` returns the mailbox as in a command, without angle brackets. Its local part is quoted if that is
    necessary, unless it came without quotes, such as ``a..b``: then it is written so again.
    ``Address.parse(f"<{address}>")`` returns the same address. The constructor checks nothing: use ``parse`` for text
    from elsewhere.
    """

    local: str
    domain: str
    u_label: bool = field(default=False, compare=False, repr=False)
    text: str = field(default="", compare=False, repr=False)
    """The result of ``str()`` if it was known when this was made, otherwise ""."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read a mailbox such as ``user@example.com`` or ``postmaster``, in angle brackets or bare; ``<>`` is ``NULL``.

        Raises ``AddressError`` with a sentence that tells what is wrong. Source routes are not allowed here.
        """
        _refuse_control_characters(text)
        if text == "<>":
            return NULL
        path = text if text.startswith("<") else f"<{text}>"
        address, end = _read_mailbox(path, 1)
        if end != len(path):
            raise AddressError("Something follows the address.")
        return address

    @property
    def is_null(self) -> bool:
        """True for the null reverse-path ``<>`` of bounces and other notifications (RFC 5321 §4.5.5)."""
        return not self.local

    @property
    def is_postmaster(self) -> bool:
        """True when the local part is ``postmaster``, in any case, at any domain or without one (RFC 5321 §4.5.1)."""
        return self.local.lower() == "postmaster"

    @property
    def smtputf8(self) -> bool:
        """True when a client may only send it with SMTPUTF8: local part or domain are not ASCII (RFC 6531)."""
        return self.u_label or not self.local.isascii()

    def __str__(self) -> str:
        if self.text:
            return self.text
        local = self.local
        if local and _DOT_STRING.fullmatch(local) is None:
            local = '"' + _MUST_BE_ESCAPED.sub(r"\\\1", local) + '"'
        return f"{local}@{self.domain}" if self.domain else local


NULL = Address("", "")
"""The null reverse-path ``<>``."""


def parse_path(argument: str, *, forward: bool) -> tuple[Address, str]:
    """Parse the text after ``FROM:`` or ``TO:``: a path and parameters (RFC 5321 §4.1.2).

    Returns the address and the text of the parameters. Angle brackets may be missing around an address without source
    route, which a space then ends. A source route is checked and ignored (Appendix C). The bare ``<postmaster>`` is
    only allowed with ``forward`` (§4.1.1.3), the null path ``<>`` only without it (§4.5.5). Raises ``AddressError``
    with a sentence that tells what is wrong.
    """
    found = _ORDINARY_PATH.fullmatch(argument)
    if found is not None:
        local, domain, parameters = found.groups("")
        # Both are ASCII, so characters are octets. What is too long is parsed again, for the sentence that says so.
        if len(local) <= LOCAL_PART_LIMIT and len(domain) <= DOMAIN_LIMIT:
            domain = domain.lower()
            return Address(local, domain, False, f"{local}@{domain}"), parameters.strip(" ")
    return _parse_unusual_path(argument, forward=forward)


def parse_parameters(text: str) -> dict[str, str | None]:
    """Parse ESMTP parameters such as ``SIZE=1234 AUTH=<> SMTPUTF8`` (RFC 5321 §4.1.2, esmtp-param).

    Returns the keywords in upper case and their values as sent, or None for a keyword without "=". xtext (RFC 3461
    §4) is not decoded. Raises ``AddressError`` for a syntax error and for a repeated keyword.
    """
    parameters: dict[str, str | None] = {}
    if not text:
        return parameters
    _refuse_control_characters(text)
    for word in filter(None, text.split(" ")):
        found = _ESMTP_PARAM.fullmatch(word)
        if found is None:
            raise AddressError("A parameter must be KEYWORD or KEYWORD=value.")
        keyword = found[1].upper()
        if keyword in parameters:
            raise AddressError("A parameter is given twice.")
        parameters[keyword] = found[2]
    return parameters


def _parse_unusual_path(argument: str, *, forward: bool) -> tuple[Address, str]:
    """``parse_path`` with the complete grammar."""
    _refuse_control_characters(argument)
    text = _put_in_brackets(argument.lstrip(" "))
    if text.startswith("<>"):
        if forward:
            raise AddressError("The null path <> cannot be a recipient.")
        return NULL, _after_path(text, 2)
    start = _skip_source_route(text, 1)
    address, end = _read_mailbox(text, start)
    # "Postmaster" alone replaces a whole forward-path (§4.1.1.3), so no source route may precede it.
    if not address.domain and not (forward and start == 1):
        raise AddressError("The address must have a domain.")
    return address, _after_path(text, end)


def _put_in_brackets(text: str) -> str:
    """Return a path as it should have been sent: in angle brackets, and without spaces beside these."""
    if text.startswith("<"):
        text = "<" + text[1:].lstrip(" ")
        if text[1:2] in ("", "@", ">"):  # nothing, a source route, or the null path
            return text
        _, at = _read_local_part(text, 1)
        end = text.find(">", at)
        return text[:end].rstrip(" ") + text[end:] if end >= 0 else text
    _, at = _read_local_part(text, 0)  # a quoted one may contain spaces
    end = text.find(" ", at)
    return f"<{text[:end]}>{text[end:]}" if end >= 0 else f"<{text}>"


def _skip_source_route(text: str, start: int) -> int:
    """Return the start of the mailbox, which may follow a source route."""
    if not text.startswith("@", start):
        return start
    found = _SOURCE_ROUTE.match(text, start)
    if found is None:
        raise AddressError("The source route must be @domain,@domain: before the address.")
    for domain in found[1].split(",@"):
        _read_domain_name(domain)
    return found.end()


def _read_mailbox(text: str, start: int) -> tuple[Address, int]:
    """Parse a mailbox or ``postmaster`` from ``start`` to the next ``>``; return it and the position after that."""
    # The closing bracket is looked for behind the local part, because a quoted one may contain a bracket.
    local, at = _read_local_part(text, start)
    close = text.find(">", at)
    if close < 0:
        raise AddressError("The address has no closing angle bracket.")
    if text[at] == "@":
        domain, u_label = _read_domain(text[at + 1 : close])
        # A local part that broke the rule of the dots came without quotes, and leaves without them.
        bare = text[start] != '"' and _DOT_STRING.fullmatch(local) is None
        return Address(local, domain, u_label, f"{local}@{domain}" if bare else ""), close + 1
    if at < close:
        raise AddressError("The local part has a character that must be quoted.")
    if local.lower() != "postmaster":
        raise AddressError("The address must have a domain.")
    return Address(local, ""), close + 1


def _read_local_part(text: str, start: int) -> tuple[str, int]:
    """Parse Local-part = Dot-string / Quoted-string, with dots anywhere; return it unquoted, and its end."""
    if text.startswith('"', start):
        found = _QUOTED_STRING.match(text, start)
        if found is None:
            raise AddressError("The quoted local part is empty or not closed.")
        local = _QUOTED_PAIR.sub(r"\1", found[1])
    else:
        found = _UNQUOTED.match(text, start)
        if found is None:
            raise AddressError("The address has no local part, or it begins with a character that must be quoted.")
        local = found[0]
    if len(local.encode()) > LOCAL_PART_LIMIT:
        raise AddressError(f"The local part is longer than {LOCAL_PART_LIMIT} octets.")
    return local, found.end()


def _read_domain(text: str) -> tuple[str, bool]:
    """Parse a domain or an address literal; return its normal form, and whether it was written with a U-label."""
    if text.startswith("["):
        return _read_address_literal(text), False
    return _read_domain_name(text), not text.isascii()


def _read_address_literal(text: str) -> str:
    found = _ADDRESS_LITERAL.fullmatch(text)
    if found is None:
        raise AddressError("The address literal must be [192.0.2.1] or [IPv6:2001:db8::1].")
    try:
        return f"[IPv6:{IPv6Address(found[2])}]" if found[1] else f"[{IPv4Address(found[2])}]"
    except ValueError:
        raise AddressError("The address literal holds no valid IP address.") from None


def _read_domain_name(text: str) -> str:
    # The dot of an absolute name (RFC 1034 §3.1) changes nothing, and many servers refuse it: it is not sent on.
    labels = [_a_label(label) for label in text.removesuffix(".").split(".")]
    domain = ".".join(labels).lower()
    if not all(labels):
        raise AddressError("The domain is empty, or has a dot too many.")
    if _DOMAIN.fullmatch(domain) is None:
        raise AddressError("A label of the domain is too long, begins or ends with a hyphen, or has a wrong character.")
    if len(domain) > DOMAIN_LIMIT:
        raise AddressError(f"The domain is longer than {DOMAIN_LIMIT} octets.")
    return domain


def _a_label(label: str) -> str:
    """Return the ASCII form of a label by IDNA 2008 (RFC 5891), in any case and composition.

    Upper case becomes lower case one letter at a time: how a Greek name ends must not depend on how it was typed, and
    ICU, which Postfix uses, does the same. Nothing else is mapped: what would become another name is refused, and its
    A-label would be accepted.
    """
    if label.isascii():
        return label
    if len(label) > 63:  # its A-label would be longer still; to find that out would take long
        raise AddressError("A label of the domain is too long.")
    label = normalize("NFC", "".join(map(str.lower, label)))
    try:
        return idna.alabel(label).decode("ascii")
    except UnicodeError:
        return _a_label_of_symbols(label)


def _a_label_of_symbols(label: str) -> str:
    """Return the ASCII form of a label that IDNA 2008 excludes, such as a heart, but that has been registered.

    It is the one of IDNA 2003 (RFC 3490, Python's codec), unless that maps a character to another.
    """
    try:
        wire = label.encode("idna")
        faithful = wire.decode("idna") == label
    except UnicodeError:
        faithful = False
    if not faithful:
        raise AddressError("The domain cannot be converted to A-labels; send it as A-labels (xn--).")
    return wire.decode("ascii")


def _after_path(text: str, end: int) -> str:
    """Return the parameters after a path that ends at ``end``."""
    if text[end : end + 1] not in ("", " "):
        raise AddressError("A space must stand between the address and its parameters.")
    return text[end:].strip(" ")


def _refuse_control_characters(text: str) -> None:
    if _FORBIDDEN.search(text) is not None:
        raise AddressError("Control characters are not allowed.")
