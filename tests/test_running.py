"""docs/running.md, README and the files of their doors (Docker, dev container, Binder): what they name exists."""

import functools
import itertools
import json
import os
import re
import shlex
import subprocess
import tomllib

import pytest

from kdnb import paths

ROOT = paths.ROOT
PAGE = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SCRIPTS = {name: ROOT / name for name in (".devcontainer/create.sh", ".binder/postBuild")}
CONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
MADE = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
FENCED = re.findall(r"^```(\w*)\n(.*?)^```", f"{PAGE}\n{README}", re.MULTILINE | re.DOTALL)
BLOCKS = [block for language, block in FENCED if not language]


def lines():
    """Every command of the pages and of the files, in words; of a container the part that runs inside."""
    named = re.findall(r"`((?:make|kdnb|uv)\s[^`]+)`", f"{PAGE}\n{README}")
    text = "".join(BLOCKS) + "".join(f"{' '.join(one.split())}\n" for one in named)
    text += "".join(path.read_text(encoding="utf-8") for path in SCRIPTS.values())
    runs = re.findall(r"^RUN (.*?[^\\])$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    text += "".join(part.strip(" \\\n") + "\n" for run in runs for part in run.split("&&"))
    text += " ".join(json.loads(re.search(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)[1]))
    for line in text.splitlines():
        words = shlex.split(line.lstrip("!"), comments=True)
        if words[:2] == ["docker", "run"]:
            words = words[words.index("kdnb") + 1 :]
        if words:
            yield tuple(words)


LINES = sorted(set(lines()))


@functools.cache
def commands():
    import typer

    from kdnb.cli.commands import app

    return typer.main.get_command(app)


def of_kind(*programs):
    found = [line for line in LINES if line[0].rpartition("/")[2] in programs]
    return pytest.mark.parametrize("words", found, ids=" ".join)


@of_kind("kdnb")
def test_a_kdnb_command_and_its_options_are_there(words):
    command, rest = commands(), list(words[1:])
    while rest and hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= known
    if command.name == "run":
        assert (paths.NOTEBOOKS / f"{rest[0]}.ipynb").exists()


@of_kind("make")
def test_a_make_target_is_there(words):
    assert words[1] in MADE


@of_kind("python", "python3", "pip", "uv", "bash", "conda", "touch")
def test_files_that_a_command_reads_are_there_and_torch_is_the_tested_one(words):
    for option in ("-r", "--requirement", "--constraint", "--file"):
        for word, value in itertools.pairwise(words):
            assert word != option or (ROOT / value).is_file(), value
    tested = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert {word for word in words if word.startswith("torch=")} <= {f"torch=={tested}"}
    if words[0] == "bash":
        assert (ROOT / words[1]).is_file()


def test_every_program_is_looked_at():
    """None of the page's commands goes by unread."""
    others = {words[0].rpartition("/")[2] for words in LINES}
    looked_at = {"kdnb", "make", "python", "python3", "pip", "uv", "bash", "conda", "touch"}
    elsewhere = {"docker", "git", "cat", "%cd", "set", "cd", "apt-get", "rm", "useradd", "install"}
    assert others <= looked_at | elsewhere
    assert len(LINES) > 25


def test_links_and_named_files_are_there():
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE):
        assert link.startswith("https://") or (ROOT / "docs" / link).exists(), link
    for name in re.findall(r"`(\.?[\w./-]+\.(?:json|yml|lock|md|sh|toml))`", PAGE):
        assert (ROOT / name).is_file(), name


def test_the_image_installs_by_hash_and_runs_without_rights():
    lines = [line for line in DOCKERFILE.splitlines() if line and not line.startswith(("#", " "))]
    assert re.fullmatch(r"FROM python:3\.\d+-slim-\w+", lines[0])
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users[-1] == "1000"
    assert "--uid 1000" in DOCKERFILE[: DOCKERFILE.index("USER")]
    for line in lines:
        if line.startswith("COPY"):
            assert all((ROOT / source).exists() for source in line.split()[2:-1])
    assert not re.search(r"--ip|0\.0\.0\.0|token|chmod 777|sudo|curl|wget", DOCKERFILE)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored.index("outputs/*") < ignored.index("!outputs/reference")
    assert ".git" in ignored


def test_pip_installs_by_hash_or_from_torchs_index_or_the_project_alone():
    """No door but Binder's, which has an environment of its own, takes a package that no hash was checked of."""
    for words in LINES:
        if "install" in words and words[0].endswith("python") and "--constraint" not in words:
            own = "--no-deps" in words and "--editable" in words
            torch = any(word.startswith("torch==") for word in words) and "--index-url" in words
            assert "--require-hashes" in words or own or torch, words


def test_the_dev_container_is_no_root_and_its_script_is_there():
    assert CONTAINER["remoteUser"] not in ("", "root")
    assert re.fullmatch(r"mcr\.microsoft\.com/devcontainers/python:[\w.-]+", CONTAINER["image"])
    (script,) = shlex.split(CONTAINER["postCreateCommand"])[1:]
    assert script in SCRIPTS
    interpreter = CONTAINER["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert interpreter == "${containerWorkspaceFolder}/.venv/bin/python"


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_bash_stops_at_errors_and_may_be_executed(name):
    text = SCRIPTS[name].read_text(encoding="utf-8")
    assert text.startswith("#!/bin/bash\n")
    assert "\nset -euo pipefail\n" in text
    assert subprocess.run(["bash", "-n", str(SCRIPTS[name])], check=False).returncode == 0
    assert os.access(SCRIPTS[name], os.X_OK)


def test_binder_has_a_python_that_the_project_allows():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    given = (ROOT / ".binder" / "runtime.txt").read_text(encoding="utf-8").strip()
    assert given == f"python-{wanted.removeprefix('>=')}"
