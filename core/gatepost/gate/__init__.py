"""The gate: asks the plugins of a phase in order, and rules."""
