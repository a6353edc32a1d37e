"""The command `kdnb`: its promises to people (help, one line per mistake) and to programs (--json)."""

import inspect
import os
import re
import subprocess
import sys
from dataclasses import replace

import fakes
import pytest
import typer
import yaml
from command import last_json, process

from kdnb import paths
from kdnb.cli.commands import app
from kdnb.core import store as runs
from kdnb.data import origins
from kdnb.experiment.arms import ARMS, arm_config

TOY = ["--profile", "toy"]


def commands(of=app, words=()):
    """The words of every command and group of commands, with whether it is a command."""
    yield words, False
    yield from (((*words, one.name or one.callback.__name__), True) for one in of.registered_commands)
    for group in of.registered_groups:
        yield from commands(group.typer_instance, (*words, group.name))


@pytest.mark.parametrize(
    ("words", "does"), list(commands()), ids=lambda one: "-".join(one) if isinstance(one, tuple) else ""
)
def test_help_tells_what_a_command_does(kdnb, words, does):
    code, out, err = kdnb(*words, "--help")
    assert code == 0
    assert err == ""
    assert "Usage:" in out
    assert "--help" in out
    assert ("--json" in out) == does


def test_the_overview_lists_every_command_with_its_own_first_sentence(kdnb):
    from kdnb.cli.main import ABOUT, COMMANDS

    own = {one.name or one.callback.__name__: inspect.getdoc(one.callback) for one in app.registered_commands}
    own |= {one.name: one.typer_instance.info.help for one in app.registered_groups}
    assert {name: " ".join(text.split("\n\n")[0].split()) for name, text in own.items()} == COMMANDS
    assert app.info.help == ABOUT
    assert all(text in kdnb("--help")[1] for text in COMMANDS.values())


def options_of(command):
    params = typer.main.get_command(app).commands[command].params
    return [one for one in params if one.param_type_name == "option"]


@pytest.mark.parametrize("command", ["compare", "train"])
def test_help_says_what_holds_where_an_option_is_not_given(command):
    optional = {one.name: one.help for one in options_of(command) if one.default is None}
    assert len(optional) > 9
    assert [name for name, text in optional.items() if not re.search(r"\[default: .+\]$", text)] == []


def test_help_has_the_defaults_of_a_run():
    """What it says of train's options is what the config of a run has without them."""
    said = {one.name: one.help.partition("[default: ")[2][:-1] for one in options_of("train")}
    plain = arm_config("erm_small", task="rt", profile="toy", data="", seed=0)
    for name in ("batch_size", "schedule", "precision", "optimizer", "momentum", "weight_decay", "augment"):
        assert said[name] == f"{getattr(plain, name)}".removesuffix(".0"), name
    assert said["alpha"] == "the profile's (ls, kd, tfkd), 0.9 (transformed, features, rkd), 1 (dkpp)"
    assert said["tau"] == "1 (kd, transformed, features, rkd), 20 (tfkd)"
    assert said["confidence"] == "0.9 (paper), 0.99 (released)"
    assert (said["dropout"], said["lr"], said["tau2_scaling"]) == ("the profile's", "the profile's", "on")


def test_help_names_units_and_ranges(kdnb):
    _, out, _ = kdnb("train", "--help")
    for words in ("in [0, 1]", "> 0", ">= 1", "large or small", "one of auto, fp32, bf16"):
        assert words in " ".join(out.split())
    assert "nats" in kdnb("runs", "list", "--help")[1]
    assert "nats" in kdnb("--help")[1]


@pytest.mark.slow
def test_the_overview_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['kdnb', '--help']\nfrom kdnb.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print({'torch', 'transformers', 'pandas', 'numpy', 'papermill', 'typer'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"


@pytest.mark.slow
def test_version_and_no_words(kdnb):
    cited = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"]
    assert kdnb("--version") == (0, f"kdnb {cited}\n", "")
    done = process()
    assert "Usage:" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


MISTAKES = {
    "unknown task": (["compare", "rtt", *TOY], ["unknown task 'rtt'", "did you mean 'rt'?"]),
    "unknown task of train": (["train", "mrcp", *TOY], ["did you mean 'mrpc'?"]),
    "unknown profile": (["compare", "rt", "--profile", "tyo"], ["unknown profile 'tyo'", "did you mean 'toy'?"]),
    "unknown study profile": (["study", "--profile", "dmo"], ["unknown profile 'dmo'", "did you mean 'demo'?"]),
    "unknown report profile": (["report", "--profile", "dmo"], ["dmo"]),
    "unknown method": (["train", "rt", *TOY, "--method", "erms"], ["unknown method 'erms'", "did you mean 'erm'?"]),
    "unknown arm": (["compare", "rt", *TOY, "--arms", "erm_smal"], ["unknown arm 'erm_smal'", "'erm_small'"]),
    "unknown option": (["compare", "rt", "--sedes", "0"], ["--sedes", "--seeds"]),
    "unknown command": (["comparee"], ["comparee"]),
    "unknown notebook": (["run", "20_finetun"], ["unknown notebook '20_finetun'", "20_finetune"]),
    "unknown student": (["train", "rt", *TOY, "--student", "huge"], ["student must be large, small or", "huge"]),
    "alpha too large": (["train", "rt", *TOY, "--method", "ls", "--alpha", "1.5"], ["alpha must be in [0, 1]", "1.5"]),
    "alpha below 0": (["compare", "rt", *TOY, "--kd-alpha", "-0.1"], ["alpha must be in [0, 1]", "-0.1"]),
    "released kd": (
        ["train", "rt", *TOY, "--tfkd-form", "released"], ["tfkd_form must be 'paper' for erm, where it has no use"]
    ),
    "multiplier": (
        ["train", "rt", *TOY, "--method", "tfkd", "--multiplier", "50"], ["multiplier must be", "1 for everything else"]
    ),
    "alpha of erm": (["train", "rt", *TOY, "--alpha", "0.5"], ["alpha must be 0.0 for erm, where it has no use"]),
    "setting of another method": (["train", "rt", *TOY, "--matched", "mean"], ["matched is no setting of erm"]),
    "tau of a study's method": (
        ["train", "rt", *TOY, "--method", "dkpp", "--teacher", "small", "--tau", "4"], ["tau must be 1.0 for dkpp"]
    ),
    "study's method without teacher": (["train", "rt", *TOY, "--method", "cwtm"], ["cwtm needs --teacher"]),
    "tau 0": (["train", "rt", *TOY, "--method", "kd", "--teacher", "small", "--tau", "0"], ["tau must be > 0"]),
    "epochs 0": (["compare", "rt", *TOY, "--epochs", "0"], ["epochs must be >= 1", "got 0"]),
    "lr of text": (["compare", "rt", *TOY, "--lr", "fast"], ["--lr"]),
    "seeds of text": (["compare", "rt", *TOY, "--seeds", "a,b"], ["seeds must be comma-separated integers", "'a,b'"]),
    "seed below 0": (["train", "rt", *TOY, "--seed", "-1"], ["seed must be", "-1"]),
    "precision": (["train", "rt", *TOY, "--precision", "fp8"], ["precision must be one of auto, fp32, bf16", "fp8"]),
    "kd without teacher": (["train", "rt", *TOY, "--method", "kd"], ["kd needs --teacher"]),
    "erm with teacher": (["train", "rt", *TOY, "--teacher", "small"], ["--teacher"]),
    "unknown teacher": (["train", "rt", *TOY, "--method", "kd", "--teacher", "tiny"], ["teacher must be", "run_id"]),
    "no task": (["compare", *TOY], ["name a task", "--data"]),
    "task and data": (["compare", "rt", "--data", "x.csv", *TOY], ["not both\n"]),
    "a word of a column's name": (
        ["compare", "of", "--data", "x.csv", "--label", "kind", *TOY],
        ["either a task (of)", "a column's name with blanks stands in quotes"],
    ),
    "student of no arm": (
        ["compare", "rt", *TOY, "--arms", "erm_small", "--teacher", "bert-4"],
        ["bert-4: none of the arms erm_small has a large model"],
    ),
    "data without columns": (["compare", "--data", "x.csv", *TOY], ["--text and --label"]),
    "test file of no data": (["compare", "rt", *TOY, "--test", "x.csv"], ["--test x.csv is said of your own file"]),
    "label of no data": (["teachers", "rows", "x.csv", "--task", "rt", "--label", "a"], ["--label a is said of your"]),
    "form of no table": (["compare", "rt", *TOY, "--teacher-form", "votes"], ["--teacher-form votes says what"]),
    "form of no teacher's table": (
        ["train", "rt", *TOY, "--method", "kd", "--teacher", "small", "--teacher-form", "votes"], ["votes says what"]
    ),
    "sharpness of no arm": (["compare", "rt", *TOY, "--sharpness", "2"], ["--sharpness 2: none of the arms erm_large"]),
    "tau of no arm": (["compare", "rt", *TOY, "--arms", "ls_small", "--tau", "4"], ["--tau 4: none of the arms"]),
    "alpha of no arm": (["compare", "rt", *TOY, "--arms", "kd_self", "--ls-alpha", "0"], ["--ls-alpha 0: none of"]),
    "no such file": (["compare", "--data", "x.csv", "--text", "a", "--label", "b"], ["x.csv: no such file"]),
    "notebooks to an address": (["notebooks", "s3://b/d"], ["s3://b/d: expected a path on this machine"]),
    "export to an address": (["export", "x", "gs://b/d"], ["gs://b/d: expected a path on this machine"]),
    "student to an address": (["lm", "export", "x", "gs://b/d"], ["gs://b/d: expected a path on this machine"]),
    "rows to an address": (["teachers", "rows", "s3://b/r.csv", "--task", "rt"], ["s3://b/r.csv: expected a path"]),
    "predictions to an address": (["predict", ".", "x.csv", "--out", "s3://b/p"], ["s3://b/p: expected a path"]),
    "new texts at an address": (["predict", ".", "s3://b/x.csv"], ["s3://b/x.csv: expected a file on this machine"]),
    "a table at an address": (
        ["train", "rt", *TOY, "--method", "kd", "--teacher-table", "s3://b/t.csv"],
        ["s3://b/t.csv: expected a file on this machine"],
    ),
    "seeds below 0": (["simulate", "--seeds", "0,-1"], ["seeds must be >= 0, got -1"]),
    "own task": (["compare", "own:mine", "--profile", "toy"], ["own:mine is of your own file: kdnb compare"]),
    "no such run": (["runs", "show", "rt-erm"], ["no run 'rt-erm'"]),
    "parameter without value": (["run", "20_finetune", "-p", "seeds"], ["'seeds' must be name=value"]),
    "unknown parameter": (["run", "20_finetune", "-p", "sedes=1"], ["parameter 'sedes'", "did you mean 'seeds'?"]),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("words", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(kdnb, words, told):
    code, _, err = kdnb(*words)
    assert code == 2, err
    assert err.startswith("kdnb: ")
    assert len(err.splitlines()) == 1, err
    for part in told:
        assert part in err
    assert "Traceback" not in err
    assert not paths.RUNS.exists() or [p.name for p in paths.RUNS.iterdir() if not p.name.startswith(".locks")] == []


@pytest.mark.slow
@pytest.mark.parametrize("words", [["compare", "rtt"], ["train", "rt", "--alpha", "x"]])
def test_a_mistake_is_one_line_from_the_shell_too(tmp_path, words):
    done = process(*words, outputs=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("kdnb: ")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def csv(path, rows, header="text,label"):
    path.write_bytes((header + "\n" + "\n".join(rows) + "\n").encode("latin-1"))
    return path


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["a,x"] * 8, "one class only"),
        ([f'"a{i},x' if i in (2, 5) else f"a{i},x" for i in range(8)], "data row 3 (line 4): a quote opens there"),
        (["é,x", "b,y"] * 4, "not UTF-8"),
        (["a,x", ",y"] * 4, "4 rows with nothing in column 'text', the first is data row 2; take such rows out"),
        ([], "no rows"),
    ],
)
def test_a_bad_file_is_one_line_too(kdnb, tmp_path, rows, told):
    path = csv(tmp_path / "mine.csv", rows)
    code, _, err = kdnb("compare", "--data", path, "--text", "text", "--label", "label", *TOY)
    assert code == 2
    assert err.startswith(f"kdnb: {path}: ")
    assert told in err
    assert len(err.splitlines()) == 1


def test_a_file_that_stands_where_a_task_does_is_told_its_option(kdnb, tmp_path):
    path = csv(tmp_path / "mine.csv", ["a,x", "b,y"])
    _, _, err = kdnb("compare", path, *TOY)
    assert err == f"kdnb: {path} is a file: kdnb compare --data {path} --text COLUMN --label COLUMN\n"


@pytest.mark.slow
def test_a_teacher_of_another_task_is_refused(kdnb):
    teacher = last_json(kdnb("train", "rt", *TOY, "--epochs", "1", "--json")[1])["run_id"]
    code, _, err = kdnb("train", "headline", *TOY, "--method", "kd", "--teacher", teacher)
    assert code == 2
    assert f"teacher {teacher} was trained on rt" in err
    assert runs.stored_ids() == [teacher]


@pytest.mark.slow
def test_compare_prints_a_table_and_one_json_object(kdnb):
    words = ["compare", "rt", *TOY, "--seeds", "0,1", "--arms", "kd_self,ls_small", "--epochs", "1", "--json"]
    code, out, err = kdnb(*words)
    assert (code, err) == (0, "")
    found = last_json(out)
    assert found["task"] == "rt"
    assert {(entry["arm"], entry["seed"]) for entry in found["arms"]} == {
        (arm, seed) for arm in ("erm_small", "ls_small", "kd_self") for seed in (0, 1)
    }
    by_id = {entry["run_id"]: entry for entry in found["arms"]}
    for entry in found["arms"]:
        assert {"arm", "method", "student", "teacher", "seed", "entropy", "accuracy", "run_id"} <= set(entry)
        assert 0 <= entry["entropy"] <= 0.6932
        assert 0 <= entry["accuracy"] <= 1
        stored = runs.load(entry["run_id"])
        assert stored.metrics["test"]["entropy"] == entry["entropy"]
        assert (stored.config.method, stored.config.student) == (entry["method"], entry["student"])
        assert stored.config.epochs == 1
        assert (entry["arm"] == "kd_self") == bool(entry["teacher"])
        if entry["teacher"]:
            assert by_id[entry["teacher"]]["arm"] == ARMS["kd_self"].teacher
            assert by_id[entry["teacher"]]["seed"] == entry["seed"]
    for arm in ("ERM small", "LS small", "Self-KD"):
        assert arm in out
    assert out.count("trained in") == 6
    again = kdnb(*words)[1]
    assert again.count("loaded") == 6
    assert "trained in" not in again
    assert last_json(again) == found
    assert "\r" not in out  # no bar where nobody watches


@pytest.mark.slow
def test_compare_on_ones_own_file(kdnb, tmp_path):
    rows = [("bad", "no") if i % 2 else ("good", "yes") for i in range(40)]
    path = csv(tmp_path / "mine.csv", [f"{word} word{i % 7},{label}" for i, (word, label) in enumerate(rows)])
    words = ["compare", "--data", path, "--text", "text", "--label", "label", *TOY, "--seeds", "0", "--epochs", "1"]
    code, out, _ = kdnb(*words, "--arms", "erm_small,kd_self", "--json")
    assert code == 0
    found = last_json(out)
    assert found["task"] == "own:mine"
    assert sum(found["rows"].values()) == 40
    assert [entry["arm"] for entry in found["arms"]] == ["erm_small", "kd_self"]


@pytest.mark.slow
def test_train_says_what_it_trained(kdnb):
    words = ["train", "section", *TOY, "--method", "kd", "--student", "large", "--teacher", "small", "--alpha", "0.25"]
    words += ["--tau", "4", "--lr", "0.001", "--epochs", "1", "--seed", "3", "--order-seed", "9"]
    code, out, _ = kdnb(*words, "--json")
    assert code == 0
    found = last_json(out)
    assert (found["arm"], found["method"], found["student"]) == ("kd_reverse", "kd", "large")
    stored = runs.load(found["run_id"]).config
    assert (stored.alpha, stored.tau, stored.lr, stored.epochs) == (0.25, 4, 0.001, 1)
    assert (stored.seed, stored.order_seed) == (3, 9)
    teacher = runs.load(found["teacher"]).config
    assert (teacher.method, teacher.student, teacher.seed, teacher.lr) == ("erm", "small", 3, 0.001)


@pytest.mark.slow
def test_train_knows_the_methods_of_studies_with_their_own_defaults(kdnb):
    words = ["train", "rt", *TOY, "--epochs", "1", "--teacher", "small", "--json"]
    permuted = last_json(kdnb(*words, "--method", "dkpp")[1])
    assert (permuted["method"], permuted["alpha"]) == ("dkpp", 1.0)
    matched = last_json(kdnb(*words, "--method", "matched_ls", "--matched", "instance")[1])
    config = last_json(kdnb("runs", "show", matched["run_id"], "--json")[1])["config"]
    assert (config["matched"], config["teacher_run"]) == ("instance", permuted["teacher"])


@pytest.mark.slow
def test_train_knows_both_forms_of_teacher_free_kd_and_kd_without_tau_squared(kdnb):
    words = ["train", "rt", *TOY, "--epochs", "1", "--json", "--method"]
    released = ["tfkd", "--tfkd-form", "released", "--multiplier", "2"]
    ids = [last_json(kdnb(*words, *more)[1])["run_id"] for more in (["tfkd"], released)]
    paper, code = (runs.load(run_id).config for run_id in ids)
    assert (paper.tfkd_form, paper.confidence, paper.multiplier) == ("paper", 0.9, 1)
    assert (code.tfkd_form, code.confidence, code.multiplier) == ("released", 0.99, 2)
    found = last_json(kdnb(*words, "kd", "--teacher", "small", "--tau", "4", "--no-tau2-scaling")[1])
    assert not runs.load(found["run_id"]).config.tau2_scaling
    assert runs.load(found["teacher"]).config.tau2_scaling  # nothing of the student's loss is its teacher's


@pytest.mark.parametrize(("task", "near"), [("sektion", "section"), ("own:mnie", "own:mine"), ("rtt@0.2", "rt@0.2")])
def test_runs_of_a_task_that_nobody_knows_are_a_slip(kdnb, tmp_path, task, near):
    for stored in ("own:mine", "rt@0.2"):
        fakes.store_run(arm_config("erm_small", task=stored, profile="toy", data="0" * 16, seed=0), 10)
    for words in (("list",), ("table", tmp_path / "runs.parquet")):
        code, _, err = kdnb("runs", *words, "--task", task)
        assert (code, err.split(" (known: ")[0]) == (2, f"kdnb: unknown task {task!r}; did you mean {near!r}?")
        code, out, _ = kdnb("runs", *words, "--task", "own:mine")
        assert (code, "1 runs" in out) == (0, True)
    assert "0 runs" in kdnb("runs", "list", "--task", "section")[1]


@pytest.mark.slow
def test_runs_list_and_show(kdnb):
    made = last_json(kdnb("train", "rt", *TOY, "--epochs", "1", "--json")[1])
    listed = last_json(kdnb("runs", "list", "--json")[1])["runs"]
    assert listed == [made]
    assert last_json(kdnb("runs", "list", "--task", "sst2", "--json")[1])["runs"] == []
    shown = last_json(kdnb("runs", "show", made["run_id"], "--json")[1])
    assert shown["config"]["task"] == "rt"
    assert shown["metrics"]["test"]["entropy"] == made["entropy"]


@pytest.mark.slow
def test_verify_finds_a_flipped_byte_sets_aside_and_redoes(kdnb):
    words = ["compare", "rt", *TOY, "--seeds", "0", "--arms", "kd_self", "--epochs", "1"]
    entries = last_json(kdnb(*words, "--json")[1])["arms"]
    assert kdnb("runs", "verify")[0] == 0
    teacher, student = (next(e["run_id"] for e in entries if e["arm"] == arm) for arm in ("erm_small", "kd_self"))
    before = {run_id: runs.load(run_id).logits["test"].tobytes() for run_id in (teacher, student)}

    def flip(run_id):
        path = paths.RUNS / run_id / "arrays.npz"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)

    flip(student)
    code, out, _ = kdnb("runs", "verify", "--json")
    assert code == 1
    assert student in out
    assert last_json(out) == {"checked": 2, "damaged": [student], "redone": [], "foreign": []}
    assert runs.stored_ids() == [teacher]
    assert len(list(paths.DAMAGED.iterdir())) == 1
    kdnb(*words)
    flip(student)
    flip(teacher)
    code, out, _ = kdnb("runs", "verify", "--redo", "--json")
    assert code == 0
    assert last_json(out) == {
        "checked": 2,
        "damaged": sorted([student, teacher]),
        "redone": [teacher, student],
        "foreign": [],
    }
    assert {run_id: runs.load(run_id).logits["test"].tobytes() for run_id in before} == before


@pytest.mark.slow
def test_verify_exits_1_where_a_run_cannot_be_redone(kdnb):
    """A damaged config leaves nobody knowing what to train."""
    run_id = last_json(kdnb("train", "rt", *TOY, "--epochs", "1", "--json")[1])["run_id"]
    (paths.RUNS / run_id / "config.json").write_text("{}")
    code, out, _ = kdnb("runs", "verify", "--redo")
    assert "cannot be redone" in out
    assert code == 1


@pytest.fixture
def damaged(kdnb, monkeypatch):
    """damaged(configs): their runs, stored and then damaged; training them takes no time."""
    from kdnb.experiment import training

    def train_epochs(configs, data, teacher=None, on_step=None, on_run=None):
        made = [fakes.made_run(config) for config in configs]
        for run in made:
            on_run(run)
        return made

    monkeypatch.setattr(training, "train_epochs", train_epochs)

    def damage(configs):
        for config in configs:
            runs.save(fakes.made_run(config))
            (paths.RUNS / config.run_id() / "history.csv").write_bytes(b"odd")

    return damage


def test_verify_redoes_what_it_can_students_behind_their_teachers(kdnb, damaged, monkeypatch):
    """A student of a student sorts before its teacher by name; two others have lost their data and their teacher."""
    taught = {"method": "kd", "alpha": 0.5}
    first = fakes.CONFIG
    second = replace(first, seed=1, **taught, teacher_run=first.run_id())
    third = replace(first, seed=0, **taught, teacher_run=second.run_id())
    orphan = replace(first, seed=0, **taught, teacher_run="rt-erm-large-s0-0123456789ab")
    without_data = replace(first, seed=0, task="mrpc")
    damaged([first, second, third, orphan, without_data])

    def data_of(config):
        if config == without_data:
            raise ValueError("its texts are gone")

    monkeypatch.setattr(origins, "data_of", data_of)
    code, out, _ = kdnb("runs", "verify", "--redo", "--json")
    found = last_json(out)
    assert code == 1
    assert len(found["damaged"]) == 5
    assert found["redone"] == [config.run_id() for config in (first, second, third)]
    assert f"{without_data.run_id()}: cannot be redone: its texts are gone" in out
    assert f"{orphan.run_id()}: cannot be redone: no run 'rt-erm-large-s0-0123456789ab'" in out


def test_verify_says_that_a_damaged_reference_run_stays(kdnb, damaged):
    damaged([fakes.CONFIG])
    paths.RUNS.rename(paths.REFERENCE)
    out = kdnb("runs", "verify")[1]
    assert "left where it is, a reference run" in out
    assert "set aside" not in out
    assert runs.exists(fakes.CONFIG.run_id())


def test_verify_finds_a_run_whose_conversion_was_killed_between_two_renames(kdnb):
    runs.save(fakes.made_run())
    folder = paths.RUNS / fakes.CONFIG.run_id()
    folder.rename(folder.with_name(f".old-{folder.name}"))
    assert last_json(kdnb("runs", "verify", "--json")[1])["checked"] == 1
    assert runs.stored_ids() == [folder.name]


def test_doctor_tells_the_machine(kdnb):
    code, out, _ = kdnb("doctor", "--json")
    facts = last_json(out)
    assert code == 0
    assert {"python", "device", "precision", "packages", "data_cache", "outputs", "hub"} <= set(facts)
    assert facts["outputs_writable"] is True
    assert facts["packages"]["torch"] == __import__("torch").__version__
    assert facts["hub"].startswith("offline")


@pytest.mark.slow
def test_an_outputs_folder_in_the_way_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = process("train", "rt", *TOY, outputs=tmp_path / "file" / "outputs")
    assert done.returncode == 2
    assert done.stderr.startswith("kdnb: cannot write to ")
    assert "set KDNB_OUTPUTS to another folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def without_override():
    """Give up root's right to write anywhere (CAP_DAC_OVERRIDE), in the process to be started."""
    import ctypes

    if os.geteuid() == 0 and ctypes.CDLL(None, use_errno=True).prctl(24, 1, 0, 0, 0):  # PR_CAPBSET_DROP
        os._exit(99)


@pytest.mark.slow
def test_a_read_only_outputs_folder_is_one_line(tmp_path):
    folder = tmp_path / "outputs"
    folder.mkdir(mode=0o555)
    done = process("train", "rt", *TOY, outputs=folder, preexec_fn=without_override)
    if done.returncode == 99:
        pytest.skip("root may write anywhere here, and cannot give that right up")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"kdnb: cannot write to {folder}")
    assert "Permission denied" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    import resource

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))

    folder = tmp_path / "outputs"
    done = process("train", "rt", *TOY, "--epochs", "1", outputs=folder, preexec_fn=small_files)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("kdnb: cannot write run ")
    assert "free some space" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in (folder / "runs").iterdir()] in ([".locks"], [])


@pytest.mark.slow
def test_debug_shows_where(tmp_path, monkeypatch):
    monkeypatch.setenv("KDNB_DEBUG", "1")
    done = process("compare", "rtt", outputs=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
