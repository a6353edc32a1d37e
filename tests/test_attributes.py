"""A clone keeps every byte that is verified by its hash, also where git writes CRLF."""

import shutil
import subprocess

import pytest

from kdnb import paths

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")


def git(*words, at):
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *words], cwd=at, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_a_windows_clone_holds_the_same_bytes(tmp_path):
    reference = paths.ROOT / "outputs" / "reference"
    run = min((reference / "runs").glob("rt-*"))
    kept = [
        *run.iterdir(),
        min((reference / "labels").iterdir()),
        paths.ROOT / "notebooks" / "10_entropy_of_targets.ipynb",
    ]
    kept += [min((reference / "simulations").iterdir()), paths.ROOT / "kdnb" / "paths.py"]
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    for path in [*kept, paths.ROOT / ".gitattributes"]:
        target = origin / path.relative_to(paths.ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    git("init", "-q", at=origin)
    git("add", "-A", at=origin)
    git("commit", "-qm", "as it is", at=origin)
    git(
        "-c",
        "core.autocrlf=true",
        "clone",
        "-q",
        "--config",
        "core.autocrlf=true",
        str(origin),
        str(clone),
        at=tmp_path,
    )
    for path in kept:
        assert (clone / path.relative_to(paths.ROOT)).read_bytes() == path.read_bytes(), path.name
    assert git("status", "--porcelain", at=clone) == ""
