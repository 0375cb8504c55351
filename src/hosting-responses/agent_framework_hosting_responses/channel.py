"""The channel: its settings, and where its endpoints are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from starlette.middleware import Middleware

from agent_framework_hosting import (
    ChannelContext,
    ChannelContribution,
    ChannelResponseHook,
    ChannelRunHook,
    ChannelStreamUpdateHook,
    ConfigurationError,
)
from agent_framework_hosting.auth import Auth, Authenticator
from agent_framework_hosting.sse import SILENCE

from .answers import Answer, guarded
from .background import Background
from .conversations import Conversations
from .create import CreateEndpoint
from .jobs import Jobs
from .models import Models
from .options import check_forward_options
from .request_ids import RequestIds
from .routes import Elsewhere, Endpoints
from .rules import Rules
from .service import Service
from .stored import StoredResponses

if TYPE_CHECKING:
    from starlette.routing import BaseRoute


class ResponsesChannel:
    """Serves the OpenAI Responses API under `path`, and `/conversations` and `/models` beside it; see the README.

    `auth` says who may call; a caller's responses and conversations are its own. `allow_anonymous` lets a caller
    without `Authorization` in: it goes on only from ids that were minted here (192 random bits).

    `forward_options` names the parameters that a caller may set for the agent (`temperature`, `tools`, `text`, …);
    without it they are refused. `trust_caller_instructions` takes system and developer messages, `instructions`, and
    what a caller says that the agent said. `allow_urls` passes https URLs of images and files on to the agent; they
    are not fetched here.

    A run hook gets the decoded body as `protocol_request`. `response_id_factory` makes the ids of responses, for
    authenticated callers only; `keep_alive` is in seconds.

    Raises:
        ConfigurationError: A setting cannot be used.
    """

    def __init__(
        self,
        path: str = "/responses",
        *,
        run_hook: ChannelRunHook | None = None,
        response_hook: ChannelResponseHook | None = None,
        stream_update_hook: ChannelStreamUpdateHook | None = None,
        auth: Auth | None = None,
        allow_anonymous: bool = False,
        response_id_factory: Callable[[], str] | None = None,
        forward_options: Iterable[str] = (),
        trust_caller_instructions: bool = False,
        allow_urls: bool = False,
        name: str = "responses",
        keep_alive: float = SILENCE,
    ) -> None:
        if response_id_factory is not None and (auth is None or allow_anonymous):
            raise ConfigurationError(
                "response_id_factory needs callers that are known: who may be anonymous is kept apart by the random "
                "bits of the ids. Give auth=… without allow_anonymous, or leave response_id_factory out."
            )
        self.name = name
        self.path = path
        self.run_hook = run_hook
        self.response_hook = response_hook
        self.stream_update_hook = stream_update_hook
        self.authenticate = Authenticator(auth, channel=name, allow_anonymous=allow_anonymous)
        self.response_id_factory = response_id_factory
        self.rules = Rules(check_forward_options(forward_options), trust_caller_instructions, allow_urls)
        self.keep_alive = keep_alive

    def service(self, context: ChannelContext) -> Service:
        """Make what the endpoints share on one host."""
        return Service(
            self.name,
            context,
            self.authenticate,
            self.rules,
            run_hook=self.run_hook,
            response_hook=self.response_hook,
            stream_update_hook=self.stream_update_hook,
            response_id_factory=self.response_id_factory,
            keep_alive=self.keep_alive,
        )

    def contribute(self, context: ChannelContext) -> ChannelContribution:
        service = self.service(context)
        background = Background(service)
        stored = StoredResponses(service, background)

        def route(path: str, **answers: Answer) -> BaseRoute:
            return Endpoints(path, {method: guarded(service, answer) for method, answer in answers.items()})

        routes = [
            Endpoints("/", {"POST": CreateEndpoint(service, background)}, name=self.name),
            route("/{id}", GET=stored.show, DELETE=stored.delete),
            route("/{id}/cancel", POST=stored.cancel),
            route("/{id}/input_items", GET=stored.input_items),
        ]
        beside = self.path.rpartition("/")[0]
        conversations, models = Conversations(service), Models(service)
        root_routes = [
            route(f"{beside}/conversations", POST=conversations.create),
            route(f"{beside}/conversations/{{id}}", GET=conversations.show, DELETE=conversations.delete),
            route(f"{beside}/models", GET=models.list),
            route(f"{beside}/models/{{id}}", GET=models.show),
            # At the root, what is nowhere is not this channel's.
            *(Elsewhere(path) for path in (self.path, f"{beside}/conversations", f"{beside}/models") if path),
        ]
        return ChannelContribution(
            routes,
            on_update=Jobs(service).work,
            updates_optional=True,
            middleware=[Middleware(RequestIds)],
            root_routes=root_routes,
            authenticated=self.authenticate.closed,
        )
