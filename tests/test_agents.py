"""AGENTS.md: its commands are there, and so are the files and folders that it names."""

import re

import pytest

from kdnb import paths
from kdnb.cli.main import COMMANDS

PAGE = (paths.ROOT / "AGENTS.md").read_text(encoding="utf-8")
LINES = [line.split("#")[0].split() for line in PAGE.split("```")[1].strip().splitlines()]
MADE = re.findall(r"^([a-z-]+):", (paths.ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_a_command_is_there(words):
    program, first = words[0].rpartition("/")[2], words[1]
    if program == "make":
        assert first in MADE
    elif program == "kdnb":
        assert first in COMMANDS
        assert first != "run" or (paths.NOTEBOOKS / f"{words[2]}.ipynb").exists()
    else:
        assert (paths.ROOT / words[3]).exists()


def test_what_it_names_is_there():
    named = re.findall(r"`([a-z_]+/[^`]*)`|\]\(([^)]+)\)", PAGE)
    assert len(named) >= 5
    for name in filter(None, (path or link for path, link in named)):
        assert (paths.ROOT / name).exists(), name
