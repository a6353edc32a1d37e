"""The benchmark stays alive: kdnb's own side of it in two steps; no time is asserted."""

import ast
import json
import subprocess
import sys

import pytest

from kdnb import paths

BENCHMARKS = paths.ROOT / "benchmarks"
CONTESTANTS = {"accelerate", "textbrewer", "torchdistill"}


def imported(path):
    """Every name that a file imports, with the module it comes from."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sorted((paths.ROOT / "kdnb").rglob("*.py")), ids=str)
def test_kdnb_imports_no_contestant(path):
    for name in imported(path):
        assert name.split(".")[0] not in CONTESTANTS
        assert not (name.startswith("transformers") and "Trainer" in name)


def test_the_contestants_import_nothing_of_kdnb():
    for name in ("hf", "with_trainer", "with_torchdistill", "with_textbrewer"):
        assert not [found for found in imported(BENCHMARKS / f"{name}.py") if found.split(".")[0] == "kdnb"]


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_the_benchmarks_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 40, f"{path.stem}.{node.name}"


def test_two_steps_of_kdnb_give_a_whole_result(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "bench.py"), "--steps", "2", "--rounds", "1", "--warm", "1"]
    command += ["--only", "kdnb", "causes", "--profile", "toy", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    found = results["throughput"]
    assert {"steps", "rounds", "work", "gemm_gflops", "gflop_per_example", "contestants", "machine"} <= set(found)
    assert {"cpu", "cores", "memory_gib", "versions", "date"} <= set(found["machine"])
    (run,) = found["contestants"]["kdnb"]
    assert {"examples", "seconds", "rate", "padding", "peak_mib"} <= set(run)
    assert run["examples"] == 64
    assert 0 <= run["padding"] < 1
    assert sum(results["causes"]["shares"].values()) == pytest.approx(1)
    assert "(f) kdnb" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "throughput.png").stat().st_size > 0
