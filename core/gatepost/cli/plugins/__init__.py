"""The commands under ``gatepost plugins``."""
