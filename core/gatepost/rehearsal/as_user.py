"""Files that the account that gatepost switches to cannot read or write, found by looking as this account.

The server reads everything as root when it starts, and as ``user`` at each reload: a file that only root can read is
seen at the first reload, in the log, when its change is already needed. So ``check``, run as root, loads configuration
and policy once more as ``user``. It knows no permissions: whatever the kernel refuses is found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gatepost.config import Config, survey_config, validate_options
from gatepost.errors import ConfigError, GatepostError, Mistake
from gatepost.events import NULL_RECORDER
from gatepost.options import WatchedFile
from gatepost.plugins import Policy, options_of, survey_policy
from gatepost.rehearsal.offline import offline_services
from gatepost.server import account_of, temporarily


def unusable_for_user(
    config: Config, path: Path | None, environ: Mapping[str, str], known: Sequence[Mistake]
) -> list[Mistake]:
    """Return what ``user`` cannot read for a reload, or write; nothing unless root asks and there is such a user.

    ``known`` are the mistakes that root finds too.
    """
    if os.geteuid() != 0 or config.user is None:
        return []
    try:
        if account_of(config.user).pw_uid == 0:
            return []
    except GatepostError:  # which is a finding of its own
        return []
    policy, _ = survey_policy(config, offline_services(config), NULL_RECORDER)
    files = list(_files(config, policy))  # as root, who can see whether they are there
    with temporarily(config.user):
        own, mistakes = survey_config(path, environ)
        if own is not None:
            mistakes += survey_policy(own, offline_services(own), NULL_RECORDER)[1]
        mistakes = [each for each in mistakes if each not in known]
        mistakes += [each for each in _unreadable(config, files) if not _names_file(mistakes, each)]
        unwritable = list(_unwritable(config))
    cannot = f"the user {config.user} cannot use it, so a reload would fail: "
    return [replace(each, message=cannot + each.message) for each in mistakes] + unwritable


def _files(config: Config, policy: Policy) -> Iterator[tuple[tuple[str | int, ...], Path]]:
    """Yield each file that a plugin's options name, such as a certificate, with its key."""
    for name, instance in policy.instances.items():
        model = options_of(instance.plugin)
        if model is None:
            continue
        try:
            options = validate_options(model, config.plugin(name), config)
        except ConfigError:
            continue
        yield from _paths(options, ("plugins", name), config.folder)


def _paths(value: Any, key: tuple[str | int, ...], folder: Path) -> Iterator[tuple[tuple[str | int, ...], Path]]:
    match value:
        case WatchedFile():
            return  # it is read where the options are validated
        case Path():
            if (folder / value).is_file():
                yield key, folder / value
        case BaseModel():
            for name, field in type(value).model_fields.items():
                yield from _paths(getattr(value, name), (*key, field.alias or name), folder)
        case Mapping():
            for name, part in value.items():
                yield from _paths(part, (*key, str(name)), folder)
        case list() | tuple() | set() | frozenset():
            for number, part in enumerate(value):
                yield from _paths(part, (*key, number), folder)


def _unreadable(config: Config, files: Sequence[tuple[tuple[str | int, ...], Path]]) -> Iterator[Mistake]:
    for key, path in files:
        try:
            path.open("rb").close()
        except OSError as error:
            yield config.mistake(key, f"cannot read {path}: {error.strerror}")


def _names_file(mistakes: Sequence[Mistake], other: Mistake) -> bool:
    return any((each.where, each.line, each.key) == (other.where, other.line, other.key) for each in mistakes)


def _unwritable(config: Config) -> Iterator[Mistake]:
    """Yield what the server writes and ``user`` may not: usually made by a trial run as root."""
    store = config.store.url.removeprefix("sqlite://")
    written = {
        ("state_dir",): config.state_dir,
        ("spool", "path"): config.spool.path,
        ("store", "url"): Path(store),
        ("journal", "path"): config.journal.path,
    }
    for key, path in written.items():
        if os.path.exists(path) and not os.access(path, os.W_OK, effective_ids=True):
            yield config.mistake(key, f"the user {config.user} cannot write {path}: chown -R {config.user}: {path}")
