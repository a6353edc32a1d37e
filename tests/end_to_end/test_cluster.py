"""The cluster's files: as far as they can be tried without one. Their kdnb commands reach the real command line."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kdnb import paths

DOCS = paths.ROOT / "docs"
SCRIPTS = sorted((DOCS / "cluster").glob("*.sh"))
JOB = DOCS / "cluster" / "kuberay-rayjob.yaml"
RECORD = """#!{python}
import json, os, subprocess, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
if name == "scontrol":
    print("node7\\nnode8")
if name == "srun":
    sys.exit(subprocess.call(words[words.index("ray") :]))
if name == "ray":
    sys.exit(subprocess.call(words[words.index("--") + 1 :]))
"""


def calls(script: Path, folder: Path, **variables) -> list[list[str]]:
    """Execute a job script with stand-ins for SLURM, Ray and kdnb; the commands that it called."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text("")
    for name in ("scontrol", "srun", "ray", "kdnb"):
        (programs / name).write_text(RECORD.format(python=sys.executable))
        (programs / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KDNB_", "PYTHON"))}
    environment = {
        **kept,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "CALLS": str(folder / "calls"),
        "SLURM_SUBMIT_DIR": str(folder),
        **variables,
    }
    subprocess.run(["bash", script], env=environment, cwd="/", check=True)
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


@pytest.fixture
def asked(monkeypatch, store):
    """asked(words): what a `kdnb sweep` command line asks for, as the real command line reads it."""
    from kdnb.cli.main import main
    from kdnb.sweeps import engines

    class Asked(Exception):
        pass

    def run(sweep, how, say=print, splits_of=None):
        raise Asked(sweep, how)

    monkeypatch.setattr(engines, "run", run)
    monkeypatch.setenv("KDNB_DEBUG", "1")

    def read(words):
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(Asked) as found:
            main()
        return found.value.args

    return read


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_scripts_are_good_bash(script):
    assert script.read_text().startswith("#!/bin/bash\n")
    assert "set -euo pipefail" in script.read_text()
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--exclude=SC1091", script], check=True)


def directives(script: Path) -> dict[str, str]:
    """Its #SBATCH options."""
    lines = [line.removeprefix("#SBATCH --") for line in script.read_text().splitlines() if line.startswith("#SBATCH ")]
    return dict(line.partition("=")[::2] for line in lines)


@pytest.mark.slow
def test_the_array_covers_all_shares(tmp_path, asked):
    script = DOCS / "cluster" / "slurm-array.sh"
    first, last = directives(script)["array"].split("-")
    shards = []
    for number in (first, last):
        found = calls(script, tmp_path / number, SLURM_ARRAY_TASK_ID=number, SLURM_CPUS_PER_TASK="4")
        sweep, how = asked(found[-1])
        assert (sweep.grid, sweep.profile, how.engine, how.threads) == ("table1", "paper", "shard", 4)
        shards.append(how.shard)
    assert shards == [(1, int(last)), (int(last), int(last))]


@pytest.mark.slow
def test_ray_runs_the_sweep_on_all_nodes_of_a_job(tmp_path, asked):
    variables = {
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_JOB_ID": "4000123",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "16",
        "SLURM_GPUS_PER_NODE": "4",
    }
    found = {words[0]: words for words in calls(DOCS / "cluster" / "slurm-ray.sh", tmp_path, **variables)}
    ray = found["ray"]
    assert ray[1:4] == ["symmetric-run", "--address", "node7:20123"]
    assert ray[ray.index("--min-nodes") + 1] == "2"
    assert ray[ray.index("--dashboard-host") + 1] == "127.0.0.1"
    sweep, how = asked(found["kdnb"])
    assert (how.engine, how.address, how.gpus_per_run, how.workers) == ("ray", "auto", 0.25, 0)
    assert sweep.tasks == ("mrpc", "qnli", "sst2", "mnli")


@pytest.mark.slow
def test_ray_has_the_options_that_the_script_uses():
    pytest.importorskip("ray", reason="Ray is not installed (extra [cluster])")
    program = Path(sys.executable).with_name("ray")
    for words in (["symmetric-run"], ["start"]):
        told = subprocess.run([program, *words, "--help"], capture_output=True, text=True, check=True).stdout
        for option in {"symmetric-run": ["--min-nodes"], "start": ["--num-gpus", "--dashboard-host"]}[words[0]]:
            assert option in told


def test_the_rayjob_is_whole(asked):
    job = yaml.safe_load(JOB.read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    pins = (paths.ROOT / "constraints.txt").read_text().splitlines()
    assert f"ray=={cluster['rayVersion']}" in pins
    (workers,) = cluster["workerGroupSpecs"]
    pods = [part["template"]["spec"] for part in (cluster["headGroupSpec"], workers)]
    for pod in pods:
        (container,), (volume,) = pod["containers"], pod["volumes"]
        (mount,) = container["volumeMounts"]
        assert mount["name"] == volume["name"]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert environment["KDNB_OUTPUTS"].startswith(mount["mountPath"])
        assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
        assert container["resources"]["requests"] == container["resources"]["limits"]
    assert len({pod["containers"][0]["image"] for pod in pods}) == 1
    sweep, how = asked(shlex.split(job["spec"]["entrypoint"]))
    assert (sweep.grid, how.engine, how.address) == ("table1", "ray", "auto")
    at_a_time = int(pods[1]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]) / how.gpus_per_run
    assert at_a_time * how.threads <= int(pods[1]["containers"][0]["resources"]["limits"]["cpu"])


def test_the_commands_of_the_page_are_real():
    import typer

    from kdnb.cli.commands import app

    lines = [line.split("#")[0].strip() for line in (DOCS / "cluster.md").read_text().splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("kdnb ")]
    assert {words[0] for words in commands} == {"plan", "sweep", "status", "select"}
    known = typer.main.get_command(app).commands
    for words in commands:
        known[words[0]].make_context(words[0], words[1:])


def test_the_page_links_to_what_is_there():
    text = (DOCS / "cluster.md").read_text(encoding="utf-8")
    for path in [*SCRIPTS, JOB]:
        assert f"](cluster/{path.name})" in text
