"""What SAM and cfn-lint make of a template; runs in `.tools/sam`, which has them.

`python -m tests.infra.sam_side TEMPLATE NAME…` takes `{name: parameters}` as JSON from standard input and gives
`{name: the settled template}`. Beside them stand, under `""`, the transformed template with all its choices and, under
`"faults"`, what cfn-lint finds in those that were named, a second of work each.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from cfnlint.api import lint
from cfnlint.config import ManualArgs
from cfnlint.decode import cfn_yaml
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from tests.support.cloudformation import Choices

REGION = "us-east-1"


class Session:
    """As much of a boto3 session as the transform asks for."""

    region_name = REGION


def transformed(template: Path) -> dict[str, Any]:
    """Transform as the service does, the package being uploaded."""
    written: dict[str, Any] = json.loads(json.dumps(cfn_yaml.load(str(template))))
    written["Resources"]["HostFunction"]["Properties"]["CodeUri"] = "s3://packages/key"
    return Translator({}, Parser(), boto_session=Session()).translate(written, {})


def faults(template: dict[str, Any]) -> list[str]:
    found = lint(json.dumps(template), config=ManualArgs(regions=[REGION]))
    # Notes (I) ask for annotations and the like.
    return [f"{each.rule.id} {each.message}" for each in found if not each.rule.id.startswith("I")]


def main() -> None:
    wanted: dict[str, dict[str, str]] = json.load(sys.stdin)
    template = transformed(Path(sys.argv[1]))
    answers: dict[str, Any] = {name: Choices(template, given).settled() for name, given in wanted.items()}
    answers |= {"": template, "faults": {name: faults(answers[name]) for name in sys.argv[2:]}}
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
