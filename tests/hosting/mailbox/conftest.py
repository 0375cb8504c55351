"""The stores that mailboxes are proved on: those of the protocol."""

from __future__ import annotations

from tests.hosting.protocol.conftest import store

__all__ = ["store"]
