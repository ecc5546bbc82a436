"""The records that the name server of these tests serves."""

from __future__ import annotations

RECORDS = {
    "mx.example": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1"], "TXT": ['"one " "two"']},
    "example": {"MX": ["10 MX.example.", "0 ."], "NS": ["NS1.Example."]},
    "www.example": {"CNAME": ["web.example."]},
    "web.example": {"CNAME": ["mx.example."]},
    "lost.example": {"CNAME": ["gone.example."]},
    "big.example": {"TXT": [f'"{number:03d} {"x" * 200}"' for number in range(60)]},
    "odd.example": {"TXT": ['"a\\010b\\200c"'], "PTR": ["we\\032ird.example."]},
    "1.2.0.192.in-addr.arpa": {"PTR": ["MX.example."]},
}
