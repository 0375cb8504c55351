"""The support agent behind a signed webhook: `af-hosting serve app:host`.

- `WEBHOOK_SECRETS`: texts of 32 characters or more, with commas between them. Replies are signed with the first.
- `REPLY_ORIGIN`: the scheme and host of all that replies may be posted to, such as https://hooks.example.com.
- `STATE_DIR`: where conversations and accepted messages are kept; unset keeps them in memory.
"""

import os
import sys
from pathlib import Path

# The agent's modules lie one folder up.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from agent_app import support_agent
from signatures import Signatures
from webhook import WebhookChannel

from agent_framework_hosting import AgentFrameworkHost

host = AgentFrameworkHost(
    support_agent,
    channels=[
        WebhookChannel(
            Signatures(os.environ.get("WEBHOOK_SECRETS", "").split(",")),
            reply_origin=os.environ.get("REPLY_ORIGIN", ""),
        )
    ],
    state_dir=os.environ.get("STATE_DIR") or None,
)
