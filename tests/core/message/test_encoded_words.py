"""Encoded words are decoded whatever they hold, and written as RFC 2047 says."""

from __future__ import annotations

from email.header import decode_header, make_header

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatepost.message.encoded_words import decode, encode


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("=?utf-8?q?gr=C3=BC=C3=9Fe_an?= alle", "grüße an alle"),
        ("=?UTF-8*de?B?Z3LDvA?=", "grü"),
        ("a =?iso-8859-1?q?=FC?=\t=?ISO-8859-1?Q?=FC?= b", "a üü b"),
        ("=?utf-8?b?w7w=?= =?iso-8859-1?q?=FC?=", "üü"),
        ("=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "ü"),
        ("=?utf-8?q?=C3?=", "�"),
        ("=?gb2312?b?xOO6ww==?=", "你好"),
        ("=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "日本"),
        ("=?ks_c_5601-1987?b?wMzD?= x", "이� x"),
        ("=?utf-8?b?w?= =?utf-8?b?a?=", "=?utf-8?b?w?= =?utf-8?b?a?="),
        ("=?utf-8?b?w?= =?utf-8?q?x?= =?nonsense?q?x?= =?utf-8?q?y?=", "=?utf-8?b?w?= x =?nonsense?q?x?= y"),
        ("=?utf-8?q?a?=b=?utf-8?q?c?=", "abc"),
        ("a=?b", "a=?b"),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
    ],
)
def test_words_are_decoded(text: str, decoded: str) -> None:
    assert decode(text) == decoded


@pytest.mark.parametrize("charset", ["punycode", "idna", "hex", "rot13", "utf-7", "utf-16", "unicode_escape", "zip"])
def test_only_charsets_of_mail_are_decoded(charset: str) -> None:
    assert decode(f"=?{charset}?q?AAAA?=") == f"=?{charset}?q?AAAA?="


@pytest.mark.parametrize(
    ("name", "value", "encoded"),
    [
        ("Subject", "[SPAM] Grüße an alle", "[SPAM] =?utf-8?q?Gr=C3=BC=C3=9Fe?= an alle"),
        ("Subject", "Öl  und Öl\tÖl", "=?utf-8?q?=C3=96l?=  und =?utf-8?q?=C3=96l=09=C3=96l?="),
        ("X-Quoted", 'sagt "ö"', "sagt =?utf-8?q?=22=C3=B6=22?="),
        ("From", '"Jörg \\"J\\" M." <a@example.org>', "=?utf-8?q?J=C3=B6rg_=22J=22_M=2E?= <a@example.org>"),
        ("Resent-To", "Änne (Büro), b@c", "=?utf-8?q?=C3=84nne?= (=?utf-8?q?B=C3=BCro?=), b@c"),
        ("Subject", "plain\r\n folded\r\n\tümlaut", "plain\r\n folded\r\n\t=?utf-8?q?=C3=BCmlaut?="),
        ("Subject", "x" * 50 + " ü", "x" * 50 + "\r\n =?utf-8?q?=C3=BC?="),
    ],
)
def test_what_is_beyond_ascii_becomes_encoded_words(name: str, value: str, encoded: str) -> None:
    assert encode(name, f"{name}: {value}") == f"{name}: {encoded}"


@given(st.lists(st.sampled_from(["ü", "日本語", "plain", "=?", "?=", "_", "x" * 90, "ü" * 60, "😀" * 30])))
def test_others_read_what_was_encoded(words: list[str]) -> None:
    text = " ".join(words)
    value = encode("Subject", f"Subject: {text}").removeprefix("Subject: ").replace("\r\n", "")
    assert value.isascii()
    assert decode(value) == text
    assert str(make_header(decode_header(value))) == text


@given(st.text(st.sampled_from("ü日 "), max_size=300))
@example(" üüü日日日日 ")
def test_lines_with_encoded_words_have_at_most_76_columns(text: str) -> None:
    lines = encode("Subject", f"Subject: {text}").split("\r\n")
    # Blanks at the end stay as they were given: no reader shows them, and they are no part of an encoded word.
    assert max(len(line.rstrip()) for line in lines) <= 76 or not text.strip()
