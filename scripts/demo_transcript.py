"""The demo's output: who said what, how long it took, and what went wrong."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.demo_deployment import Piece

WIDTH = 110
SHOWN_PIECES = 6
SHOWN_LINES = 20


class Unexpected(Exception):
    """A step of the demo did not do what it must."""


class Transcript:
    """Prints as it goes, and keeps what failed or could not be shown."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.lacking: list[str] = []
        self.shown = 0

    def platform(self, name: str) -> None:
        print(f"\n{name}", flush=True)

    def step(self, title: str) -> None:
        print(f"\n  {title}", flush=True)

    def said(self, who: str, text: str, timing: str = "") -> None:
        """Print one line of the conversation; `timing` is flush right."""
        first, *rest = textwrap.wrap(text, WIDTH - 40) or [""]
        print(f"    {who:<9}{first:<{WIDTH - 40}} {timing}".rstrip(), flush=True)
        for line in rest:
            print(f"    {'':<9}{line}")

    def note(self, text: str) -> None:
        print(f"    -- {text}", flush=True)

    def pieces(self, pieces: Sequence[Piece]) -> None:
        """Print when each of the first pieces of a stream arrived, and the last."""
        for index, piece in enumerate(pieces):
            if SHOWN_PIECES <= index < len(pieces) - 1:
                if index == SHOWN_PIECES:
                    print(f"    {'…':>6}")
                continue
            lines = " | ".join(line for line in piece.text.splitlines() if line)
            print(f"    {piece.seconds * 1000:6.0f} ms  {textwrap.shorten(lines, WIDTH - 20)}")

    def expect(self, holds: bool, otherwise: str) -> None:
        """Stop the step where something does not hold.

        Raises:
            Unexpected: With what happened instead.
        """
        if not holds:
            raise Unexpected(otherwise)

    def fail(self, what: str, error: BaseException) -> None:
        self.failed.append(what)
        lines = [*f"{type(error).__name__}: {error}".splitlines(), *getattr(error, "__notes__", ())]
        print(textwrap.indent("\n".join(["FAILED", *lines[:SHOWN_LINES]]), "    "), flush=True)

    def lack(self, what: str) -> None:
        self.lacking.append(what)
        print(f"    LACKING: {what}", flush=True)

    def close(self, seconds: float) -> int:
        """Print the result and return the exit code: what could not be shown counts as failed."""
        print(f"\n{self.shown} shown, {len(self.failed)} failed, {len(self.lacking)} lacking, in {seconds:.0f} s")
        for what in (*self.failed, *self.lacking):
            print(f"  {what}")
        return 1 if self.failed or self.lacking or not self.shown else 0
