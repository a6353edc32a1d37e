"""What a disk, a folder or a clock may do: one line that names it, nothing half-written, and it goes on afterwards."""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest
import stores
from command import forked_process
from victim import Victim

from kdnb import files, paths
from kdnb.core import store as runs

pytestmark = pytest.mark.faults
TOY = ["--profile", "toy"]
COMPARE = ["compare", "rt", *TOY, "--seeds", "0", "--arms", "erm_small,ls_small,erm_large,kd_standard"]
SWEEP = ["sweep", "search", "--task", "rt", *TOY, "--threads", "1", "--only", "lr=0.01"]
RUN = ["run", "10_entropy_of_targets"]
PURE = ("10", "11")  # notebooks that train nothing


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The store of one comparison and one sweep that nothing disturbed."""
    from typer.testing import CliRunner

    from kdnb.cli.commands import app

    outputs = tmp_path_factory.mktemp("plain") / "outputs"
    with stores.reading(outputs):
        for words in (COMPARE, SWEEP):
            done = CliRunner().invoke(app, words, catch_exceptions=False)
            assert done.exit_code == 0, done.output
    return outputs


def no_leftovers(outputs):
    """Whether nothing half-written lies in a store."""
    return not [path for path in outputs.rglob(".*") if path.is_file() and ".lock" not in path.name]


# A full disk


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(kilobytes): a new file system of that size in memory."""
    mounted = []

    def make(kilobytes):
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder, leave):
    """Fill a disk up to some bytes; the file that does it."""
    ballast = folder / "ballast"
    free = shutil.disk_usage(folder).free
    ballast.write_bytes(b"\0" * max(0, free - leave))
    return ballast


@pytest.mark.parametrize("name", ["compare", "sweep"])
def test_a_full_disk(small_disk, command, unclear, told, share, plain, name):
    """At some place between the first byte and the last one line, finished runs kept; with space again it goes on."""
    words = COMPARE if name == "compare" else SWEEP
    counts = {"injected": 0, "lost": 0, "corrupted": 0, "unclear": 0}
    for leave in [kilobytes * 1024 for kilobytes in range(0, 96, max(8, 96 // share(12)))]:
        outputs = small_disk(4096) / "outputs"
        ballast = fill(outputs.parent, leave)
        code, _, err = command(outputs, *words)
        if code == 0:  # so little was enough
            continue
        counts["injected"] += 1
        counts["unclear"] += code != 2 or unclear(err, "No space left on device")
        counts["corrupted"] += len(stores.verified(outputs)) + (not no_leftovers(outputs))
        kept = stores.marks(outputs)
        ballast.unlink()
        assert command(outputs, *words)[0] == 0
        now = stores.marks(outputs)
        counts["lost"] += sum(now.get(run) != mark for run, mark in kept.items())
        found, wanted = stores.content(outputs), stores.content(plain)
        counts["corrupted"] += any(wanted[part] != raw for part, raw in found.items() if part != "table")
    told("Disk", f"full during `kdnb {name}`", **counts)


def test_a_full_disk_for_a_notebook_and_a_report(small_disk, command, unclear, told, plain):
    outputs = small_disk(6144) / "outputs"
    shutil.copytree(plain / "runs", outputs / "runs")
    shutil.copytree(plain / "labels", outputs / "labels")
    assert command(outputs, "report", *TOY)[0] == 0
    page = (outputs / "report.html").read_bytes()
    fill(outputs.parent, 8192)
    bad = 0
    for words in (["report", *TOY], ["run", "10_entropy_of_targets"]):
        code, _, err = command(outputs, *words)
        bad += code == 0 or unclear(err, "No space left on device", "raised OSError")
    executed = list((outputs / "executed").glob("*")) if (outputs / "executed").exists() else []
    broken = sum("cells" not in json.loads(path.read_text()) for path in executed)
    broken += (outputs / "report.html").read_bytes() != page
    told("Disk", "full during `kdnb report` and `kdnb run`", 2, corrupted=broken, unclear=bad)


# Folders that may not be written


@contextlib.contextmanager
def mere_user():
    """Without the rights of root over other people's files: the permission bits count, whoever runs this."""

    class Header(ctypes.Structure):
        _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

    class Data(ctypes.Structure):
        _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]

    libc, header, data = ctypes.CDLL(None, use_errno=True), Header(0x20080522, 0), (Data * 2)()
    if os.geteuid() or libc.capget(ctypes.byref(header), data):
        yield
        return
    before = data[0].effective
    data[0].effective = before & ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert libc.capset(ctypes.byref(header), data) == 0
    try:
        yield
    finally:
        data[0].effective = before
        libc.capset(ctypes.byref(header), data)


@pytest.mark.parametrize("words", [COMPARE, SWEEP, ["report", *TOY], ["run", "10_entropy_of_targets"]], ids=str)
def test_a_folder_that_may_not_be_written(tmp_path, command, unclear, told, plain, words):
    """Root without CAP_DAC_OVERRIDE is held to the permission bits as anybody is."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    if words[0] == "report":
        shutil.copytree(plain / "runs", outputs / "runs")
        shutil.copytree(plain / "labels", outputs / "labels")
    before = sorted(outputs.rglob("*"))
    outputs.chmod(0o555)
    try:
        with mere_user():
            with pytest.raises(PermissionError):
                (outputs / "probe").touch()
            code, _, err = command(outputs, *words)
            facts = command(outputs, "doctor", "--json")[1]
    finally:
        outputs.chmod(0o755)
    assert code == 2, err
    assert json.loads(facts.strip().splitlines()[-1])["outputs_writable"] is False
    lost = sorted(outputs.rglob("*")) != before
    told("Disk", "outputs folder read-only", 1, lost=lost, unclear=unclear(err, "Permission denied"))


def test_a_disk_mounted_read_only(small_disk, command, unclear, told):
    disk = small_disk(512)
    (disk / "outputs").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    code, _, err = command(disk / "outputs", *COMPARE)
    told("Disk", "disk mounted read-only", 1, unclear=code != 2 or unclear(err, "Read-only file system"))


# Folders that go, files in their place, links


@pytest.mark.parametrize("gone", ["outputs", "runs", "labels"])
def test_a_folder_removed_under_our_feet(tmp_path, command, told, unclear, monkeypatch, plain, gone):
    """Between two runs: it is made again, or one line says what is missing; started again all is there."""
    outputs, real, times = tmp_path / "outputs", runs.save, []

    def save(run):
        times.append(run.run_id)
        if len(times) == 3:
            shutil.rmtree(outputs / ("" if gone == "outputs" else gone))
        real(run)

    monkeypatch.setattr(runs, "save", save)
    code, _, err = command(outputs, *COMPARE)
    bad = code not in (0, 2) or (code == 2 and unclear(err))
    monkeypatch.setattr(runs, "save", real)
    assert command(outputs, *COMPARE)[0] == 0
    found, wanted = stores.content(outputs), stores.content(plain)
    broken = any(wanted[part] != raw for part, raw in found.items() if part != "table")
    broken += len(stores.verified(outputs))
    told("Disk", "a folder removed between two runs", 1, corrupted=broken, unclear=bad)


def test_executed_notebooks_removed_while_a_study_runs(tmp_path, command, told, monkeypatch, plain):
    """With their folder, as each notebook ends: it is made again, and the study goes on to its report."""
    from kdnb.report import notebooks
    from kdnb.studies import registry

    real, every, removed = notebooks._put_in_place, registry.notebooks, []

    def put_in_place(executed, output, facts):
        removed.append(sorted(path.name for path in output.parent.iterdir()))
        shutil.rmtree(output.parent)
        real(executed, output, facts)

    monkeypatch.setattr(notebooks, "_put_in_place", put_in_place)
    monkeypatch.setattr(registry, "notebooks", lambda profile: [one for one in every(profile) if one[0][:2] in PURE])
    outputs = tmp_path / "outputs"
    shutil.copytree(plain, outputs)
    code, _, err = command(outputs, "study", *TOY)
    assert code == 0, err
    assert [len(names) for names in removed] == [0, 1]
    lost = len(list((outputs / "executed").glob("*.ipynb"))) != 1 or not (outputs / "report.html").exists()
    told("Disk", "executed notebooks removed while a study runs", len(removed), lost=lost)


IN_THE_WAY = {  # a file of this name where a folder should be -> what then fails
    "": [COMPARE, SWEEP, ["report", *TOY]],
    "runs": [COMPARE, SWEEP],
    "labels": [COMPARE],
    "runs/.locks": [COMPARE],
    "sweeps": [SWEEP],
    "executed": [["run", "10_entropy_of_targets"]],
}


@pytest.mark.parametrize("name", IN_THE_WAY, ids=lambda name: name or "outputs")
def test_a_file_where_a_folder_should_be(tmp_path, command, unclear, told, name):
    outputs, bad = tmp_path / "outputs", 0
    path = outputs / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("in the way")
    for words in IN_THE_WAY[name]:
        code, _, err = command(outputs, *words)
        bad += code != 2 or unclear(err)
    assert path.read_text() == "in the way"
    if not name:
        facts = command(outputs, "doctor", "--json")[1]
        assert json.loads(facts.strip().splitlines()[-1])["outputs_writable"] is False
    told("Disk", "a file where a folder should be", len(IN_THE_WAY[name]), unclear=bad)


def test_links_planted_in_outputs(tmp_path, command, told, plain):
    """Nothing outside is written or removed: files that replace a link replace the link, a run behind one is read."""
    outputs, elsewhere = tmp_path / "outputs", tmp_path / "elsewhere"
    shutil.copytree(plain, outputs)
    elsewhere.mkdir()
    (elsewhere / "report.html").write_text("mine")
    (elsewhere / "labels").write_text("mine")
    (outputs / "report.html").unlink(missing_ok=True)
    (outputs / "report.html").symlink_to(elsewhere / "report.html")
    (labels,) = (outputs / "labels").iterdir()
    labels.unlink()
    labels.symlink_to(elsewhere / "labels")
    some = sorted((outputs / "runs").glob("rt-*"))
    shutil.move(some[0], elsewhere / "run")
    some[0].symlink_to(elsewhere / "run")
    (elsewhere / "run" / "arrays.npz").write_bytes(b"not a run")
    before = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    for words in (COMPARE, SWEEP, ["report", *TOY], ["runs", "verify"]):
        code, _, err = command(outputs, *words)
        assert code == 0, err
    now = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    wrong = any(stores.content(plain)[part] != raw for part, raw in stores.content(outputs).items() if part != "table")
    told("Disk", "a link planted in outputs", 3, lost=before != now, corrupted=wrong)


PLANTED = {  # a folder in outputs that is a link elsewhere -> what would write there
    "runs": [COMPARE, SWEEP, ["runs", "verify"], ["runs", "migrate"]],
    "runs/.locks": [COMPARE],
    "labels": [COMPARE],
    "damaged": [COMPARE, ["runs", "verify"]],
    "sweeps": [SWEEP],
    "running": [SWEEP],
    "weights": [[*COMPARE, "--keep-weights"]],
    "executed": [RUN],
    "figures": [RUN],
    "site": [["report", *TOY]],
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_folder_planted_as_a_link(tmp_path, told, unclear, plain, name):
    """Nothing behind it is written, moved or removed; one line names it."""
    outputs, elsewhere, bad = tmp_path / "outputs", tmp_path / "elsewhere", 0
    shutil.copytree(plain, outputs)
    for one in (outputs / "runs").glob("rt-*"):
        if name != "site":
            (one / "arrays.npz").write_bytes(b"not a run")  # it is to be set aside and made again
    if name in ("labels", "running"):
        shutil.rmtree(outputs / "labels")
        shutil.rmtree(outputs / "runs")
    link = outputs / name
    link.mkdir(exist_ok=True)
    if name == "runs":
        (link / ".old-rt-x").mkdir()  # of a conversion that was killed
    (link / "mine").write_text("mine")
    shutil.move(link, elsewhere)
    link.symlink_to(elsewhere)
    before = {path: path.read_bytes() if path.is_file() else b"" for path in elsewhere.rglob("*")}
    for words in PLANTED[name]:
        done = forked_process(*words, outputs=outputs)
        bad += not done.returncode or unclear(done.stderr, "A link that leads out of the outputs folder")
    now = {path: path.read_bytes() if path.is_file() else b"" for path in elsewhere.rglob("*")}
    told("Disk", "a folder of outputs planted as a link", len(PLANTED[name]), lost=before != now, unclear=bad)


def test_no_folder_of_outputs_is_written_behind_a_link(tmp_path):
    """Whatever writes there: by name, a file, a whole folder; a link to another folder of outputs is followed."""
    outputs, elsewhere = tmp_path / "outputs", tmp_path / "elsewhere"
    outputs.mkdir()
    elsewhere.mkdir()
    (tmp_path / "linked").symlink_to(outputs)
    with stores.reading(outputs):
        for name in sorted({"lm", "targets", *stores.FOLDERS.values()} - {"", "report.html", "sweeps/grids"}):
            (outputs / name).symlink_to(elsewhere)
            for write in (
                lambda folder: paths.inside(folder, "a"),
                lambda folder: files.write_atomically(folder / "a" / "b", b""),
                lambda folder: files.write_folder(folder, lambda new: (new / "a").touch()),
                files.check_writable,
            ):
                with pytest.raises(OSError, match=f"A link that leads out .*outputs/{name}"):
                    write(outputs / name)
            (outputs / name).unlink()
        (outputs / "big").mkdir()
        (outputs / "figures").symlink_to(outputs / "big")
        files.write_atomically(paths.inside(paths.FIGURES, "a.png"), b"1")
        assert (outputs / "big" / "a.png").read_bytes() == b"1"
    assert not list(elsewhere.iterdir())


def test_outputs_may_be_a_link_itself(tmp_path, told):
    """A user's, to a larger disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "outputs").symlink_to(tmp_path / "disk")
    done = [forked_process(*words, outputs=tmp_path / "outputs") for words in (COMPARE, RUN, ["report", *TOY])]
    assert not any(one.returncode for one in done), done
    made = {path.name for path in (tmp_path / "disk").iterdir()}
    lost = {"runs", "labels", "executed", "figures", "site", "report.html"} - made
    told("Disk", "the outputs folder itself is a link", len(done), lost=len(lost))


# Two at once


def test_two_comparisons_on_one_store(tmp_path, told):
    """Each training is made once, whoever comes first."""
    both = Victim(tmp_path / "both", COMPARE, COMPARE)
    both.run()
    begun = both.begun()
    alone = Victim(tmp_path / "alone", COMPARE)
    alone.run()
    wrong = stores.content(both.outputs) != stores.content(alone.outputs)
    told("Disk", "two comparisons on one store", 1, repeated=len(begun) - len(set(begun)), corrupted=wrong)


def test_two_studies_on_one_store(tmp_path, told):
    """Two kernels at a time on one outputs folder: neither waits for the other's ports."""
    words = ["run", "20_finetune", "-p", "profile=toy"]
    both = Victim(tmp_path / "both", words, words)
    both.run()
    begun = both.begun()
    broken = sum("cells" not in json.loads(path.read_text()) for path in (both.outputs / "executed").glob("*"))
    told("Disk", "two notebooks on one store", 1, repeated=len(begun) - len(set(begun)), corrupted=broken)


# Clocks, copies, odd places


def test_a_clock_that_jumps_back(tmp_path, command, told, monkeypatch, plain):
    """400 days, in the middle of a sweep: what is stored is found, and times told are none below zero."""
    outputs, real = tmp_path / "outputs", time.time
    shutil.copytree(plain, outputs)
    for path in outputs.rglob("*"):
        os.utime(path, (real() + 86400, real() + 86400))  # files from tomorrow
    lost = sorted((outputs / "runs").glob("rt-*"))[-1]
    shutil.rmtree(lost)
    monkeypatch.setattr(time, "time", lambda: real() - 400 * 86400)
    bad = 0
    for words in (SWEEP, COMPARE, ["status"], ["report", *TOY]):
        code, out, err = command(outputs, *words)
        bad += code != 0 or (" -" in out and "s left" in out) or "Traceback" in err
    found, wanted = stores.content(outputs), stores.content(plain)
    told(
        "Disk",
        "the clock jumps back 400 days",
        1,
        lost=len(wanted) - len(found),
        corrupted=found != wanted,
        unclear=bad,
    )


def test_a_store_copied_elsewhere(tmp_path, command, told, plain):
    """To a folder with blanks and umlauts, all times new: nothing is trained again, and the page is the same."""
    outputs = tmp_path / "Kopie für Zoë (2)" / "out puts"
    shutil.copytree(plain, outputs, copy_function=shutil.copyfile)
    before = stores.marks(outputs)
    for words in (COMPARE, SWEEP, ["report", *TOY], ["runs", "verify"], ["runs", "list"]):
        code, _, err = command(outputs, *words)
        assert code == 0, err
    now = stores.marks(outputs)
    wrong = stores.content(outputs) != stores.content(plain)
    told("Disk", "a store copied elsewhere and read there", 1, repeated=before != now, corrupted=wrong)


def clone(tmp_path):
    """The package, its notebooks and pages in a folder with blanks and umlauts."""
    root = tmp_path / "Größe & Co" / "kd nb"
    for name in ("kdnb", "notebooks", "docs"):
        shutil.copytree(paths.ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


ODD = {  # name -> variables of the environment
    "a clone in a folder with blanks and umlauts": {},
    "TMPDIR that is not there": {"TMPDIR": "/nowhere/at/all"},
    "HOME that cannot be written": {"HOME": "/proc"},
    "no HOME": {"HOME": ""},
}
CODE = "import tempfile; tempfile.tempdir = None; from kdnb.cli.main import main; main()"


@pytest.mark.parametrize("name", ODD)
def test_odd_surroundings(tmp_path, told, name):
    """A training, a notebook with its kernel, and a report."""
    root = clone(tmp_path) if "clone" in name else paths.ROOT
    environment = {**os.environ, "PYTHONPATH": str(root), "KDNB_OUTPUTS": str(tmp_path / "outputs"), **ODD[name]}
    bad = 0
    for words in (["compare", "rt", *TOY, "--seeds", "0"], ["run", "10_entropy_of_targets"], ["report", *TOY]):
        done = forked.run([sys.executable, "-c", CODE, *words], env=environment, cwd=str(root))
        assert done.returncode == 0, done.stderr
        bad += "Traceback" in done.stderr
    assert (tmp_path / "outputs" / "report.html").exists()
    told("Disk", name, 3, corrupted=len(stores.verified(tmp_path / "outputs")), unclear=bad)


@pytest.mark.parametrize("code", [errno.EIO, errno.EDQUOT, errno.ESTALE], ids=errno.errorcode.get)
def test_a_disk_that_refuses_at_a_random_write(tmp_path, command, unclear, told, monkeypatch, share, plain, code):
    """The n-th sync fails: one line with the system's reason, nothing half-written, and it goes on."""
    bad, lost, broken, injected = 0, 0, 0, 0
    for number in range(1, 24, max(1, 24 // share(12))):
        outputs, real, count = tmp_path / f"{number}", os.fsync, [0]

        def fsync(descriptor, real=real, count=count, number=number):
            count[0] += 1
            if count[0] == number:
                raise OSError(code, os.strerror(code))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        ended, _, err = command(outputs, *COMPARE)
        monkeypatch.setattr(os, "fsync", real)
        if ended == 0:
            continue
        injected += 1
        bad += ended != 2 or unclear(err, os.strerror(code))
        broken += len(stores.verified(outputs)) + (not no_leftovers(outputs))
        kept = stores.marks(outputs)
        assert command(outputs, *COMPARE)[0] == 0
        lost += sum(stores.marks(outputs).get(run) != mark for run, mark in kept.items())
    told("Disk", "the system refuses a write", injected, lost=lost, corrupted=broken, unclear=bad)


def test_paths_are_not_those_of_the_checkout(tmp_path):
    """What these tests write lies in folders of their own."""
    with stores.reading(tmp_path):
        assert all(getattr(paths, name).is_relative_to(tmp_path) for name in stores.FOLDERS)
    assert not Path(paths.OUTPUTS).is_relative_to(tmp_path)
