"""The start of a server: the listeners that it needs, and the addresses that it serves as root."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from gatepost import config as configuration
from gatepost.errors import GatepostError
from gatepost.server.server import Server


def server(folder: Path, *bind: str, user: str = "") -> Server:
    path = folder / "gatepost.toml"
    places = ", ".join(f'"{place}"' for place in bind)
    path.write_text(
        f'state_dir = "{folder}/state"\n{user}[listen.smtp]\nbind = [{places}]\n'
        '[store]\nurl = "memory:"\n[plugins]\norder = ["discard"]\n'
    )
    return Server(configuration.load_config(path, {}), path, {})


async def start(made: Server) -> None:
    try:
        await made.start()
    finally:
        await made.close()


async def test_a_server_without_a_listener_does_not_start(tmp_path: Path) -> None:
    path = tmp_path / "gatepost.toml"
    path.write_text(f'state_dir = "{tmp_path}"\n[store]\nurl = "memory:"\n')
    made = Server(configuration.load_config(path, {}), path, {})
    with pytest.raises(GatepostError, match=r"^there is no listener; write \[listen\.smtp\] with bind = "):
        await start(made)


async def test_as_root_without_user_only_loopback_is_served_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    await start(server(tmp_path, "127.0.0.1:0", "[::1]:0"))
    assert "running_as_root" in capfd.readouterr().err


async def test_as_root_without_user_any_other_address_is_refused_before_one_is_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    made = server(tmp_path, "127.0.0.1:0", "0.0.0.0:0")
    with pytest.raises(GatepostError, match=r"as root gatepost serves loopback only, not 0\.0\.0\.0:0: set user"):
        await start(made)
    assert not made.addresses


async def test_without_root_any_address_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    await start(server(tmp_path, "0.0.0.0:0"))
    assert "running_as_root" not in capfd.readouterr().err


@pytest.mark.patches
async def test_a_line_of_resolv_conf_that_cannot_be_read_is_a_warning_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\nnameserver 192.0.2.300\n")
    monkeypatch.setattr("gatepost.services.dns.client.RESOLV_CONF", path)
    await start(server(tmp_path, "127.0.0.1:0"))
    said = capfd.readouterr().err
    assert "name_server_skipped" in said and f"{path}:2: the line is skipped" in said


async def test_a_list_file_is_read_and_parsed_in_a_thread(tmp_path: Path) -> None:
    made = server(tmp_path, "127.0.0.1:0")
    threads: list[int] = []

    def parse(text: str) -> str:
        threads.append(threading.get_ident())
        return text

    (tmp_path / "list").write_text("one")
    file = made._files.open(tmp_path / "list", made.recorder)
    assert file.parsed(parse) == "one"
    (tmp_path / "list").write_text("three")
    await made._look_at_files()
    assert file.parsed(parse) == "one"
    await made._look_at_files()
    assert file.parsed(parse) == "three"
    assert threads[0] == threading.get_ident() != threads[1]
    assert len(threads) == 2
    await made.close()
