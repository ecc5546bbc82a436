"""Ends of a message that only some servers accept, by name. SMTP smuggling hides a second message behind one of them.

Only CRLF.CRLF ends the data (RFC 5321 §4.1.1.4).
"""

from __future__ import annotations

FALSE_ENDS = {
    "LF.LF": b"\n.\n",
    "LF.CRLF": b"\n.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CR.CR": b"\r.\r",
    "CRLF.CR": b"\r\n.\r",
    "LF.CR": b"\n.\r",
    "CR.CRLF": b"\r.\r\n",
    "CR.LF": b"\r.\n",
    "CRLF.CRCRLF": b"\r\n.\r\r\n",
    "CRLF NUL.CRLF": b"\r\n\0.\r\n",
}
