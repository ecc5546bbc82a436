"""Conversations: the state of one SMTP session over a gate, and the mail transactions in it."""

from gatepost.conversation.conversation import Conversation

__all__ = [
    "Conversation",
]
