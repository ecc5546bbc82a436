"""What ``gatepost try`` is told and what it tells: the flags of a session, and its steps with all that was said."""

from __future__ import annotations
