"""What belongs to whom: the isolation keys of responses and conversations."""

from __future__ import annotations

from typing import NamedTuple

from agent_framework_hosting import ChannelIdentity, get_current_isolation_keys, isolation_key

from .ids import MAX_ID, is_minted


class Owner(NamedTuple):
    """Whose responses and conversations a request is about.

    Nobody's, where callers are anonymous: those go on only from ids that were minted here. What is another owner's is
    under another key, and so is not there.
    """

    channel: str
    name: str | None
    anonymous: bool

    def response(self, id: str) -> str | None:
        """Give the key of a response; None if there can be none with that id."""
        return isolation_key(self.channel, self.name, "response", id) if self.may_name("resp", id) else None

    def conversation(self, id: str) -> str | None:
        """Give the key of a conversation; None if there can be none with that id."""
        return isolation_key(self.channel, self.name, "conversation", id) if is_minted("conv", id) else None

    def chat(self, chat_key: str) -> str:
        """Give the key of the conversation that Foundry names."""
        return isolation_key(self.channel, self.name, "chat", chat_key)

    def may_name(self, prefix: str, id: str) -> bool:
        return is_minted(prefix, id) if self.anonymous else 0 < len(id) <= MAX_ID


def owner_of(channel: str, caller: ChannelIdentity | None) -> Owner:
    """Tell who asks: the caller that was authenticated or, on Foundry, the user that it names."""
    if caller is not None:
        return Owner(channel, caller.native_id, anonymous=False)
    keys = get_current_isolation_keys()
    user = None if keys is None else keys.user_key
    return Owner(channel, user, anonymous=user is None)
