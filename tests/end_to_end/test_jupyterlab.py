"""JupyterLab in a browser: every notebook opens, Run All leaves no error, sliders move figures, exercises answer."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import chromium
import pytest

from kdnb import paths

pytestmark = [pytest.mark.slow, chromium.needed]
NOTEBOOKS = sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb"))
RUN = ("00_start_here", "10_entropy_of_targets", "30_kd_vs_ls", "42_two_things_in_one_loss", "61_missing_digit",
       "72_speculative_decoding")  # fmt: skip
PATIENCE, LONGEST = 90, 300  # seconds that anything may take, and a notebook


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a JupyterLab on copies of the notebooks; its kernels are this Python, and read committed runs."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(paths.NOTEBOOKS, folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    own = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"IPYTHONDIR": str(folder / "ipython"), "KDNB_OUTPUTS": str(folder / "outputs")}
    own |= {"KDNB_REFERENCE": str(paths.ROOT / "outputs" / "reference" / "runs")}
    settings = {
        "labconfig/page_config.json": {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}},
        "lab/user-settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    }  # no news, as in `make lab`; cells out of sight are drawn as well, and not when the browser has time for it
    for name, told in settings.items():
        (folder / "config" / name).parent.mkdir(parents=True)
        (folder / "config" / name).write_text(json.dumps(told), encoding="utf-8")
    words = ["--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root", "--expose-app-in-browser"]
    words = [sys.executable, "-m", "jupyterlab", *words, f"--notebook-dir={folder / 'notebooks'}"]
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(words, env={**os.environ, **own}, stdout=log, stderr=log)
    try:
        facts = _answer(process, folder)
        yield f"{facts['url']}lab?token={facts['token']}"
    finally:
        process.terminate()  # and with it its kernels
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()


def _answer(process, folder):
    """What a server writes of itself when it listens."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        for path in (folder / "runtime").glob("jpserver-*.json"):
            try:
                return json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                pass  # half written
        time.sleep(0.1)
    pytest.fail(f"JupyterLab does not answer: {(folder / 'log').read_text(encoding='utf-8')[-2000:]}")


class Lab:
    """JupyterLab in a tab: opens notebooks, runs them by its menu, looks at cells; `asked` has every address."""

    def __init__(self, context, address):
        context.set_default_timeout(1000 * PATIENCE)
        self.seen = chromium.watched(context)
        self.tab, self.asked = self.seen.tab, self.seen.asked
        self.tab.goto(address)
        self.tab.wait_for_function("window.jupyterapp?.restored.then(() => true)")
        self.ran = {}

    def open(self, name, shared=False):
        """The panel of a notebook, in front; its kernel is its own, or `shared` one that runs already."""
        self.tab.evaluate(
            """([path, shared]) => {
                window.panel = null;
                const kernel = shared ? [...jupyterapp.serviceManager.sessions.running()][0]?.kernel : undefined;
                const opening = jupyterapp.commands.execute('docmanager:open', {path, kernel});
                opening.then(opened => { window.panel = opened; });
            }""",
            [f"{name}.ipynb", shared],
        )
        self.tab.wait_for_function("panel?.context.isReady && panel.isVisible && panel.content.widgets.length > 0")
        return self.tab.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def rendered(self):
        """Wait for the texts of the notebook in front."""
        self.tab.wait_for_function(
            """() => panel.content.widgets.filter(cell => cell.model.type === 'markdown')
                .every(cell => cell.node.querySelector('.jp-MarkdownOutput')?.childElementCount > 0)"""
        )

    def run_all(self, name):
        """A notebook's panel and its cells as they are after Run All, chosen from the menu the first time."""
        panel = self.open(name)
        if name not in self.ran:
            self.tab.wait_for_function("panel.sessionContext.isReady && panel.sessionContext.session?.kernel")
            self.tab.locator(".lm-MenuBar-item", has_text=re.compile("^Run$")).click()
            self.tab.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
            self.tab.wait_for_function(
                """() => {
                    const cells = [...panel.content.model.cells].map(one => one.toJSON());
                    const code = cells.filter(one => one.cell_type === 'code');
                    const failed = code.some(one => one.outputs.some(output => output.output_type === 'error'));
                    const idle = panel.sessionContext.session.kernel.status === 'idle';
                    return failed || (idle && code.every(one => one.execution_count));
                }""",
                timeout=1000 * LONGEST,
            )
            self.ran[name] = self.tab.evaluate("[...panel.content.model.cells].map(one => one.toJSON())")
        return panel, self.ran[name]

    def cell(self, panel, name):
        """A cell by its id, active and in view."""
        self.tab.evaluate(
            """id => {
                const notebook = panel.content;
                notebook.activeCellIndex = notebook.widgets.findIndex(cell => cell.model.id === id);
                notebook.scrollToCell(notebook.activeCell);
            }""",
            name,
        )
        return panel.locator(".jp-Cell.jp-mod-active")

    def close(self):
        """The notebook in front, whatever changed in it; its kernel stays."""
        self.tab.wait_for_function("panel.sessionContext.isReady")
        self.tab.evaluate("panel.dispose()")


@pytest.fixture(scope="module")
def lab(browser, server):
    """JupyterLab, opened."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    lab = Lab(context, server)
    yield lab
    hosts = {re.match(r"\w+:(?://)?([^/]*)", address)[1] for address in lab.asked if not address.startswith("data:")}
    context.close()
    assert hosts == {re.match(r"\w+://([^/]+)", server)[1]}, "asked of elsewhere"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_opens_with_its_texts_and_formulas_and_no_dialog(lab, name):
    panel = lab.open(name, shared=True)
    lab.rendered()
    assert panel.locator("h1").first.inner_text().startswith(f"{name[:2]} · ")
    assert lab.tab.locator(".jp-Dialog").count() == 0
    cells = json.loads((paths.NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    if any("$" in text for text in texts):
        panel.locator("mjx-container").first.wait_for(state="attached")
    assert panel.locator("mjx-merror, [data-mjx-error]").count() == 0
    lab.close()


@pytest.mark.parametrize("name", RUN)
def test_run_all_leaves_no_error_and_every_widget_is_there(lab, name):
    panel, cells = lab.run_all(name)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    outputs = [(cell["source"], output) for cell in code for output in cell["outputs"]]
    faults = [one for one in outputs if one[1]["output_type"] == "error" or one[1].get("name") == "stderr"]
    assert faults == []
    assert any("image/png" in output.get("data", {}) for _, output in outputs)
    for cell in code:
        if any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in cell["outputs"]):
            lab.cell(panel, cell["id"]).locator(".jupyter-widgets").first.wait_for()
    assert panel.get_by_text(re.compile("Error (displaying|creating) widget")).count() == 0
    assert lab.tab.locator(".jp-Dialog").count() == 0


@pytest.mark.parametrize("name", RUN)
def test_the_words_of_a_solution_stay_folded_when_all_is_run(lab, name):
    """What its cells print does not: JupyterLab shows the output of whatever it runs."""
    lab.run_all(name)
    seen = lab.tab.evaluate(
        """() => panel.content.widgets
            .filter(cell => cell.model.type === 'markdown' && cell.model.getMetadata('tags')?.includes('solution'))
            .map(cell => [...cell.node.querySelectorAll('p')].filter(part => part.checkVisibility()).length)"""
    )
    assert seen
    assert not any(seen)


def test_a_slider_moved_by_key_changes_its_figure(lab):
    panel, _ = lab.run_all("10_entropy_of_targets")
    cell = lab.cell(panel, "simplex-explorer")
    figure, told = cell.locator(".widget-html svg"), cell.locator(".widget-html p")
    before = figure.inner_html()
    assert told.inner_text().startswith("alpha 0.3, tau 4: ")
    cell.get_by_role("slider").first.press("ArrowRight")
    cell.get_by_text("alpha 0.35, tau 4: ").wait_for()
    assert figure.inner_html() != before


def test_an_exercise_goes_through_its_three_states_as_its_cell_is_edited(lab):
    panel, _ = lab.run_all("10_entropy_of_targets")
    cell = lab.cell(panel, "try-1")
    said = cell.locator(".jp-OutputArea-output strong")
    assert said.inner_text() == "Exercise 10.1: not tried yet."
    for answer, state in (("0.1", "not yet"), ("0.1 * 3 / 2", "right")):
        cell.locator(".cm-content").click()
        lab.tab.keyboard.press("Control+A")
        lab.tab.keyboard.insert_text(f'my_alpha = {answer}\nexercise("10.1", my_alpha)')
        lab.tab.keyboard.press("Control+Enter")
        cell.get_by_text(f"Exercise 10.1: {state}.").wait_for()
    assert cell.get_by_text("a hint").count() == 0
