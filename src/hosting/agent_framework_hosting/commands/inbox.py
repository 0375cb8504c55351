"""`af-hosting inbox`: look at accepted updates, and decide on those that were set aside."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..errors import HostingError
from .places import add_place, find_place
from .printing import counted, shown_key, shown_time

if TYPE_CHECKING:
    from ..state.letters import Letters, Seen
    from . import Subparsers


def add_to(commands: Subparsers) -> None:
    inbox = commands.add_parser("inbox", help="look at accepted updates, and retry or drop those that were set aside")
    actions = inbox.add_subparsers(dest="action", required=True)

    listing = actions.add_parser("list", help="list unfinished updates and those that were set aside")
    add_place(listing)
    listing.add_argument("--dead", action="store_true", help="only those that were set aside")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(run=run_list)

    show = actions.add_parser("show", help="show one update")
    show.add_argument("uid", help="the beginning of its uid, as the list shows it")
    add_place(show)
    show.add_argument("--payload", action="store_true", help="what the channel has kept of it, too")
    show.set_defaults(run=run_show)

    retry = actions.add_parser(
        "retry",
        help="have an update that was set aside worked on again",
        description="Have an update that was set aside worked on again, within a minute. It keeps its place in the "
        "order, and has no reply token any more.",
    )
    add_which(retry)
    retry.add_argument("--run-again", action="store_true", help="also those whose turn is in the conversation already")
    retry.set_defaults(run=run_retry, error=retry.error)

    drop = actions.add_parser(
        "drop",
        help="remove an update",
        description="Remove an update that waits, or that was set aside. One that is being worked on may be finished.",
    )
    add_which(drop)
    drop.set_defaults(run=run_drop, error=drop.error)


def add_which(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uid", nargs="*", help="the beginnings of their uids")
    parser.add_argument("--all-dead", action="store_true", help="or all that were set aside")
    add_place(parser)


def letters(arguments: argparse.Namespace) -> Letters:
    from ..state.letters import Letters

    return Letters(find_place(arguments)[0][0])


def run_list(arguments: argparse.Namespace) -> int:
    asyncio.run(list_updates(arguments))
    return 0


async def list_updates(arguments: argparse.Namespace) -> None:
    if not arguments.json:
        print(f"{'UID':12}  {'STATE':7}  {'SINCE':20}  {'TRIES':>5}  {'CHANNEL':12}  KEY: ERROR")
    async for seen in letters(arguments).all():
        if seen.state == "done" or (arguments.dead and seen.state != "dead"):
            continue
        if arguments.json:
            print(json.dumps(described(seen)))
            continue
        document = seen.document
        key, channel, since = (None, "?", 0.0) if document is None else (document.key, document.channel, since_of(seen))
        error = "" if seen.error is None else ": " + shown_key(seen.error)
        print(
            f"{seen.letter.uid[:12]}  {seen.state:7}  {shown_time(since):20}  {seen.attempts:5}  {channel[:12]:12}  "
            f"{shown_key(key)}{error}"
        )


def since_of(seen: Seen) -> float:
    from ..state.mail import SetAside

    document = seen.document
    if isinstance(document, SetAside):
        return document.when
    return 0.0 if document is None else document.accepted


def described(seen: Seen) -> dict[str, Any]:
    """Give what may be shown of an update: neither what it says nor its reply token."""
    from ..state.mail import SetAside

    shown: dict[str, Any] = {"uid": seen.letter.uid, "state": seen.state, "attempts": seen.attempts}
    document = seen.document
    if document is not None:
        shown |= {
            "key": document.key,
            "channel": document.channel,
            "id": document.id,
            "order": document.order,
            "accepted": document.accepted,
            "expires": document.expires,
            "bytes": len(document.payload),
        }
        if isinstance(document, SetAside):
            shown["set_aside"] = document.when
            shown["turn_saved"] = document.saved
    if seen.not_before:
        shown["not_before"] = seen.not_before
    return shown | {"error": seen.error}


def run_show(arguments: argparse.Namespace) -> int:
    seen = asyncio.run(letters(arguments).find(arguments.uid))
    shown = described(seen)
    if arguments.payload and seen.document is not None:
        shown["payload"] = seen.document.payload.decode("utf-8", "backslashreplace")
    print(json.dumps(shown, indent=2))
    return 0


def run_retry(arguments: argparse.Namespace) -> int:
    async def retried(box: Letters, seen: Seen) -> str:
        uid = await box.retry(seen, run_again=arguments.run_again)
        return f"{seen.letter.uid[:12]} waits again, as {uid[:12]}"

    return asyncio.run(each_named(arguments, retried))


def run_drop(arguments: argparse.Namespace) -> int:
    return asyncio.run(each_named(arguments, dropped))


async def dropped(box: Letters, seen: Seen) -> str:
    await box.drop(seen)
    return f"{seen.letter.uid[:12]} was dropped"


async def each_named(arguments: argparse.Namespace, work: Callable[[Letters, Seen], Awaitable[str]]) -> int:
    """Work on each update that is named; one that fails does not keep the others from it."""
    if bool(arguments.uid) is arguments.all_dead:
        arguments.error("give either uids or --all-dead")
    box = letters(arguments)
    if arguments.all_dead:
        chosen = [seen async for seen in box.all() if seen.state == "dead"]
    else:
        chosen = [await box.find(uid) for uid in arguments.uid]
    failed = 0
    for seen in chosen:
        try:
            print(await work(box, seen))
        except HostingError as error:
            failed += 1
            print(f"af-hosting: {error}", file=sys.stderr)
    print(f"{counted(len(chosen) - failed, 'update')} in all.")
    return 1 if failed else 0
