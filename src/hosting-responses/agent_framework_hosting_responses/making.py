"""One response, from the request to what is answered and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from agent_framework_hosting import HostedRunResult, PendingRequest

from .contents import Mint, Own
from .events import OutputEvents
from .parsing import Create
from .records import AnsweredRecord, encode_record
from .rendering import error_in, incomplete_reason, model_of, render_output, usage_of
from .schema import ConversationReference, IncompleteDetails, Item, Response, ResponseError, decode_response, encode

BLANK = Response(id="", created_at=0, status="in_progress", model="")


class Making:
    """Makes one response. `seed` is what is known of it at its beginning, `late` what is streamed at its end.

    Streamed items keep the ids that they were told by. Where a hook may have changed what was streamed, or what is
    answered, the result decides, and the ids go on in the order of the items.
    """

    def __init__(
        self,
        create: Create,
        seed: Response,
        *,
        mint: Mint,
        clock: Callable[[], float],
        digest: str = "",
        hooked: bool = False,
        own: Own = frozenset,
    ) -> None:
        self.create = create
        self.seed = seed
        self.mint = mint
        self.clock = clock
        self.digest = digest
        self.hooked = hooked
        self.own = own
        self.events: OutputEvents | None = None
        self.late = b""
        self._finished: tuple[HostedRunResult[Any], Response] | None = None
        self._answer: tuple[Response, bytes] | None = None

    def stream(self) -> OutputEvents:
        self.events = OutputEvents(self.seed, self.mint)
        return self.events

    def finish(self, hosted: HostedRunResult[Any]) -> Response:
        """Give the whole response, once the run is over; for the same result it is the same."""
        if self._finished is None or self._finished[0] is not hosted:
            self._finished = hosted, self._whole(hosted)
        return self._finished[1]

    def answer(self, hosted: HostedRunResult[Any]) -> bytes:
        """Give the whole response as it is sent, and kept."""
        response = self.finish(hosted)
        if self._answer is None or self._answer[0] is not response:
            self._answer = response, encode(response)
        return self._answer[1]

    def attach(self, hosted: HostedRunResult[Any]) -> bytes:
        """Give what is kept with the response."""
        response, items = self.answer(hosted), encode(self.create.items)
        return encode_record(AnsweredRecord(msgspec.Raw(response), msgspec.Raw(items), self.digest))

    def fail(self, error: ResponseError) -> Response:
        """Give a response that broke off."""
        output = [] if self.events is None else self.events.items
        return msgspec.structs.replace(self.seed, status="failed", error=error, output=output)

    def _whole(self, hosted: HostedRunResult[Any]) -> Response:
        result: object = hosted.result
        error, reason = error_in(result), incomplete_reason(result)
        response = msgspec.structs.replace(
            self.seed,
            status="failed" if error else "incomplete" if reason else "completed",
            error=error,
            incomplete_details=IncompleteDetails(reason) if reason and not error else None,
            model=model_of(result) or self.seed.model,
            output=self._output(result, hosted.pending),
            usage=usage_of(result),
        )
        if error is None:
            response.completed_at = int(self.clock())
        return response

    def _output(self, result: object, pending: Sequence[PendingRequest]) -> list[Item]:
        if self.events is None:
            return render_output(result, pending, self.mint, self.own)
        if self.hooked:
            self.late = b""
            return render_output(result, pending, again(self.events.items, self.mint), self.own)
        if not self.late:
            self.late = self.events.ask(pending, self.own)
        return self.events.items


def again(items: Sequence[Item], mint: Mint) -> Mint:
    """Give the ids of items once more, in their order for each kind; then new ones."""
    known = [item.id for item in reversed(items)]

    def give(prefix: str) -> str:
        for index in range(len(known) - 1, -1, -1):
            if known[index].startswith(f"{prefix}_"):
                return known.pop(index)
        return mint(prefix)

    return give


def seed_of(create: Create, *, id: str, model: str, created_at: int) -> Response:
    """Give a response in progress."""
    # In place of a new one, which would make each of its many defaults anew.
    seed = msgspec.structs.replace(
        BLANK,
        id=id,
        created_at=created_at,
        model=model,
        previous_response_id=create.previous_response_id,
        store=create.store,
        background=create.background,
    )
    if create.conversation is not None:
        seed.conversation = ConversationReference(create.conversation)
    if not create.echo:
        return seed
    return decode_response(encode({**msgspec.to_builtins(seed), **create.echo}))
