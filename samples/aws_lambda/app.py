"""The support agent on AWS Lambda: the function's handler is `app.handler`, on the stock runtime and on ours."""

import os
import sys
from pathlib import Path

# In the repository the agent's modules lie one folder up; in a deployment package they lie beside this file and win.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from agent_host import build_host

from agent_framework_hosting_aws_lambda import LambdaHandler, SqsInbox, iam_identity

# infra/aws says so where AWS checks the signature of each call: then the caller is whom it names.
auth = iam_identity if os.environ.get("AUTH_TYPE") == "AWS_IAM" else None
queue = os.environ.get("QUEUE_URL")
host = build_host(auth=auth, inbox=SqsInbox(queue) if queue else None)
handler = LambdaHandler(host)
