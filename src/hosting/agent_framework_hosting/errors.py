"""What can go wrong in a host. Every message says what to do."""

from __future__ import annotations


class HostingError(Exception):
    """Base of every error this project raises on purpose.

    `started` tells whether the target had begun to run: then its tools may have had effects, and a client
    must not blindly repeat the request.
    """

    started: bool = False


class ConfigurationError(HostingError):
    """The host, a channel or an adapter is set up in a way that cannot work."""


class InvalidRequest(HostingError):
    """A request that the target cannot be run with; `field` names what to change."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class UnknownConversation(InvalidRequest):
    """There is no conversation under the key that a request goes on from, or must go on in."""

    def __init__(self) -> None:
        super().__init__("session", "There is no such conversation to continue from.")


class StateUnavailable(HostingError):
    """The state store did not answer in time; nothing that was acknowledged is lost. HTTP 503."""


class MailboxFull(StateUnavailable):
    """A conversation has as many unfinished updates as `HostLimits.mailbox_updates` allows. HTTP 503."""


class StateDamaged(HostingError):
    """A stored document cannot be read. It is kept as it is; `name` says which one."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class TurnBusy(HostingError):
    """Another turn of the same conversation is running. HTTP 409 with `Retry-After`."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    @classmethod
    def of_conversation(cls) -> TurnBusy:
        return cls("Another turn of this conversation is still running. Try again in a moment.")


class TurnConflict(HostingError):
    """The conversation's lease was lost; nothing of this turn was saved."""


class TurnRepeated(HostingError):
    """A turn with this idempotency key is already part of the conversation; the target was not run again."""

    @classmethod
    def of_request(cls) -> TurnRepeated:
        return cls("This request was already carried out; its turn is part of the conversation.")


class SessionTooLarge(HostingError):
    """The conversation outgrew `HostLimits.session_bytes`."""
