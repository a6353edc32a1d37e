"""The parts of `gpu.py`: each takes the bench and returns what it measured, or why not ("failed", "skipped")."""

import importlib.util
import sys
import xml.etree.ElementTree as ElementTree

import gpu_parallel
from bench import HERE

CONTESTANTS = ("kdnb", "trainer", "kdnb-compiled", "trainer-compiled")


def tests(bench) -> dict:
    """The tests marked gpu, through pytest."""
    missing = [name for name in ("pytest", "hypothesis") if not importlib.util.find_spec(name)]
    if missing:
        return {"skipped": f"not installed: {', '.join(missing)}"}
    folder = HERE.parent / "tests"
    files = sorted(path for path in folder.rglob("test_*.py") if "mark.gpu" in path.read_text(encoding="utf-8"))
    report = bench.folder / "tests.xml"
    outcome = bench.child("pytest", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={report}", *files)
    if not report.exists():
        return outcome
    suite = ElementTree.parse(report).getroot().find("testsuite")
    count = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    bad = count["failures"] + count["errors"]
    result = {"counts": {**count, "passed": count["tests"] - bad - count["skipped"]}}
    if bad:
        messages = [case.get("message", "") for name in ("failure", "error") for case in suite.iter(name)]
        return {**result, "failed": "; ".join(messages)[:500]}
    if not result["counts"]["passed"]:
        return {**result, "skipped" if bench.options.device == "cpu" else "failed": "no test marked gpu was run"}
    return result


def same_seed(bench) -> dict:
    """Equal seeds, equal logits: twice in one process and twice in another, for both pairs."""
    first, again = (bench.child("gpu_kdnb.py", "same_seed", *bench.pairs().values()) for _ in range(2))
    result = {}
    for name in bench.pairs():
        runs = [whole.get(name, whole) for whole in (first, again)]
        broken = next((run for run in runs if "same" not in run), None)
        if broken:
            result[name] = broken
            continue
        hashes = {digest for run in runs for digest in run["same"]}
        result[name] = {**runs[0], "again": runs[1]["same"], "equal": len(hashes) == 1}
        if len(hashes) > 1:
            result[name]["failed"] = f"{len(hashes)} different logits of one seed"
        elif runs[0]["other"] in hashes:
            result[name]["failed"] = "another seed gives the same logits: nothing was compared"
    return {"measured": result}


def exact(bench) -> dict:
    """CPU against GPU after a few float32 steps: the largest difference of logits beside how far they moved."""
    folders = bench.pairs().values()
    first = bench.child("gpu_kdnb.py", "exact", *folders)
    again = bench.child("gpu_kdnb.py", "exact", *folders, "--against", CUDA_VISIBLE_DEVICES="")
    result = {}
    for name in bench.pairs():
        one, two = (whole.get(name, whole) for whole in (first, again))
        result[name] = {**two, **one}
        if "device" in one and "largest_difference" in two:
            share = two["largest_difference"] / two["largest_movement"]
            result[name]["share_of_movement"] = share
            if not share < 0.01:
                result[name]["failed"] = f"the logits differ by {100 * share:.1f} % of their movement"
    return {"measured": result}


def throughput(bench, name: str) -> dict:
    """kdnb and Trainer on one pair, each in a process of its own; ratios, shares of the card's peak."""
    facts, found = bench.facts["pairs"][name], {}
    if "failed" in facts:
        return {"failed": f"no models: {facts['failed']}"}
    for contestant in CONTESTANTS:
        whose, _, compiled = contestant.partition("-")
        if compiled and bench.options.device == "cpu":
            found[contestant] = {"skipped": "nothing is compiled on a CPU"}
        elif whose == "trainer" and not importlib.util.find_spec("accelerate"):
            found[contestant] = {"skipped": "Trainer needs accelerate, which is not installed"}
        else:
            script = ["gpu_kdnb.py", "throughput"] if whose == "kdnb" else ["gpu_trainer.py"]
            share = 1 if contestant == CONTESTANTS[-1] else 0.65  # one that does not end leaves the others some time
            more = [*bench.size(name), *(["--compile"] if compiled else [])]
            found[contestant] = bench.child(*script, bench.folder / name, *more, seconds=share * bench.left())
        told = {key: value for key, value in found[contestant].items() if key in ("rate", "failed", "skipped")}
        bench.tell(f"  {contestant}: {told}")
    peak = bench.facts["card"]["peak_tflops"]
    for run in found.values():
        if "rate" in run:
            run["of_peak"] = run["rate"] * facts["gflop_per_example"] / 1000 / peak
    return {"measured": found, "kdnb_ratio_to": ratios({c: run["rate"] for c, run in found.items() if "rate" in run})}


def ratios(rates: dict[str, float]) -> dict[str, float]:
    """kdnb's rate over each other contestant's, and the better of its two over the better of Trainer's two."""
    found = {name: rates["kdnb"] / rate for name, rate in rates.items() if name != "kdnb" and "kdnb" in rates}
    best = {side: [rate for name, rate in rates.items() if name.startswith(side)] for side in ("kdnb", "trainer")}
    return {**found, "best to best": max(best["kdnb"]) / max(best["trainer"])} if all(best.values()) else found


def parallel(bench) -> dict:
    """Several trainings at a time on the card."""
    if "minilm" not in bench.pairs():
        return {"failed": "no models"}
    counts, rounds = ((1, 2), 1) if bench.options.tiny else ((1, 2, 4, 8), 3)
    command = [sys.executable, HERE / "gpu_kdnb.py", "serve", bench.folder / "minilm", *bench.size("parallel")]
    return gpu_parallel.measure(command, bench.environment(), counts, rounds, bench.left, bench.tell)
