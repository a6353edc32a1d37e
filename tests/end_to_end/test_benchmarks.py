"""The benchmark stays alive: kdnb's own side of it in two steps; no time is asserted."""

import ast
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import types

import forked
import pytest

from kdnb import paths

BENCHMARKS = paths.ROOT / "benchmarks"
CONTESTANTS = {"accelerate", "textbrewer", "torchdistill", "trl"}


def imported(path):
    """Every name that a file imports, with the module it comes from."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((paths.ROOT / "kdnb").rglob("*.py")), ids=str)
def test_kdnb_imports_no_contestant(path):
    for name in imported(path):
        assert name.split(".")[0] not in CONTESTANTS
        assert not (name.startswith("transformers") and "Trainer" in name)


def test_the_contestants_import_nothing_of_kdnb():
    for name in ("hf", "with_trainer", "with_torchdistill", "with_textbrewer", "gpu_trainer", "lm_work", "lm_others"):
        assert not [found for found in imported(BENCHMARKS / f"{name}.py") if found.split(".")[0] == "kdnb"]


@pytest.mark.slow
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


@pytest.fixture
def benchmarks(monkeypatch):
    """import_module(name): one of the benchmark scripts as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def script(name, *arguments, **environment):
    """A benchmark in a process of its own: exit code, stdout and stderr."""
    command = [sys.executable, str(BENCHMARKS / name), *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_gpu_check_runs_at_toy_size_on_a_cpu(benchmarks, monkeypatch, capsys, tmp_path):
    out, gpu = tmp_path / "gpu.json", benchmarks("gpu")
    wanted = ["tests", "same_seed", "exact", "minilm", "parallel"]  # bert is minilm's way with the other pair
    words = ["--device", "cpu", "--tiny", "--seconds", "3000", "--out", str(out), "--only", *wanted]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    monkeypatch.setattr(gpu, "subprocess", types.SimpleNamespace(**{**vars(subprocess), "Popen": forked.Popen}))
    code, told = gpu.main(), capsys.readouterr()
    assert code == 0, told
    report = json.loads(out.read_text())
    assert json.loads(told.out) == report
    assert report["rehearsal"] is True
    parts = report["parts"]
    assert list(parts) == wanted
    assert parts["tests"]["counts"]["skipped"] >= 1  # the tests were found, and skip without a card
    for pair in ("minilm", "bert"):
        found = parts["same_seed"]["measured"][pair]
        assert found["equal"] is True
        assert found["other"] not in found["same"]
        assert parts["exact"]["measured"][pair]["largest_difference"] == 0  # a CPU against itself
        assert parts["exact"]["measured"][pair]["largest_movement"] > 0
    trained = parts["minilm"]["measured"]
    assert len(trained["kdnb"]["rates"]) == 5
    assert trained["kdnb"]["peak_mib"] > 0
    assert set(trained) == {"kdnb", "trainer", "kdnb-compiled", "trainer-compiled"}
    if importlib.util.find_spec("accelerate"):
        assert parts["minilm"]["kdnb_ratio_to"]["trainer"] > 0
    else:
        assert "accelerate" in trained["trainer"]["skipped"]
    assert set(parts["parallel"]["measured"]) == {"1", "2"}
    assert parts["parallel"]["measured"]["2"]["rate"] > 0
    section = benchmarks("gpu_table").text(tmp_path)
    assert section.startswith("## On a GPU\n\nA rehearsal")
    assert section.count("| kdnb |") == 1


@pytest.mark.slow
def test_without_a_cuda_device_the_gpu_check_says_so_in_one_line(tmp_path):
    done = script("gpu.py", "--out", tmp_path / "gpu.json", CUDA_VISIBLE_DEVICES="-1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("gpu.py: no CUDA device (torch ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "gpu.json").exists()


@pytest.mark.slow
def test_language_models_are_measured_at_toy_size_on_a_cpu(tmp_path):
    out = tmp_path / "lm.json"
    out.write_text(json.dumps({"cuda": {"device": "a card"}}))
    wanted = ["tokens", "engine", "billion", "step"]
    done = script("lm.py", "--device", "cpu", "--tiny", "--seconds", "600", "--out", out, "--only", *wanted)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert json.loads(out.read_text()) == {"cuda": {"device": "a card"}, "cpu": report}
    assert report["rehearsal"] is True
    assert report["device"]
    parts = report["parts"]
    assert {name: part["status"] for name, part in parts.items()} == dict.fromkeys(wanted, "done")
    assert parts["tokens"]["kdnb_ratio_to"]["tuned"]["median"] > 0
    assert 0 < parts["tokens"]["measured"]["kdnb"]["loss"] < 10  # nats: about half of log 512
    assert parts["engine"]["overhead"]["median"] > -1
    assert parts["step"]["mamba2_ratio_to"]["llama"]["median"] > 0
    assert parts["billion"]["measured"]["kdnb"]["of_peak"] > 0


def test_ratios_are_taken_within_a_round(benchmarks):
    rows = {"kdnb": {"rounds": [2.0, 30.0]}, "other": {"rounds": [1.0, 10.0]}, "absent": {"skipped": "not installed"}}
    assert benchmarks("lm_ratios").ratios(rows, "kdnb", "rate") == {"other": {"median": 2.5, "min": 2.0, "max": 3.0}}


@pytest.mark.slow
def test_a_part_that_fails_takes_no_other_with_it(benchmarks, monkeypatch, tmp_path):
    gpu = benchmarks("gpu")
    bench = gpu.Bench(types.SimpleNamespace(device="cpu", tiny=True, seconds=60.0, out=tmp_path / "gpu.json"), tmp_path)
    monkeypatch.setattr(bench, "child", lambda *_: {"card": {"name": "none"}})
    parts = {
        "broken": lambda _: 1 / 0,
        "half": lambda _: {"measured": {"a": {"rate": 1.0}, "b": {"failed": "out of memory"}}},
        "left out": lambda _: {"measured": {"a": {"skipped": "no time"}, "b": {"skipped": "no time"}}},
        "partly": lambda _: {"measured": {"a": {"rate": 1.0}, "b": {"skipped": "no time"}}},
    }
    monkeypatch.setattr(gpu, "PARTS", {name: (part, 0.25) for name, part in parts.items()})
    report = gpu.measure(bench, list(parts))
    status = {name: part["status"] for name, part in report["parts"].items()}
    assert status == {"broken": "failed", "half": "failed", "left out": "skipped", "partly": "done"}
    assert report["parts"]["broken"]["failed"] == "ZeroDivisionError: division by zero"
    assert json.loads((tmp_path / "gpu.json").read_text()) == report


@pytest.mark.slow
def test_what_outlasts_its_part_is_ended_and_what_comes_after_is_left_out(benchmarks, tmp_path):
    gpu = benchmarks("gpu")
    bench = gpu.Bench(types.SimpleNamespace(device="cpu", tiny=True, seconds=60.0), tmp_path)
    mark = tmp_path / "mark"
    wait = f"import time; time.sleep(30); open({str(mark)!r}, 'w')"
    assert bench.child("timeit", "-n1", "-r1", wait, seconds=3.0) == {"failed": "not done after 3 s"}
    assert bench.child("timeit", "-n1", "-r1", "1 / 0", seconds=60.0)["failed"] == "ZeroDivisionError: division by zero"
    assert "skipped" in bench.child("timeit", "-n1", "-r1", "1")  # no part was begun: nothing is left
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.5),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A10", 125.0),
        ("NVIDIA A10G", None),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA H200 NVL", None),
    ],
)
def test_the_peak_is_that_of_the_very_card(benchmarks, name, peak):
    assert benchmarks("gpu_work").listed_peak(name) == peak


def test_drawn_texts_are_as_long_as_those_they_stand_for(benchmarks):
    tokens, labels, _ = benchmarks("gpu_work").drawn(tiny=False)
    assert len(labels) == len(tokens) == 2000
    assert tokens.lengths.mean() == pytest.approx(53.2, abs=1)
    assert (tokens.lengths.min(), tokens.lengths.max()) >= (19, 90)
    assert 8000 < len(set(tokens.ids.tolist())) < 10000


def test_results_say_what_a_gpu_did_or_that_none_has_run(benchmarks):
    section = benchmarks("gpu_table").text(BENCHMARKS)
    assert section in (BENCHMARKS / "results.md").read_text()
    assert (BENCHMARKS / "gpu.json").exists() != ("No GPU has run" in section)


def spread(found):
    """A ratio as the README writes it."""
    return f"{found['median']:.2f} [{found['min']:.2f}, {found['max']:.2f}] times"


def words_on_language_models(report):
    parts = report["cpu"]["parts"]
    tokens, to = parts["tokens"]["measured"], parts["tokens"]["kdnb_ratio_to"]
    dense, engine, more = parts["memory"]["dense_to_chunked"], parts["engine"]["measured"]["engine"], parts["engine"]
    online, cached = (1000 / tokens[name]["rate"] for name in ("kdnb-online", "kdnb"))  # ms a token
    return [
        f"at {tokens['kdnb']['rate']:.0f} tokens/s, {spread(to['tutorial'])} the tutorial's rate",
        f"{spread(to['tuned'])} the tuned loop's",
        f"{spread(to['trl-gkd'])} TRL's and {spread(to['kdnb-online'])} its own",
        f"takes {1000 * engine['seconds'] / engine['tokens']:.1f} ms a token",
        f"({engine['seconds']:.1f} s for a shard of {engine['tokens']:,})",
        f"the teacher in the loop adds {online - cached:.1f}:",
        f"{dense['49152']:.2f} times the memory dense at 49,152 tokens, and {dense['151936']:.2f} times at 151,936",
        f"adds {100 * more['overhead']['median']:.1f} % to a shard",
        f"between {100 * more['overhead']['min']:.0f} and {100 * more['overhead']['max']:.0f} % in three rounds",
        *["`step` came later and is not in `lm.json`"] * ("step" not in parts),
        *["On a GPU nothing of this was run"] * ("cuda" not in report),
    ]


def words_on_sweeps(report):
    kills, flat, beyond = report["kills"], report["flat"], report["overhead"]
    assert kills["same_points"]
    assert kills["points_with_other_bits"] == kills["trainings_ended_twice"] == 0
    seconds, cpu, memory = (
        [flat[f"{name}_at_{count}"] for count in (10, 60)]
        for name in ("seconds_per_point", "cpu_seconds_per_point", "rss_mib")
    )
    return [
        f"{kills['points']} points ({kills['trainings']} trainings)",
        f"one killed after {kills['trainings_ended_before_worker_killed']} trainings",
        f"the driver killed after {kills['trainings_ended_before_driver_killed']}",
        f"the same {kills['points']} points, none with other bits; no training ended twice, "
        f"{kills['trainings_begun_again']} that were cut",
        f"{flat['points']} equal points",
        f"{seconds[0]:.2f} s and {seconds[1]:.2f} s (CPU {cpu[0]:.2f} s and {cpu[1]:.2f} s)",
        f"{memory[0]:.1f} and {memory[1]:.1f} MiB",
        f"{100 * beyond['overhead']:.1f} % more outside, {100 * beyond['cpu_overhead']:.1f} % more CPU",
    ]


QUOTED = {
    "lm.json": words_on_language_models,
    "sweep.json": words_on_sweeps,
    "relations.json": lambda found: [
        f"three rounds: kdnb's form is {spread(found['speed_ratio'])} as fast",
        f"adds {found['mib']['kdnb']:.0f} MiB where the released one adds {found['mib']['released']:.0f}",
    ],
    "gpu.json": lambda found: [f"one {found['card']['name']} and are few: all of it took {found['seconds']:.0f} s"],
}


@pytest.mark.parametrize("name", QUOTED)
def test_the_readme_quotes_what_was_measured(name):
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    for words in QUOTED[name](json.loads((BENCHMARKS / name).read_text(encoding="utf-8"))):
        assert words
        assert words in text


def test_results_are_those_of_the_file_and_no_file_goes_unread(benchmarks, tmp_path):
    shutil.copy(BENCHMARKS / "gpu.json", tmp_path)
    benchmarks("table").write_text(json.loads((BENCHMARKS / "results.json").read_text(encoding="utf-8")), tmp_path)
    assert (tmp_path / "results.md").read_text() == (BENCHMARKS / "results.md").read_text()
    assert {path.name for path in BENCHMARKS.glob("*.json")} == {*QUOTED, "results.json"}


def test_the_interval_of_a_median(benchmarks):
    interval = benchmarks("revisions").interval
    assert interval([3.0, 1.0, 2.0, 5.0, 4.0]) == (1.0, 5.0, 1 - 2 / 2**5)  # no narrower one reaches 95 %
    assert interval([*map(float, range(9))]) == (1.0, 7.0, pytest.approx(1 - 2 * (1 + 9) / 2**9))
    assert interval([2.0])[:2] == (2.0, 2.0)


@pytest.mark.slow
def test_two_revisions_are_compared_though_the_command_has_moved(tmp_path):
    tree = tmp_path / "tree"
    for name in ("kdnb", "benchmarks"):
        shutil.copytree(paths.ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".work"))
    project = tree / "pyproject.toml"
    shutil.copy(paths.ROOT / "pyproject.toml", project)
    identity = {f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def git(*words):
        environment = {**os.environ, **identity}
        done = subprocess.run(["git", "-C", str(tree), *words], env=environment, capture_output=True, check=True)
        return done.stdout.decode().strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "flat")
    script = re.search(r'^kdnb = "([\w.]+):(\w+)"$', project.read_text(), flags=re.MULTILINE)
    (tree / "kdnb" / "moved.py").write_text(f"from {script[1]} import {script[2]} as begin  # noqa: F401\n")
    project.write_text(project.read_text().replace(script[0], 'kdnb = "kdnb.moved:begin"'))
    git("add", ".")
    git("commit", "--quiet", "-m", "moved")
    command = [sys.executable, str(tree / "benchmarks" / "revisions.py"), "HEAD~1", "--rounds", "1", "--task", "rt"]
    command += ["--profile", "toy", "--rows", "64", "--out", str(tmp_path / "revisions.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "revisions.json").read_text())
    assert [one["commit"] for one in result["revisions"].values()] == [git("rev-parse", r) for r in ("HEAD~1", "HEAD")]
    assert [len(result["runs"][side]) for side in ("old", "new")] == [1, 1]
    assert all(run["train_seconds"] > 0 for runs in result["runs"].values() for run in runs)
    assert result["equal_entropy"] is True
    assert result["low"] <= result["ratio"] <= result["high"]
    assert git("worktree", "list").count("\n") == 0  # none is left behind
