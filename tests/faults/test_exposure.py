"""What others could see or reach: markup from data, secrets, ports; and a network that is not there."""

import importlib.util
import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pandas as pd
import psutil
import pytest
import refusals
from command import KDNB

from kdnb import paths

pytestmark = pytest.mark.faults
SECRET = "hunter2-planted-secret"
VARIABLES = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "MY_PASSWORD", "PLANTED")
SCRIPTS = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(2)">',
    "<svg onload=alert(3)>",
    "</td></table><iframe src=javascript:alert(4)>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;script&gt;alert(5)",
    "<a href='javascript:alert(6)'>x</a>",
    "<style>@import url(//evil)</style>",
]


@pytest.fixture(autouse=True)
def row(request, record_property):
    with refusals.counting(request, record_property, "Exposure", request.node.originalname[5:].replace("_", " ")):
        yield


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """A comparison on a file full of markup, a notebook and a report, with secrets in the environment."""
    folder = tmp_path_factory.mktemp("exposed")
    rows = [{"text": f"{SCRIPTS[i % len(SCRIPTS)]} {i}", "label": ("<b>a</b>", "<script>b")[i % 2]} for i in range(48)]
    pd.DataFrame(rows).to_csv(folder / "<i>mine.csv", index=False)
    environment = {**os.environ, **dict.fromkeys(VARIABLES, SECRET), "KDNB_OUTPUTS": str(folder / "outputs")}
    data = ["--data", str(folder / "<i>mine.csv"), "--text", "text", "--label", "label"]
    arms = ["--arms", "erm_small,ls_small,kd_standard", "--seeds", "0", "--epochs", "1"]
    told = ""
    for words in (
        ["compare", *data, "--profile", "toy", *arms],
        ["compare", "rt", "--profile", "toy", "--seeds", "0", "--epochs", "1", "--arms", "erm_small"],
        ["run", "10_entropy_of_targets"],
        ["report", "--profile", "toy"],
        ["doctor"],
    ):
        done = subprocess.run([*KDNB, *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
        told += done.stdout + done.stderr
    (folder / "told").write_text(told)
    return folder


def test_no_secret_is_kept_or_told(outputs):
    """Neither a value nor a name of the environment: runs, notebooks, figures, reports, what was printed."""
    files = [path for path in outputs.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".json", ".npz", ".csv", ".ipynb", ".html", ".png"}
    for path in files:
        content = path.read_bytes()
        for word in (SECRET, *VARIABLES):
            assert word.encode() not in content, path
        refusals.seen()


def test_markup_of_data_is_text_in_both_reports(outputs):
    (own,) = (outputs / "outputs" / "reports").glob("*.html")
    for path in (own, outputs / "outputs" / "report.html"):
        page = path.read_text(encoding="utf-8")
        body = page[page.index("<body") :]
        assert "<script" not in body.lower()
        assert not re.search(r"<[^>]*\son\w+\s*=", body), path
        assert not re.search(r"<(iframe|object|embed|base|form)\b", body)
        assert not re.search(r'<\w[^<>]*\s(href|src)\s*=\s*["\']?\s*javascript:', body)
        assert "<b>a</b>" not in body
        assert "<i>mine" not in body
        refusals.seen(len(SCRIPTS))
    page = own.read_text(encoding="utf-8")
    assert "&lt;script&gt;" in page
    assert "{{ 7 * 7 }}" in page


def test_both_reports_allow_no_script_and_nothing_from_elsewhere(outputs):
    (own,) = (outputs / "outputs" / "reports").glob("*.html")
    for path in (own, outputs / "outputs" / "report.html"):
        page = path.read_text(encoding="utf-8")
        (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', page)
        rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";") if rule.strip()}
        assert rules["default-src"] == ["'none'"]
        assert rules["base-uri"] == rules["form-action"] == ["'none'"]
        assert not [name for name in rules if name.startswith(("script-src", "connect-src", "frame-src", "object-src"))]
        assert set(rules.get("img-src", [])) <= {"data:", "'self'"}
        assert page.index("Content-Security-Policy") < page.index("<title>")
        refusals.seen()


TELEMETRY = """
import kdnb, json
from huggingface_hub import constants
import os
print(json.dumps([constants.HF_HUB_DISABLE_TELEMETRY, os.environ["RAY_USAGE_STATS_ENABLED"]]))
"""


def test_telemetry_is_off_wherever_kdnb_is_imported():
    unset = ("HF_HUB_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED", "DO_NOT_TRACK")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", TELEMETRY], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [True, "0"]
    refusals.seen(2)


def listening(process):
    """Addresses at which a process and its children listen."""
    found = set()
    for one in [process, *process.children(recursive=True)]:
        try:
            sockets = one.net_connections(kind="inet")
        except psutil.Error:
            continue
        found |= {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
    return found


def test_make_lab_listens_on_loopback_and_wants_its_token(tmp_path):
    """The Makefile's own words; a request without the token is refused."""
    jupyter = Path(sys.executable).with_name("jupyter")
    if not jupyter.exists() or not shutil.which("make"):
        pytest.skip("no jupyter or make here")
    said = subprocess.run(
        ["make", "-n", "-C", str(paths.ROOT), "-o", ".venv/.ready", "lab"], capture_output=True, text=True
    )
    (words,) = [line.split() for line in said.stdout.splitlines() if "jupyter lab --" in line]
    assert not [word for word in words if re.search(r"token|password|allow_origin|disable_check", word)]
    words = [str(jupyter), *words[1:], "--no-browser", "--port=0", "--port-retries=0"]
    environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path / "run")}
    environment = {name: value for name, value in environment.items() if name != "JUPYTER_TOKEN"}
    running = subprocess.Popen(
        words, cwd=paths.ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        started, servers = time.monotonic(), []
        while not servers:
            assert running.poll() is None
            assert time.monotonic() - started < 180
            time.sleep(0.5)
            servers = sorted((tmp_path / "run").glob("jpserver-*.json"))
        facts = json.loads(servers[0].read_text())
        assert len(facts["token"]) >= 32
        assert listening(psutil.Process(running.pid)) <= {"127.0.0.1", "::1"}
        address = f"http://127.0.0.1:{facts['port']}/api/contents"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address, timeout=30)
        assert refused.value.code == 403
        with urllib.request.urlopen(f"{address}?token={facts['token']}", timeout=30) as answer:
            assert answer.status == 200
    finally:
        running.terminate()
        running.wait(timeout=60)
    refusals.seen(2)


def loopback(ip):
    """Whether an address is this machine's alone, an IPv4 one that is spelled as IPv6 among them."""
    address = ipaddress.ip_address(ip)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def test_only_this_machines_addresses_are_loopback():
    assert all(map(loopback, ("127.0.0.1", "::1", "::ffff:127.0.0.1")))
    assert not any(map(loopback, ("0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1")))


def test_ray_listens_on_loopback_with_a_token():
    if importlib.util.find_spec("ray") is None:  # importing it here would be before its token is made
        pytest.skip("Ray is not installed")
    from kdnb.sweeps import ray
    from kdnb.sweeps.engines import How

    with ray.connection(How(engine="ray", threads=1, workers=1), lambda: None) as (_, task):
        assert task is not None
        found = {ip for ip in listening(psutil.Process()) if not loopback(ip)}
        assert not found, found
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    refusals.seen()


# No route to anywhere: a network namespace of its own, in which even loopback is down until it is brought up

OFFLINE = Path(__file__).with_name("no_route.sh")


def test_the_toy_study_without_a_route(tmp_path):
    allowed = subprocess.run(["unshare", "-n", "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"no network namespace may be made here: {allowed.stderr.strip()}")
    words = ["bash", str(OFFLINE), sys.executable, str(tmp_path / "outputs")]
    done = subprocess.run(words, cwd=paths.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "no route: checked" in done.stdout
    refusals.seen()
