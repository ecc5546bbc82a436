"""The configuration: ``gatepost.toml`` and what is laid over it, as one frozen ``Config``, with every mistake in it."""

from gatepost.config.load import default_text, find_config_file, load_config, survey_config, validate_options
from gatepost.config.model import Config, Dns, Journal, Limits, Listener, Log, PluginTable, Score, Spool, Store
from gatepost.config.source import Place
from gatepost.config.values import SocketAddress

__all__ = [
    "Config",
    "Dns",
    "Journal",
    "Limits",
    "Listener",
    "Log",
    "Place",
    "PluginTable",
    "Score",
    "SocketAddress",
    "Spool",
    "Store",
    "default_text",
    "find_config_file",
    "load_config",
    "survey_config",
    "validate_options",
]
