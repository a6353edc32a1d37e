"""Takes the four pictures in docs/screens/: JupyterLab, the report, its ledger on a phone, the explorer.

`.venv/bin/python docs/draw_screens.py` writes the report of the committed runs into a scratch folder, serves JupyterLab
on loopback and looks at both with Debian's Chromium (a few minutes). Pixels differ from machine to machine, with its
fonts: the pictures are made anew when what they show has changed.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
SCREENS = ROOT / "docs" / "screens"
PATIENCE = 300  # seconds


def kept(tab: Page, name: str, width: int) -> None:
    """What a tab shows as a small PNG of few colors."""
    shown = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    small = shown.resize((width, round(shown.height * width / shown.width)), Image.Resampling.LANCZOS)
    small.quantize(128).save(SCREENS / f"{name}.png", optimize=True)


def report(scratch: Path) -> Path:
    """The site of the committed runs."""
    environment = {**os.environ, "KDNB_OUTPUTS": str(scratch), "KDNB_REFERENCE": str(ROOT / "outputs/reference/runs")}
    kdnb = Path(sys.executable).with_name("kdnb")
    subprocess.run([str(kdnb), "report", "--profile", "cpu"], env=environment, check=True)
    return scratch / "site"


def lab(scratch: Path) -> tuple[subprocess.Popen, str]:
    """A JupyterLab on copies of the notebooks, and its address."""
    shutil.copytree(ROOT / "notebooks", scratch / "notebooks", ignore=shutil.ignore_patterns(".*"))
    own = {f"JUPYTER_{name}_DIR": str(scratch / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"KDNB_OUTPUTS": str(scratch / "outputs"), "PYTHONPATH": str(ROOT)}
    silent = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (scratch / "config" / "labconfig").mkdir(parents=True)
    (scratch / "config" / "labconfig" / "page_config.json").write_text(json.dumps(silent), encoding="utf-8")
    words = [
        "-m",
        "jupyterlab",
        "--no-browser",
        "--ip=127.0.0.1",
        "--port=0",
        "--allow-root",
        "--expose-app-in-browser",
    ]
    words = [sys.executable, *words, f"--notebook-dir={scratch / 'notebooks'}"]
    server = subprocess.Popen(words, env={**os.environ, **own}, stderr=subprocess.DEVNULL)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for path in (scratch / "runtime").glob("jpserver-*.json"):
            facts = json.loads(path.read_text(encoding="utf-8") or "{}")
            if facts:
                return server, f"{facts['url']}lab/tree/10_entropy_of_targets.ipynb?token={facts['token']}"
        time.sleep(0.2)
    server.terminate()
    sys.exit("error: JupyterLab does not answer")


def draw(scratch: Path) -> None:
    """All four."""
    site = report(scratch / "report")
    server, address = lab(scratch / "lab")
    try:
        with sync_playwright() as player:
            browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for name, page, width, height, small in (
                ("site", site / "index.html", 1024, 966, 640),
                ("ledger_phone", site / "ledger.html", 390, 642, 320),
                ("explorer", ROOT / "docs" / "explorer.html", 1024, 866, 640),
            ):
                tab = browser.new_page(viewport={"width": width, "height": height})
                tab.goto(page.as_uri())
                kept(tab, name, small)
            tab = browser.new_page(viewport={"width": 1280, "height": 780})
            tab.set_default_timeout(1000 * PATIENCE)
            tab.goto(address)
            tab.wait_for_function("window.jupyterapp?.restored.then(() => true)")
            tab.wait_for_function("jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel")
            tab.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
            tab.wait_for_function(
                """() => [...jupyterapp.shell.currentWidget.content.model.cells].map(cell => cell.toJSON())
                    .every(cell => cell.cell_type !== 'code' || cell.execution_count)"""
            )
            tab.evaluate(
                """() => {
                    const notebook = jupyterapp.shell.currentWidget.content;
                    notebook.activeCellIndex = notebook.widgets.findIndex(cell => cell.model.id === 'simplex-explorer');
                    return notebook.scrollToItem(notebook.activeCellIndex, 'start');
                }"""
            )
            tab.get_by_role("slider").first.wait_for()
            tab.wait_for_timeout(1500)  # until its figure is drawn and the scrolling has come to rest
            kept(tab, "jupyterlab", 720)
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder))
