"""``gatepost init`` writes a configuration that works, explains itself, and never overwrites one."""

from __future__ import annotations

import re
import tomllib

import pytest

from gatepost.config import Config, load_config
from gatepost.config.model import Plugins, PluginTable
from gatepost.options import CORE_KEYS, RESERVED_KEYS
from tests.core.cli.running import Folder, run


def written(folder: Folder) -> str:
    assert run("init").exit_code == 0
    return folder.config.read_text()


def test_the_starting_configuration_has_no_mistakes(folder: Folder) -> None:
    written(folder)
    result = run("check")
    assert result.exit_code == 0
    assert "0 errors, 0 warnings" in result.stdout


def test_every_key_of_the_core_stands_in_it(folder: Folder) -> None:
    text = written(folder)
    for name, field in Config.model_fields.items():
        model = field.annotation
        if hasattr(model, "model_fields") and model is not Plugins:
            assert f"[{name}]\n" in text
            assert all(re.search(rf"^#?{key} =", text, re.MULTILINE) for key in model.model_fields)
    assert all(re.search(rf"^#?{key} =", text, re.MULTILINE) for key in {*CORE_KEYS} - {*RESERVED_KEYS})


def test_every_key_has_its_documentation_above_it(folder: Folder) -> None:
    lines = written(folder).splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"#?[a-z_]+ =", line) and "smtp://" not in line]
    assert len(keys) > 50
    assert all(lines[number - 1].startswith("# ") for number in keys)


def test_the_defaults_in_it_are_those_that_hold(folder: Folder) -> None:
    text = written(folder)
    before = load_config(folder.config, {})
    shown = re.sub(r"^#\[plugins.forward]\n#to = .*\n", "", text, flags=re.MULTILINE)
    shown = re.sub(r"^#([a-z_]+ = .+)$", r"\1", shown, flags=re.MULTILINE)
    assert len(tomllib.loads(shown)["limits"]) == len(
        before.limits.model_fields_set | set(type(before.limits).model_fields)
    )
    folder.config.write_text(shown)
    after = load_config(folder.config, {})
    assert after.model_dump(exclude={"plugins"}) == before.model_dump(exclude={"plugins"})
    for name in before.order:
        changed = {key: getattr(before.plugin(name), key) for key in PluginTable.model_fields if key != "options"}
        assert changed == {key: getattr(after.plugin(name), key) for key in changed}
    assert run("check").exit_code == 0


def test_a_file_that_is_there_is_left_alone(folder: Folder) -> None:
    path = folder.write("# mine\n")
    result = run("init", path)
    assert result.exit_code == 1
    assert "--force" in result.stderr
    assert folder.config.read_text() == "# mine\n"
    assert run("init", path, "--force").exit_code == 0
    assert "# mine" not in folder.config.read_text()


def test_a_folder_gets_the_usual_name(folder: Folder) -> None:
    (folder.path / "etc").mkdir()
    assert run("init", "etc").exit_code == 0
    assert (folder.path / "etc/gatepost.toml").is_file()


@pytest.mark.parametrize("path", ["nowhere/gatepost.toml"])
def test_a_file_that_cannot_be_written_is_a_sentence(folder: Folder, path: str) -> None:
    result = run("init", path)
    assert result.exit_code == 1
    assert "cannot write" in result.stderr


POSTCONF = """#!/bin/sh
cat <<'END'
myhostname = mx.example.org
message_size_limit = 10240000
mydestination = localhost, mx.example.org Example.ORG
virtual_mailbox_domains = hash:/etc/postfix/domains, example.com
virtual_alias_domains =
relay_domains = example.com
END
"""


def with_postconf(folder: Folder, text: str) -> dict[str, str]:
    """Return an environment whose postconf prints what the script prints."""
    (folder.path / "bin").mkdir()
    (folder.path / "bin/postconf").write_text(text)
    (folder.path / "bin/postconf").chmod(0o755)
    return {"PATH": f"{folder.path}/bin:/usr/bin:/bin"}


def test_init_postfix_writes_both_sides_with_what_postconf_knows(folder: Folder) -> None:
    result = run("init", "--postfix", env=with_postconf(folder, POSTCONF))
    assert result.exit_code == 0
    assert "Postfix has domains in hash:/etc/postfix/domains, which are not read" in result.stdout
    written = load_config(folder.config, {})
    assert (written.hostname, written.user) == ("mx.example.org", "gatepost")
    assert written.order == ("access", "earlytalker", "recipients", "greylist", "forward")
    assert written.plugin("recipients").options["domains"] == ["mx.example.org", "example.org", "example.com"]
    assert written.plugin("forward").options["to"] == "smtp://127.0.0.1:10025"
    assert written.limits.max_size == 10_240_000 - 16_384
    assert "\n127.0.0.1:10025 inet " in (folder.path / "postfix-master.cf").read_text()


def test_init_postfix_without_postfix_says_what_is_left_to_do(folder: Folder) -> None:
    result = run("init", "--postfix", env=with_postconf(folder, "#!/bin/sh\nexit 1\n"))
    assert result.exit_code == 0
    assert "write yours in place of example.org" in result.stdout
    assert load_config(folder.config, {}).plugin("recipients").options["domains"] == ["example.org"]


def test_init_postfix_writes_neither_file_if_one_exists(folder: Folder) -> None:
    (folder.path / "postfix-master.cf").write_text("# mine\n")
    result = run("init", "--postfix", env=with_postconf(folder, POSTCONF))
    assert result.exit_code == 1
    assert "postfix-master.cf exists already" in result.stderr
    assert not folder.config.exists()
