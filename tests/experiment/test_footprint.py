"""How large and how fast a model is: counted from its own weights, measured once a machine, read without torch."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from command import last_json

from kdnb import paths
from kdnb.experiment import footprint
from kdnb.models import classifiers


@pytest.mark.slow
def test_weights_are_counted_and_the_time_is_measured_once(store, toy, quick, monkeypatch):
    config = quick("erm_small")
    assert footprint.stored(config) is None
    found = footprint.of(config, toy)
    weights = [weight.numel() for weight in classifiers.build(config, toy).parameters()]
    assert found.parameters == sum(weights)
    assert found.megabytes == pytest.approx(4 * sum(weights) / 1e6, abs=1e-3)
    assert found.milliseconds > 0
    assert found.model == "tiny-small"
    monkeypatch.setattr(footprint, "measure", lambda *_: pytest.fail("measured again"))
    assert footprint.of(replace(config, lr=1e-3, epochs=2), toy) == found == footprint.stored(config)


@pytest.mark.slow
def test_a_measurement_of_another_machine_or_other_data_is_not_taken(store, toy, quick, monkeypatch):
    config = quick("erm_small")
    footprint.of(config, toy)
    assert footprint.stored(replace(config, data="another")) is None
    assert footprint.stored(replace(config, max_length=16)) is None
    assert footprint.stored(replace(config, student="large")) is None
    monkeypatch.setattr(footprint, "machine", lambda: {"processor": "another"})
    assert footprint.stored(config) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"machine": 1}'])
def test_a_file_that_cannot_be_read_is_no_measurement(store, quick, content):
    paths.OUTPUTS.mkdir(parents=True)
    (paths.OUTPUTS / "footprints.json").write_text(content)
    assert footprint.stored(quick("erm_small")) is None


@pytest.mark.slow
def test_what_is_stored_is_read_without_torch():
    code = "import sys; from kdnb.experiment import footprint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_compare_tells_teacher_and_student_beside_their_accuracy(kdnb, monkeypatch):
    words = ["compare", "rt", "--profile", "toy", "--seeds", "0", "--arms", "kd_standard", "--epochs", "1", "--json"]
    code, out, err = kdnb(*words)
    assert (code, err) == (0, "")
    large, small = last_json(out)["models"]
    assert (large["student"], small["student"]) == ("large", "small")
    assert large["parameters"] > small["parameters"] > 0
    accuracy = {entry["arm"]: entry["accuracy"] for entry in last_json(out)["arms"]}
    assert (large["accuracy"], small["accuracy"]) == (
        {"ERM large": accuracy["erm_large"]},
        {"Standard KD": accuracy["kd_standard"]},
    )
    assert f"{small['parameters']:,}" in out
    assert f"timing large, small on up to {footprint.ROWS} test examples ..." in out
    assert "ms per example" in out
    assert "timing" not in kdnb(*words)[1]  # they are stored now
    (paths.OUTPUTS / "footprints.json").unlink()
    monkeypatch.setattr(footprint, "measure", lambda *_: (_ for _ in ()).throw(OSError("no room")))
    code, out, _ = kdnb(*words)
    assert code == 0
    assert "sizes and times are left out: no room" in out
    assert last_json(out)["models"] == []


@pytest.mark.slow
def test_the_page_of_your_own_data_tells_them_too(kdnb, tmp_path):
    path = tmp_path / "mine.csv"
    rows = [f"{'bad' if i % 2 else 'good'} word{i % 7} n{i},{'no' if i % 2 else 'yes'}\n" for i in range(60)]
    path.write_text("text,label\n" + "".join(rows))
    words = ["--data", path, "--text", "text", "--label", "label", "--profile", "toy", "--seeds", "0", "--epochs", "1"]
    code, out, err = kdnb("compare", *words, "--arms", "erm_small,kd_standard", "--json")
    assert (code, err) == (0, "")
    found = last_json(out)
    page = Path(found["report"]).read_text(encoding="utf-8")
    assert "How large and how fast" in page
    assert all(f"{model['parameters']:,}" in page for model in found["models"])
