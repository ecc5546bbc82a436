"""What is measured: gatepost in its configurations, and its peers, by name."""
