"""`python -m agent_framework_hosting_aws_lambda module:host`: the runtime, as Lambda starts it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from agent_framework_hosting import HostingError


def main(arguments: Sequence[str]) -> int:
    """Run the function that is named, or the one that `_HANDLER` names."""
    from .runtime.loading import load, set_up_path
    from .runtime.logs import set_up_logging
    from .runtime.loop import address_of_api, run
    from .runtime.plugins import spare_plugins
    from .runtime.processes import this_command, wanted

    name = arguments[0] if arguments else os.environ.get("_HANDLER", "")
    try:
        address = address_of_api()
        set_up_path()
        spare_plugins()
        if (count := wanted()) > 1:
            from .runtime.parameters import set_parameters
            from .runtime.processes import run_all

            # One request for all of them. If it fails, each tries it again, and tells Lambda.
            with suppress(HostingError):
                set_parameters()
            return run_all(count, this_command(arguments))
        set_up_logging()
        return run(partial(load, name), address)
    except HostingError as error:
        sys.stderr.write(f"agent_framework_hosting_aws_lambda: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
