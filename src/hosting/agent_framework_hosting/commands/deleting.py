"""`af-hosting state delete`: one conversation, or all that is somebody's."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .arguments import add_key, add_settle, find_path, unknown
from .places import add_place, find_place
from .printing import counted, shown_key, shown_size, shown_time

if TYPE_CHECKING:
    from ..state.belonging import Candidate, Found
    from ..state.store import StateStore
    from . import Subparsers

LEFT = 3
"""The exit code where something of the identity is still there."""


def add_delete(actions: Subparsers) -> None:
    delete = actions.add_parser(
        "delete",
        help="delete a conversation, or all that is somebody's",
        description="Delete a conversation, or all that is somebody's. docs/deleting-data.md says what else to delete.",
        epilog=f"Exit code {LEFT}: something of the identity was left, for others took part or it cannot be read.",
    )
    add_key(delete)
    delete.add_argument(
        "--identity", nargs=2, metavar=("CHANNEL", "NATIVE_ID"), help="or everything of this caller of a channel"
    )
    add_place(delete)
    delete.add_argument(
        "--shared", action="store_true", help="with --identity: conversations in which others took part, too"
    )
    delete.add_argument("--dry-run", action="store_true", help="say what would be deleted, and delete nothing")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    delete.add_argument(
        "--no-wait", action="store_true", help="leave what a running turn may still write to the next prune"
    )
    add_settle(delete)
    delete.set_defaults(run=run_delete, error=delete.error)


def run_delete(arguments: argparse.Namespace) -> int:
    if sum(given is not None for given in (arguments.key, arguments.hash, arguments.identity)) != 1:
        arguments.error("give one of a key, --hash and --identity")
    stores, _ = find_place(arguments)
    found = asyncio.run(find(arguments, stores))
    going = [candidate for candidate in found.conversations if arguments.shared or not candidate.shared]
    left = [candidate for candidate in found.conversations if candidate not in going]
    for candidate in going:
        print(line_of(candidate))
    if found.documents:
        print(f"{counted(len(found.documents), 'document')} of the channel {arguments.identity[0]}")
    if left:
        print("Others took part in these too; --shared deletes them as well:")
        for candidate in left:
            print(f"  {line_of(candidate)}")
    for name in found.damaged:
        print(f"af-hosting: {name} cannot be read: whose it is cannot be told, and it is kept.", file=sys.stderr)
    result = LEFT if left or found.damaged else 0
    if not going and not found.documents:
        print("Nothing to delete.")
        return result
    if arguments.dry_run:
        print("Nothing was deleted (--dry-run).")
        return result
    if not arguments.yes and not confirmed():
        print("Nothing was deleted.")
        return 1
    asyncio.run(delete(arguments, stores, going, found.documents))
    return result


async def find(arguments: argparse.Namespace, stores: Sequence[StateStore]) -> Found:
    from ..state.belonging import Finder, Found
    from ..state.inspection import Inspection

    finder = Finder(stores)
    if arguments.identity is not None:
        return await finder.find_person(*arguments.identity)
    path = await find_path(Inspection(stores), arguments.key, arguments.hash)
    candidate = await finder.find(path, arguments.key)
    if candidate is None:
        raise unknown()
    # Who names a conversation has decided, whoever took part.
    return Found([candidate])


def line_of(candidate: Candidate) -> str:
    head = candidate.head
    used = "never used" if head is None else f"last used {shown_time(head.when)}, {shown_size(head.size)}"
    return f"{candidate.path[3:15]}  {shown_key(candidate.key)}  ({used})"


def confirmed() -> bool:
    if not sys.stdin.isatty():
        raise ConfigurationError("Nobody is there to be asked: say --yes to delete this.")
    return input("Delete this for ever? [y/N] ").strip().lower() in ("y", "yes")


async def delete(
    arguments: argparse.Namespace, stores: Sequence[StateStore], going: Sequence[Candidate], documents: Sequence[str]
) -> None:
    from ..state.deletion import Deleter

    deleter = Deleter(stores)
    deleted = await deleter.delete(going, documents)
    if deleted.interrupted and arguments.no_wait:
        print("A turn was running: what it may still write goes with the next prune.")
    elif deleted.interrupted:
        print(f"A turn was running: waiting {arguments.settle:g} s for what it may still write.", file=sys.stderr)
        await deleter.delete_rest(deleted, after=arguments.settle)
    conversations = counted(deleted.conversations, "conversation")
    print(f"Deleted {conversations} and {counted(deleted.documents, 'document')} beside them.")
    if deleted.foreign:
        print("Delete these checkpoints in the storage that you gave to the host: " + ", ".join(deleted.foreign))
