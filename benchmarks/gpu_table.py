"""The section of results.md on a GPU, from gpu.json alone."""

import json
from pathlib import Path

TITLES = {
    "minilm": "the MiniLM pair (6 layers teach 3)",
    "bert": "BERT-base teaching DistilBERT (their shapes)",
}


def text(folder: Path) -> str:
    """The section, or that there is nothing to tell yet."""
    path = folder / "gpu.json"
    lines = ["## On a GPU", ""]
    if not path.exists():
        return "\n".join([*lines, "No GPU has run any of this yet: `make gpu` on a CUDA machine measures it."])
    report = json.loads(path.read_text())
    card, versions = report["card"], report["machine"]["versions"]
    about = f" ({card['memory_gib']} GiB, CUDA {card['cuda']})" if "cuda" in card else ""
    lines.append(
        f"{'A rehearsal, whose figures mean nothing: ' * report['rehearsal']}{card['name']}{about}, torch "
        f"{versions['torch']}, transformers {versions['transformers']}, commit {report['revision']}, "
        f"{report['machine']['date']}. Peak {card['peak_tflops']:.1f} TFLOP/s ({card['peak_source']}); large bf16 "
        f"products reach {card['gemm_tflops']['bf16']:.1f}."
    )
    for name, part in report["parts"].items():
        lines += ["", *of_part(name, part, report)]
    return "\n".join(lines)


def of_part(name: str, part: dict, report: dict) -> list[str]:
    """Lines on one part; what failed or was skipped says so."""
    if "measured" not in part:
        counts = part.get("counts", {})
        why = part.get("failed") or part.get("skipped") or f"{counts['passed']} passed, {counts['skipped']} skipped"
        return [f"{name}: {why}."]
    rows = part["measured"].items()
    broken = [f"{one}: {row.get('failed') or row['skipped']}." for one, row in rows if {"failed", "skipped"} & set(row)]
    whole = [(one, row) for one, row in rows if not {"failed", "skipped"} & set(row)]
    made, broken = [], [f"{name}, {line}" for line in broken]
    if name == "same_seed":
        made = [
            f"{one}: equal seeds gave equal logits, {row['precision']}, {row['steps']} steps." for one, row in whole
        ]
    elif name == "exact":
        made = [
            f"{one}: CPU and GPU logits differ by at most {row['largest_difference']:.1e} after {row['steps']} float32 "
            f"steps that moved them by up to {row['largest_movement']:.1e}."
            for one, row in whole
        ]
    elif name == "parallel" and whole:
        made = ["| trainings at a time | examples/s in all | of one at a time |", "|---|---|---|"]
        made += [f"| {one} | {row['rate']:.0f} | {row['ratio_to_one']:.2f} |" for one, row in whole]
    elif whole:
        made = throughput(name, whole, part["kdnb_ratio_to"], report["pairs"][name])
    broken += [part["remark"]] if "remark" in part else []
    return [*made, *([""] if made and broken else []), *broken]


def throughput(name: str, rows: list[tuple[str, dict]], ratios: dict[str, float], pair: dict) -> list[str]:
    """The table of one pair."""
    lines = [
        f"Training {TITLES[name]}; weights {pair['weights']}, texts {pair['texts']}, {pair['precision']}:",
        "",
        "| | examples/s (min-max) | kdnb's ratio to it | peak memory [MiB] | of peak | until warm [s] |",
        "|---|---|---|---|---|---|",
    ]
    for one, row in rows:
        ratio = f"{ratios[one]:.2f}" if one in ratios else ""
        lines.append(
            f"| {one} | {row['rate']:.0f} ({min(row['rates']):.0f}-{max(row['rates']):.0f}) | {ratio} "
            f"| {row['peak_mib']:.0f} | {100 * row['of_peak']:.1f} % | {row['warm_seconds']:.1f} |"
        )
    return lines
