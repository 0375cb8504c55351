"""What is particular about AWS Lambda: its limits, and what its images bring (Developer Guide: quotas, runtimes)."""

from __future__ import annotations

from .platforms import Limit, Platform

MEGABYTE = 1024 * 1024

LAMBDA = Platform(
    name="lambda",
    root="/var/task",
    # Python 3.11 is the last on Amazon Linux 2; the later ones are on Amazon Linux 2023.
    pythons={"3.11": 26, "3.12": 34, "3.13": 34, "3.14": 34},
    supplied=frozenset({"boto3", "botocore", "s3transfer"}),
    supplied_beside=frozenset({"jmespath", "python-dateutil", "six", "urllib3"}),
    executables=frozenset({"agent_framework_hosting_aws_lambda/wrapper"}),
    limits=(
        Limit(
            "zipped",
            50 * MEGABYTE,
            "Lambda takes no more in a direct upload. Put the file into an S3 bucket and name it there (aws lambda "
            "update-function-code --s3-bucket …; sam deploy does so by itself), or deploy a container image.",
            of_folders=False,
        ),
        Limit(
            "unzipped",
            250 * MEGABYTE,
            "Lambda deploys no more as a zip file, layers included. Leave out what the function does not import, or "
            "deploy a container image (up to 10 GB).",
        ),
    ),
)
