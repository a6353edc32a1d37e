"""results.md and the plots, from results.json alone."""

import statistics
from pathlib import Path

import gpu_table
from worker import CONTESTANTS


def write(results: dict, folder: Path) -> None:
    """results.md, throughput.png and size.png of what has been measured."""
    write_text(results, folder)
    if "throughput" in results:
        plot_throughput(results["throughput"], folder / "throughput.png")
    if "size" in results:
        plot_size(results["size"], folder / "size.png")


def write_text(results: dict, folder: Path) -> None:
    """results.md of what has been measured, and of the folder's gpu.json."""
    parts = {
        "throughput": throughput,
        "causes": causes,
        "equal_work": equal_work,
        "comparison": comparison,
        "size": size,
        "startup": startup,
    }
    text = [make(results[name]) for name, make in parts.items() if name in results]
    (folder / "results.md").write_text("# Measured\n\n" + "\n\n".join([*text, gpu_table.text(folder)]) + "\n")


def rows_of(found: dict) -> list[dict]:
    """One row per contestant: medians, and kdnb's rate over its own, round by round."""
    runs = {name: [r for r in rounds if "rate" in r] for name, rounds in found["contestants"].items()}
    runs = {name: rounds for name, rounds in runs.items() if rounds}
    ours, rows = runs.get("kdnb"), []
    peak = statistics.median(p["bf16"] for p in found["gemm_gflops"])
    for name, rounds in runs.items():
        rates = [r["rate"] for r in rounds]
        ratios = [o["rate"] / r["rate"] for o, r in zip(ours or rounds, rounds, strict=True)]
        rows.append(
            {
                "name": name,
                "title": CONTESTANTS[name][2],
                "rates": rates,
                "rate": statistics.median(rates),
                "ratios": ratios,
                "peak_mib": statistics.median(r["peak_mib"] for r in rounds),
                "padding": statistics.median(r["padding"] for r in rounds),
                "share": statistics.median(rates) * found["gflop_per_example"]["full_last_layer"] / peak,
            }
        )
    return rows


def throughput(found: dict) -> str:
    """The table of contestants."""
    machine, work, gflop = found["machine"], found["work"], found["gflop_per_example"]
    peak = {kind: statistics.median(p[kind] for p in found["gemm_gflops"]) for kind in ("bf16", "fp32")}
    versions = ", ".join(f"{name} {value}" for name, value in machine["versions"].items() if value)
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB; {versions}; {machine['date']}.",
        f"Task {work['task']}, {found['steps']} steps of 32 examples (mean length {gflop['mean_length']:.1f} tokens) "
        f"after {found['warm_up_steps']} warm-up steps, {found['rounds']} interleaved rounds, a fresh process each. "
        f"Square matrix products reach {peak['bf16']:.0f} GFLOP/s in bf16 and {peak['fp32']:.0f} in fp32.",
        "",
        "| contestant | examples/s (min-max) | kdnb's ratio to it (min-max) | peak memory [MiB] | padding | of peak |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows_of(found):
        lines.append(
            f"| {row['title']} | {row['rate']:.1f} ({min(row['rates']):.1f}-{max(row['rates']):.1f}) "
            f"| {statistics.median(row['ratios']):.2f} ({min(row['ratios']):.2f}-{max(row['ratios']):.2f}) "
            f"| {row['peak_mib']:.0f} | {100 * row['padding']:.1f} % | {100 * row['share']:.0f} % |"
        )
    absent = [CONTESTANTS[n][2] for n, rounds in found["contestants"].items() if any("absent" in r for r in rounds)]
    lines += ["", *(["Not installed: " + "; ".join(absent) + ".", ""] if absent else [])]
    lines.append(
        f"Share of the peak: {gflop['full_last_layer']:.2f} GFLOP per example, the student's own step with a full last "
        "layer and no padding, whatever a contestant computes besides. kdnb computes the last layer at the first "
        f"token only, which is {gflop['first_token_of_last_layer']:.2f} GFLOP."
    )
    return "\n".join(lines)


def causes(found: dict) -> str:
    """Where kdnb's step goes."""
    shares = sorted(found["shares"].items(), key=lambda item: -item[1])
    lines = ["| part of kdnb's step | share of the time |", "|---|---|"]
    return "\n".join(["## Where kdnb's time goes", "", *lines, *(f"| {n} | {100 * s:.1f} % |" for n, s in shares)])


def equal_work(found: dict) -> str:
    """Weights after three steps; loss and accuracy over seeds."""
    weights, lines = found["weights"], ["## Equal work", ""]
    lines.append(
        f"Dropout off, fp32, file order, {weights['steps']} steps: the largest difference between kdnb's weights and "
        f"Trainer's is {weights['largest']:.1e} ({weights['where']}); the weights moved by up to "
        f"{weights['moved']:.1e}. Key biases left out (their gradient is rounding noise): {weights['key_bias']:.1e}."
    )
    if found["seeds"]:
        lines += ["", "| with everything on | " + " | ".join(found["seeds"]) + " |", "|---|---|---|"]
        for name in ("train_loss", "test_accuracy"):
            cells = []
            for values in found["seeds"].values():
                part = [v[name] for v in values]
                cells.append(f"{statistics.mean(part):.4f} ({min(part):.4f}-{max(part):.4f}, n = {len(part)})")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def comparison(found: dict) -> str:
    """Eight arms and some seeds, start-up included."""
    return (
        f"## A whole comparison\n\n{found['arms']} arms, {found['seeds']} seeds, {found['rows']} training rows, "
        f"{found['epochs']} epochs, start-up included: kdnb with a worker a core {found['kdnb_seconds']:.0f} s, "
        f"the same runs with tuned Trainer and cached logits {found['trainer_seconds']:.0f} s in one process that "
        f"loads everything once, ratio {found['ratio']:.2f}; with a process per run, as its examples are used, "
        f"{found['scripts_seconds_a_seed']:.0f} s a seed, ratio {found['scripts_ratio']:.2f}."
    )


def size(found: dict) -> str:
    """Cost against rows."""
    lines = [
        "## Cost against size",
        "",
        "| rows | training [ms/example] (min-max) | tokenising [ms/example] | planning [us/example] "
        "| peak memory [MiB] | token ids [MiB] |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["sizes"]:
        lines.append(
            f"| {row['rows']} | {row['train_ms']:.3f} ({row['train_ms_min']:.3f}-{row['train_ms_max']:.3f}) "
            f"| {row['tokenize_ms']:.3f} | {1000 * row['plan_ms']:.1f} | {row['peak_mib']:.0f} | {row['ids_mib']:.1f} |"
        )
    return "\n".join(lines)


def startup(found: dict) -> str:
    """Seconds until something is to be seen."""
    lines = ["## Start-up", "", "| what | seconds (min-max) |", "|---|---|"]
    for name, times in found["seconds"].items():
        lines.append(f"| {name} | {statistics.median(times):.2f} ({min(times):.2f}-{max(times):.2f}) |")
    return "\n".join(lines)


def plot_throughput(found: dict, path: Path) -> None:
    """Examples per second, with the range over rounds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = rows_of(found)[::-1]
    rates = [row["rate"] for row in rows]
    spread = [[r["rate"] - min(r["rates"]) for r in rows], [max(r["rates"]) - r["rate"] for r in rows]]
    colors = ["#0173B2" if row["name"] == "kdnb" else "#949494" for row in rows]
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(rows) + 1.5), layout="constrained")
    axes.barh([row["title"] for row in rows], rates, xerr=spread, color=colors, capsize=3)
    axes.set(xlabel="training throughput [examples/s], median and range", title="How fast is one student trained?")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_size(found: dict, path: Path) -> None:
    """Time per example and memory against rows."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sizes = found["sizes"]
    rows, times = [s["rows"] for s in sizes], [s["train_ms"] for s in sizes]
    spread = [[s["train_ms"] - s["train_ms_min"] for s in sizes], [s["train_ms_max"] - s["train_ms"] for s in sizes]]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.errorbar(rows, times, yerr=spread, marker="o", capsize=3, color="#0173B2")
    left.set(xscale="log", ylim=(0, 1.3 * max(times)), xlabel="training rows", ylabel="time per example [ms]")
    right.plot(rows, [s["peak_mib"] for s in sizes], marker="o", color="#0173B2", label="peak memory")
    right.plot(rows, [s["ids_mib"] for s in sizes], marker="s", color="#949494", label="token ids")
    right.set(xscale="log", ylim=(0, None), xlabel="training rows", ylabel="memory [MiB]")
    right.legend()
    figure.suptitle("Does the cost per example grow with the data?")
    figure.savefig(path, dpi=120)
    plt.close(figure)
