"""What is told of an artefact, and of limits that it passes."""

from __future__ import annotations

import argparse
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from agent_framework_hosting.cli import main
from agent_framework_hosting.commands import package
from agent_framework_hosting.packaging.artefact import Sizes
from agent_framework_hosting.packaging.aws_lambda import LAMBDA, MEGABYTE
from agent_framework_hosting.packaging.platforms import Target
from agent_framework_hosting.packaging.report import Package, Report
from tests.hosting.packaging.making import Workshop, make_wheel

TARGET = Target("3.13", "arm64", 34)


def made(unzipped: int, zipped: int, *, as_folder: bool = False) -> Report:
    whole = Sizes(unzipped, zipped)
    path = Path("function.zip")
    return Report(path, as_folder, TARGET, LAMBDA.limits, [Package("tea", "1.0", whole)], Sizes(), whole, True, [])


def test_the_ten_largest_are_listed_and_the_rest_in_one_line(workshop: Workshop) -> None:
    names = [f"tea{number}" for number in range(13)]
    for number, name in enumerate(names):
        make_wheel(workshop.wheels, name, f"{number}.0", {f"{name}.py": "x" * 2000 * number})
    workshop.require(*names)
    code, out, _ = workshop.run("--no-bytecode")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["PACKAGE", "VERSION", "UNZIPPED", "ZIPPED"]
    assert [line.split()[:2] for line in lines[1:11]] == [[f"tea{n}", f"{n}.0"] for n in range(12, 2, -1)]
    assert lines[11].startswith("3 more ")
    assert [line[:9].strip() for line in lines[12:16]] == ["your code", "in all", "limit", "left"]
    assert lines[14].split()[-4:] == ["250.0", "MB", "50.0", "MB"]
    assert lines[-1] == f"{workshop.output}: x86_64, Python 3.13, without bytecode."


def test_the_same_is_told_as_one_object_and_is_true(workshop: Workshop) -> None:
    workshop.write("data.txt", "tea " * 1000)
    report = workshop.report("--no-bytecode", "--arch", "arm64")
    with zipfile.ZipFile(workshop.output) as archive:
        entries = archive.infolist()
    assert report["zipped"] == workshop.output.stat().st_size
    assert report["unzipped"] == sum(each.file_size for each in entries)
    tea = [each for each in entries if each.filename.startswith("tea")]
    assert report["packages"] == [
        {
            "name": "tea",
            "version": "1.0",
            "unzipped": sum(each.file_size for each in tea),
            "zipped": sum(each.compress_size for each in tea),
        }
    ]
    assert (report["architecture"], report["python"], report["artefact"]) == ("arm64", "3.13", str(workshop.output))
    assert report["code"]["unzipped"] + tea[0].file_size > 4000
    assert report["limits"] == {"zipped": 50 * MEGABYTE, "unzipped": 250 * MEGABYTE}
    assert report["left"] == {name: report["limits"][name] - report[name] for name in ("zipped", "unzipped")}
    assert report["passed"] == []


def test_a_limit_is_passed_by_one_byte() -> None:
    assert list(made(250 * MEGABYTE, 50 * MEGABYTE).passed()) == []
    (said,) = made(0, 50 * MEGABYTE + 1).passed()
    assert "S3" in said and "image" in said
    (said,) = made(250 * MEGABYTE + 1, 0).passed()
    assert "image" in said
    assert len(list(made(300 * MEGABYTE, 60 * MEGABYTE).passed())) == 2
    assert "-10.0 MB" in made(0, 60 * MEGABYTE).table()


def test_a_folder_is_uploaded_by_a_tool_that_knows_other_ways() -> None:
    assert list(made(0, 60 * MEGABYTE, as_folder=True).passed()) == []
    assert len(list(made(251 * MEGABYTE, 60 * MEGABYTE, as_folder=True).passed())) == 1


def test_too_large_an_artefact_is_written_and_is_a_failure(workshop: Workshop) -> None:
    """It can go another way."""
    parser = argparse.ArgumentParser()
    package.add_lambda(parser.add_subparsers())
    narrow = replace(LAMBDA, limits=[replace(limit, size=1024) for limit in LAMBDA.limits])
    workshop.write("model.bin", "tea " * 1000)
    where = ["--output", str(workshop.output), "--find-links", str(workshop.wheels), "--no-index", "--no-bytecode"]
    code = package.build(parser.parse_args(["lambda", str(workshop.app), "--json", *where]), narrow)
    out, said = workshop.capsys.readouterr()
    assert code == 1
    assert json.loads(out)["left"]["unzipped"] < -3000
    assert len(json.loads(out)["passed"]) == 2
    assert "unzipped, 1.0 KB allowed: Lambda deploys no more" in said
    assert workshop.output.is_file()


@pytest.mark.parametrize(
    "arguments", [["--python", "3.9"], ["--arch", "riscv"], ["--output", "a", "--output-dir", "b"]]
)
def test_what_lambda_does_not_have_is_refused(workshop: Workshop, arguments: list[str]) -> None:
    try:
        code = main(["package", "lambda", str(workshop.app), *arguments])
    except SystemExit as stopped:
        code = stopped.code
    assert code in (1, 2)
    assert arguments[0] in workshop.capsys.readouterr().err
