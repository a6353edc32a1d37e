"""What the project is made of: the locks fit the requirements, licences are told, an audit says what it did not see."""

import email.message
import importlib.metadata
import json
import re
import runpy
import shlex
import subprocess
import sys
import sysconfig
import tomllib

import pytest
from packaging.requirements import Requirement

from kdnb import paths

LOCK = (paths.ROOT / "requirements.lock").read_text(encoding="utf-8")
TORCH_LOCK = (paths.ROOT / "requirements-torch.lock").read_text(encoding="utf-8")
PACKAGES = re.findall(r"^[^#\s].*(?:\n .*)*", LOCK + TORCH_LOCK, re.MULTILINE)
PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TOOLS = paths.ROOT / "tools"
lock, licences, audit = (runpy.run_path(str(TOOLS / f"{name}.py")) for name in ("lock", "licences", "audit"))


def locked():
    """Name -> (version, marker or "")."""
    found = [Requirement(one.split("\\")[0].strip()) for one in PACKAGES]
    assert len({one.name for one in found}) == len(found)
    return {one.name: (str(one.specifier).removeprefix("=="), str(one.marker or "")) for one in found}


def test_each_locked_package_has_its_version_and_hashes_and_no_address():
    shape = r"[a-z0-9][a-z0-9-]*==[\w.]+(?: ; [^\\]+)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+"
    assert not [one for one in PACKAGES if not re.fullmatch(shape, one)]
    assert len(PACKAGES) > 150
    plain = re.sub(r"^#.*$", "", LOCK + TORCH_LOCK, flags=re.MULTILINE)
    assert not re.search(r"://|file:|index-url|find-links|(?<![\w.])/", plain)


def test_versions_are_the_tested_ones():
    tested = dict(re.findall(r"^([\w.-]+)==(\S+)$", (paths.ROOT / "constraints.txt").read_text(), re.MULTILINE))
    tested = {licences["normal"](name): version for name, version in tested.items()}
    found = locked()
    assert {name for name in tested if name not in found} == {"liger-kernel"}  # of an extra that is not locked
    assert {name: found[name][0] for name in tested if name in found} == {
        name: version for name, version in tested.items() if name in found
    }


def test_whatever_the_project_asks_for_is_locked_in_its_range():
    found = locked()
    extras = PROJECT["optional-dependencies"]
    for text in [*PROJECT["dependencies"], *(one for name in lock["EXTRAS"] for one in extras[name])]:
        wanted = Requirement(text)
        version, marker = found[licences["normal"](wanted.name)]
        assert wanted.specifier.contains(version), text
        assert not marker, f"{text} is locked for some systems alone"


def test_the_rest_can_be_had_without_torch():
    """No package of CUDA in the first lock, nothing but them and torch in the second."""
    assert "torch==" not in LOCK
    assert not re.search(r"^(?:nvidia|cuda|triton)", LOCK, re.MULTILINE)
    assert set(re.findall(r"^([a-z]+)", TORCH_LOCK, re.MULTILINE)) == {"cuda", "nvidia", "torch", "triton"}


def test_a_resolution_is_split_with_its_hashes():
    first, second = "a==1 ; x \\\n    --hash=sha256:1 \\\n    --hash=sha256:2\n", "torch==2 \\\n    --hash=sha256:3\n"
    assert lock["split"](f"# made\n{first}{second}torchvision==1\n") == (f"{first}torchvision==1\n", second)


def package(**fields):
    """The metadata of a package."""
    told = email.message.Message()
    for name, values in fields.items():
        for value in [values] if isinstance(values, str) else values:
            told[name.replace("_", "-")] = value
    return told


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License_Expression": "MIT AND Zlib", "License": "BSD"}, "MIT AND Zlib"),
        ({"License": "Apache 2.0 License"}, "Apache-2.0"),
        ({"License": "MPL-2.0 AND MIT"}, "MPL-2.0 AND MIT"),
        (
            {"License": "UNKNOWN", "Classifier": ["Topic :: Text", "License :: OSI Approved :: ISC License (ISCL)"]},
            "ISC",
        ),
        ({"License": "Copyright (c) 2015", "Classifier": ["License :: OSI Approved :: BSD License"]}, "BSD"),
        ({"Classifier": ["License :: OSI Approved :: GNU General Public License v3 (GPLv3)"]}, ""),
        ({}, ""),
    ],
)
def test_a_licence_is_read_from_what_a_package_says(fields, expected):
    assert licences["licence"](package(**fields)) == expected


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True), ("Apache-2.0 WITH LLVM-exception AND MIT", True), ("GPL-3.0-only", False), ("", False),
        ("GPL-2.0-only OR MIT", True), ("MIT AND LGPL-3.0-only", False),
        ("AGPL-3.0-only OR (GPL-2.0-only AND MIT)", False),
    ],
)  # fmt: skip
def test_what_may_be_used_with_mit(expression, allowed):
    assert licences["allowed"](expression) is allowed


@pytest.mark.slow
def test_the_page_of_licences_tells_those_of_the_installed_packages():
    page = licences["PAGE"].read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?!licence|-)(.+?) \| (\d+) \| (.+) \|$", page, re.MULTILINE)
    told = {licences["normal"](name): one for one, _, names in rows for name in names.split(", ")}
    assert all(int(count) == len(names.split(", ")) for _, count, names in rows)
    assert all(licences["allowed"](one) for one in told.values())
    names = licences["locked"]()
    assert set(told) <= names
    below = page[page.index("Not looked at") :].split()
    assert not {name for name in names - set(told) if name not in {word.strip(",.") for word in below}}
    here = licences["installed"](set(told)).items()
    tested = locked()
    found = {name: one for name, (_, version, one) in here if version.split("+")[0] == tested[name][0]}
    assert found == {name: told[name] for name in found}
    assert len(found) > 100


def test_an_audit_that_looked_nothing_up_is_not_called_clean():
    skipped = {"name": "a", "skip_reason": "not found"}
    clean = {"name": "b", "version": "1", "vulns": []}
    bad = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1", "3"]}]}
    for nothing in (None, [], [skipped]):
        assert audit["verdict"](nothing) == (
            2,
            ["audit: the vulnerability service of PyPI gave no answer; nothing was looked up"],
        )
    told = "audit: 1 packages looked up, 0 known vulnerabilities, 1 packages the service does not know"
    assert audit["verdict"]([skipped, clean]) == (0, [told])
    assert audit["verdict"]([clean, bad])[0] == 1
    assert audit["verdict"]([clean, bad])[1][0] == "c 2: CVE-1, fixed in 2.1, 3"


def test_hooks_run_what_make_lint_runs_and_fetch_nothing():
    import yaml

    config = yaml.safe_load((paths.ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert {one["repo"] for one in config["repos"]} == {"local"}
    hooks = {hook["id"]: hook for one in config["repos"] for hook in one["hooks"]}
    assert all(hook["language"] in ("system", "unsupported") for hook in hooks.values())
    assert {"ruff", "ruff-format", "mypy", "notebooks"} <= set(hooks)
    for hook in hooks.values():
        assert not re.search(r"https?://|pip install", hook["entry"])


def test_a_notebook_with_output_is_refused(tmp_path):
    notebook = {"cells": [{"cell_type": "code", "source": "1", "outputs": [], "execution_count": None}]}
    paths_of = {}
    for name, changes in {"clean": {}, "run": {"execution_count": 3}, "shown": {"outputs": [{"text": "1"}]}}.items():
        paths_of[name] = tmp_path / f"{name}.ipynb"
        cell = notebook["cells"][0] | changes
        paths_of[name].write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": ""}, cell]}))
    words = [sys.executable, str(TOOLS / "clean_notebooks.py"), *map(str, paths_of.values())]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert [line.split(":")[0].rpartition("/")[2] for line in done.stderr.splitlines()] == ["run.ipynb", "shown.ipynb"]
    assert subprocess.run(words[:3], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_the_bill_of_materials_has_every_installed_package(tmp_path):
    """What `make sbom` runs: each distribution with its version, and none besides."""
    tool = paths.ROOT / ".venv-tools" / "bin" / "cyclonedx-py"
    if not tool.exists():
        pytest.skip("the tools are not installed (make audit installs them)")
    recipe = subprocess.run(["make", "-n", "sbom"], cwd=paths.ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = [one for one in recipe.splitlines() if "cyclonedx-py" in one]
    told = tmp_path / "sbom.cdx.json"
    words = [sys.executable if one.endswith("/python") else one for one in shlex.split(line)[1:]]
    words[words.index("--output-file") + 1] = str(told)
    subprocess.run([tool, *words], capture_output=True, check=True)
    bill = json.loads(told.read_text(encoding="utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    listed = {licences["normal"](one["name"]): one["version"] for one in bill["components"]}
    # of the environment alone: once a test imported Ray, sys.path holds the packages that Ray brings along as well
    here = importlib.metadata.distributions(path=[sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    installed = {licences["normal"](one.name): one.version for one in here}
    assert listed == installed
    assert len(listed) > 100
