"""The configuration: ``gatepost.toml`` and the layers over it as one frozen ``Config``, and every mistake in them."""

from gatepost.config.list_file import parse_toml
from gatepost.config.load import (
    default_text,
    find_config_file,
    load_config,
    parse_config,
    survey_config,
    validate_options,
)
from gatepost.config.model import (
    NO_LISTENER,
    STATE_DIR,
    Config,
    Dns,
    Journal,
    Limits,
    Listener,
    Log,
    Plugins,
    PluginTable,
    Score,
    Spool,
    Store,
)
from gatepost.config.origins import Entry, entries
from gatepost.config.schema import Known, configuration_schema
from gatepost.config.source import Place, Source
from gatepost.config.toml_lines import KeyPath
from gatepost.config.values import own_host_name
from gatepost.ip import SocketAddress

__all__ = [
    "NO_LISTENER",
    "STATE_DIR",
    "Config",
    "Dns",
    "Entry",
    "Journal",
    "KeyPath",
    "Known",
    "Limits",
    "Listener",
    "Log",
    "Place",
    "PluginTable",
    "Plugins",
    "Score",
    "SocketAddress",
    "Source",
    "Spool",
    "Store",
    "configuration_schema",
    "default_text",
    "entries",
    "find_config_file",
    "load_config",
    "own_host_name",
    "parse_config",
    "parse_toml",
    "survey_config",
    "validate_options",
]
