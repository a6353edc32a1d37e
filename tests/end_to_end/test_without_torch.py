"""Where torch is not installed, the commands that read runs read them all the same (the notebooks: test_defaults)."""

import os
import subprocess
import sys

import pytest

from kdnb import paths

WITHOUT = paths.ROOT / "tests" / "without_torch"


def run(*words, outputs):
    """The command line in an interpreter without torch, beside the committed runs."""
    environment = {**os.environ, "KDNB_OUTPUTS": str(outputs), "PYTHONPATH": str(WITHOUT)}
    environment["KDNB_REFERENCE"] = str(paths.ROOT / "outputs" / "reference" / "runs")
    command = [sys.executable, "-c", "from kdnb.cli.main import main; main()", *words]
    return subprocess.run(command, env=environment, cwd=paths.ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told"), [(["doctor"], "torch is not installed"), (["runs", "list", "--task", "mrpc"], " runs\n")]
)
def test_a_command_that_reads_needs_no_torch(words, told, tmp_path):
    done = run(*words, outputs=tmp_path)
    assert done.returncode == 0, done.stderr
    assert told in done.stdout


@pytest.mark.slow
def test_training_without_torch_is_one_line(tmp_path):
    done = run("train", "rt", "--profile", "toy", outputs=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr
        == "kdnb: torch is not installed here: stored runs can be read, training needs `pip install torch`\n"
    )
