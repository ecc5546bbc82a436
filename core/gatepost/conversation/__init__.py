"""A conversation: the state of one SMTP dialogue over a gate."""

from gatepost.conversation.conversation import Conversation

__all__ = [
    "Conversation",
]
