"""The support agent on a server of your own: port 8000 of 127.0.0.1, or the port in `PORT`."""

import sys
from pathlib import Path

# The agent's modules lie one folder up.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from agent_host import build_host
from settings import number

from agent_framework_hosting import HostingError

if __name__ == "__main__":
    try:
        build_host(loopback=True).serve(host="127.0.0.1", port=number("PORT", 8000, most=65_535))
    except (HostingError, OSError) as error:
        sys.exit(f"app.py: {error}")
