"""Plugins: from entry points and TOML to a loaded policy."""
