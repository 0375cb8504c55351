"""What a machine has is taken, and what it lacks is fetched: on machines made of a folder, without a network."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from scripts.toolchain import AWS_SAM_CLI, EMULATORS
from scripts.workspace import CONSTRAINTS, ROOT

FAILING_UV = '[ "$1" = --version ] && echo uv 99.0.0'
# These put what they are asked for where an option says.
PYTHON_FETCHING_UV = """
[ "$1" = --version ] && echo uv 99.0.0 && exit
while [ "$1" != --install-dir ]; do shift; done
folder="$2/cpython-3.99.2-any/bin"
/bin/mkdir -p "$folder"
printf '#!/bin/sh\\necho 3 99 2\\necho "$0"\\n' > "$folder/python3.99"
/bin/chmod +x "$folder/python3.99"
"""
EMULATOR_FETCHING_UV = f"""
[ "$1" = --version ] && echo uv 99.0.0 && exit
while [ "$1" != --target ]; do shift; done
/bin/mkdir -p "$2/samcli/local/rapid"
echo emulator > "$2/samcli/local/rapid/{EMULATORS.get(platform.machine())}"
"""
SAM_FETCHING_UV = """
[ "$1" = --version ] && echo uv 99.0.0 && exit
/bin/echo "$@" >> asked
if [ "$1" = venv ]; then for home; do :; done; /bin/mkdir -p "$home/bin"; else : > "${5%python}sam"; fi
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="the Lambda emulator runs on Linux only")


class Machine(NamedTuple):
    """A folder with `commands`, which is all of its PATH, and a `workspace` that has a copy of the scripts."""

    folder: Path

    def put(self, path: str, script: str) -> Path:
        """Make an executable in the folder."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return file

    def bring(self, call: str, **environ: str) -> str:
        """Call the toolchain; give what it returns, or what the machine lacks."""
        code = (
            "from scripts import toolchain\n"
            f"try: print(toolchain.{call})\n"
            "except toolchain.Lacking as lack: print('Lacking:', lack)"
        )
        alone = {
            "PATH": str(self.folder / "commands"),
            "HOME": str(self.folder),
            "PYENV_ROOT": str(self.folder / "pyenv"),
            "PIP_NO_INDEX": "1",
            "PIP_CONFIG_FILE": os.devnull,
        }
        command = [sys.executable, "-c", code]
        workspace, env = self.folder / "workspace", {**alone, **environ}
        ran = subprocess.run(command, cwd=workspace, env=env, capture_output=True, text=True, timeout=60, check=True)
        return ran.stdout.splitlines()[-1]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    folder = tmp_path.resolve()
    shutil.copytree(ROOT / "scripts", folder / "workspace" / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CONSTRAINTS, folder / "workspace")
    return Machine(folder)


@pytest.mark.parametrize("said", ["uv 0.9.0", "uv 0.13.9 (c0ffee123 2026-10-01)", "uv 1.0.0"])
def test_a_uv_that_is_new_enough_is_taken(machine: Machine, said: str) -> None:
    uv = machine.put("commands/uv", f"echo '{said}'")
    machine.put("workspace/.tools/uv/bin/uv", "echo uv 99.0.0")
    assert machine.bring("uv()") == str(uv)


@pytest.mark.parametrize("script", ["echo uv 0.8.24", "echo uv 0.10.0 >&2; exit 1"])
def test_a_uv_that_is_too_old_or_does_not_start_is_not_taken(machine: Machine, script: str) -> None:
    machine.put("commands/uv", script)
    own = machine.put("workspace/.tools/uv/bin/uv", "echo uv 0.9.0")
    assert machine.bring("uv()") == str(own)


def test_a_uv_that_cannot_be_fetched_is_asked_for(machine: Machine) -> None:
    machine.put("commands/uv", "echo uv 0.8.24")
    said = machine.bring("uv()")
    assert said.startswith("Lacking: uv could not be fetched: install uv, or python3-venv")


def test_a_python_of_pyenv_is_taken(machine: Machine) -> None:
    python = machine.put("pyenv/versions/3.99.1/bin/python", 'echo 3 99 1; echo "$0"')
    assert machine.bring("python(3, 99)") == f"Python 3.99.1 ({python})"


def test_a_python_that_the_machine_lacks_is_fetched_once(machine: Machine) -> None:
    uv = machine.put("commands/uv", PYTHON_FETCHING_UV)
    fetched = machine.folder / "workspace" / ".tools" / "python" / "cpython-3.99.2-any" / "bin" / "python3.99"
    assert machine.bring("python(3, 99)") == f"Python 3.99.2 ({fetched})"
    uv.unlink()
    assert machine.bring("python(3, 99)") == f"Python 3.99.2 ({fetched})"


def test_a_python_that_cannot_be_fetched_is_asked_for(machine: Machine) -> None:
    machine.put("commands/uv", FAILING_UV)
    said = machine.bring("python(3, 99)")
    assert said == "Lacking: Python 3.99 could not be fetched: install it so that `python3.99` is on PATH"


def test_a_machine_without_node_has_none(machine: Machine) -> None:
    assert machine.bring("has_node()") == "False"


def test_the_node_of_the_environment_is_not_the_machines(machine: Machine) -> None:
    own = machine.put("workspace/.venv/bin/node", "").parent
    assert machine.bring("has_node()", PATH=str(own)) == "False"


def test_the_machines_node_counts_also_behind_that_of_the_environment(machine: Machine) -> None:
    theirs = machine.put("commands/node", "").parent
    own = machine.put("workspace/.venv/bin/node", "").parent
    assert machine.bring("has_node()") == "True"
    assert machine.bring("has_node()", PATH=f"{own}{os.pathsep}{theirs}") == "True"


def test_an_emulator_that_is_named_is_taken_as_it_is(machine: Machine) -> None:
    named = machine.put("workspace/own/emulator", "")
    assert machine.bring("lambda_emulator()", LAMBDA_RIE=str(named)) == str(named)
    assert machine.bring("lambda_emulator()", LAMBDA_RIE="own/emulator") == str(named)


def test_an_emulator_that_is_named_and_is_not_there_is_lacking(machine: Machine) -> None:
    said = machine.bring("lambda_emulator()", LAMBDA_RIE="/absent")
    assert said == "Lacking: the Lambda emulator: there is no /absent, which LAMBDA_RIE names"


@linux
def test_an_emulator_is_fetched_once(machine: Machine) -> None:
    uv = machine.put("commands/uv", EMULATOR_FETCHING_UV)
    fetched = machine.folder / "workspace" / ".tools" / "aws-lambda-rie"
    assert machine.bring("lambda_emulator()") == str(fetched)
    assert fetched.read_text() == "emulator\n" and os.access(fetched, os.X_OK)
    uv.unlink()
    assert machine.bring("lambda_emulator()") == str(fetched)


@linux
def test_an_emulator_that_cannot_be_fetched_says_what_holds_it(machine: Machine) -> None:
    machine.put("commands/uv", FAILING_UV)
    said = machine.bring("lambda_emulator()")
    assert said.startswith("Lacking: the Lambda emulator could not be fetched: aws-sam-cli==")


NPM = """
while [ "$1" != --prefix ]; do shift; done
/bin/mkdir -p "$2/node_modules/azurite/dist/src/blob"
echo azurite > "$2/node_modules/azurite/dist/src/blob/main.js"
"""


def test_azurite_is_fetched_once(machine: Machine) -> None:
    machine.put("commands/node", "")
    npm = machine.put("commands/npm", NPM)
    fetched = machine.folder / "workspace/.tools/azurite/node_modules/azurite/dist/src/blob/main.js"
    assert machine.bring("azurite()") == str(fetched)
    assert fetched.read_text() == "azurite\n"
    npm.unlink()
    assert machine.bring("azurite()") == str(fetched)


def test_azurite_is_fetched_by_the_npm_of_the_environment_where_the_machine_has_none(machine: Machine) -> None:
    machine.put("workspace/.venv/bin/node", "")
    machine.put("workspace/.venv/bin/npm", NPM)
    assert machine.bring("azurite()").endswith("main.js")


def test_azurite_that_cannot_be_fetched_is_lacking(machine: Machine) -> None:
    assert machine.bring("azurite()").startswith("Lacking: Azurite could not be fetched: there is no npm")
    machine.put("commands/node", "")
    machine.put("commands/npm", "exit 1")
    assert machine.bring("azurite()").startswith("Lacking: Azurite could not be fetched: npm did not install azurite@")


def test_sam_is_fetched_once(machine: Machine) -> None:
    machine.put("commands/uv", SAM_FETCHING_UV)
    sam = machine.folder / "workspace" / ".tools" / "sam" / "bin" / "sam"
    assert [machine.bring("sam()"), machine.bring("sam()")] == [str(sam)] * 2
    asked = (machine.folder / "workspace" / "asked").read_text().splitlines()
    assert [line.split()[0] for line in asked] == ["venv", "pip"]
    assert asked[-1].endswith(f" {AWS_SAM_CLI}")


def test_a_sam_that_cannot_be_fetched_is_lacking(machine: Machine) -> None:
    machine.put("commands/uv", f"{FAILING_UV} || exit 1")
    assert machine.bring("sam()").startswith("Lacking: AWS SAM could not be fetched")
