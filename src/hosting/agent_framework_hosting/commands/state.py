"""`af-hosting state`: look at what is stored, and remove it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any, cast

from ..errors import ConfigurationError
from .arguments import add_key, add_settle, find_path, positive, retention, unknown
from .deleting import add_delete
from .places import add_place, find_place
from .printing import counted, shown_key, shown_size, shown_time

if TYPE_CHECKING:
    from ..state.retention import Pruned
    from . import Subparsers

UNSET = object()


def add_to(commands: Subparsers) -> None:
    state = commands.add_parser("state", help="look at stored conversations, and remove them")
    actions = state.add_subparsers(dest="action", required=True)

    listing = actions.add_parser("list", help="list conversations")
    add_place(listing)
    listing.add_argument("--deleted", action="store_true", help="what is left of removed ones, too")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(run=run_list)

    show = actions.add_parser("show", help="show one conversation")
    add_key(show)
    add_place(show)
    show.add_argument("--content", action="store_true", help="what was said, too")
    show.add_argument("--json", action="store_true", help="as one JSON object")
    show.set_defaults(run=run_show, error=show.error)

    add_delete(actions)

    prune = actions.add_parser("prune", help="remove what is not used any more; safe beside running hosts")
    add_place(prune)
    prune.add_argument(
        "--retention",
        type=retention,
        default=UNSET,
        metavar="TIME",
        help="remove what was not used for 30d, 12h, …, or never (default: the limit of the --host)",
    )
    prune.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    prune.add_argument("--quiet", action="store_true", help="no progress")
    add_settle(prune)
    prune.add_argument("--batch", type=positive, default=1000, help="documents at a time (default: %(default)s)")
    prune.add_argument(
        "--operations", type=positive, default=16, help="operations of the store at once (default: %(default)s)"
    )
    prune.set_defaults(run=run_prune)


def run_list(arguments: argparse.Namespace) -> int:
    asyncio.run(list_conversations(arguments))
    return 0


async def list_conversations(arguments: argparse.Namespace) -> None:
    import msgspec

    from ..state.inspection import Inspection

    stores, _ = find_place(arguments)
    header = "" if arguments.json else f"{'HASH':12}  {'LAST USED':20}  {'SIZE':>9}  {'UPDATES':>7}  {'STATE':7}  KEY\n"
    async for rows in Inspection(stores).rows():
        for row in rows:
            print(end=header)
            header = ""
            if row.state == "deleted" and not arguments.deleted:
                continue
            if arguments.json:
                print(msgspec.json.encode(row).decode())
            else:
                print(
                    f"{row.hash[:12]}  {shown_time(row.last_used):20}  {shown_size(row.size):>9}  {row.updates:7}  "
                    f"{row.state:7}  {shown_key(row.key)}"
                )
    print(end=header)


def run_show(arguments: argparse.Namespace) -> int:
    if (arguments.key is None) is (arguments.hash is None):
        arguments.error("give either a key or --hash")
    asyncio.run(show_conversation(arguments))
    return 0


async def show_conversation(arguments: argparse.Namespace) -> None:
    from ..state.inspection import Inspection

    stores, _ = find_place(arguments)
    inspection = Inspection(stores)
    path = await find_path(inspection, arguments.key, arguments.hash)
    shown = await inspection.show(path, arguments.key, content=arguments.content)
    if shown is None:
        raise unknown()
    if arguments.json:
        print(json.dumps(shown))
        return
    for name, value in shown.items():
        print_value(name, value)


def print_value(name: str, value: Any) -> None:
    """Print a value on the line of its name; the items of a list on lines below it."""
    if name == "key":
        print(f"key: {shown_key(value, longest=None)}")
    elif name in ("last_used", "deleted"):
        print(f"{name.replace('_', ' ')}: {shown_time(value)}")
    elif name == "size":
        print(f"size: {shown_size(value)}")
    elif isinstance(value, list):
        items = cast("list[object]", value)
        print(f"{name.replace('_', ' ')}: {len(items) or 'none'}")
        for item in items:
            print(f"  {item if isinstance(item, str) else json.dumps(item)}")
    else:
        print(f"{name.replace('_', ' ')}: {value if isinstance(value, str | int) else json.dumps(value)}")


def run_prune(arguments: argparse.Namespace) -> int:
    from ..state.retention import Pruner

    stores, limits = find_place(arguments)
    kept_for = arguments.retention
    if kept_for is UNSET:
        if limits is None:
            raise ConfigurationError(
                "How long are conversations kept here? Say --retention 30d, or --retention never to remove nothing but "
                "garbage; with --host it is HostLimits.retention."
            )
        kept_for = limits.retention

    def tell(pruned: Pruned) -> None:
        if not arguments.quiet:
            print(f"{counted(pruned.seen, 'document')} seen, {removed(pruned)}", file=sys.stderr, flush=True)

    def removed(pruned: Pruned) -> str:
        would = " would be" if arguments.dry_run else ""
        conversations = counted(pruned.conversations, "idle conversation")
        return f"{conversations} and {counted(pruned.documents, 'document')}{would} removed"

    pruner = Pruner(
        stores,
        retention=kept_for,
        settle=arguments.settle,
        dry_run=arguments.dry_run,
        batch=arguments.batch,
        operations=arguments.operations,
        progress=tell,
    )
    try:
        pruned = asyncio.run(pruner.run())
    except KeyboardInterrupt:
        print("Interrupted. What was removed is removed; the next prune does the rest.", file=sys.stderr)
        raise
    print(f"{removed(pruned)[0].upper()}{removed(pruned)[1:]}; {counted(pruned.seen, 'document')} seen.")
    if pruned.stamped:
        print(f"{counted(pruned.stamped, 'conversation')} of an earlier release count as last used now.")
    if pruned.postponed:
        print(f"{counted(pruned.postponed, 'conversation')} may be in use: left to another prune.")
    for name in sorted(pruned.damaged):
        print(f"af-hosting: {name} cannot be read and was kept, with all that belongs to it.", file=sys.stderr)
    return 0
