"""`--data` of `kdnb compare` and of a grid: what is told of a file before anything is trained, and what is refused."""

import gzip

import numpy as np
import pytest
from command import last_json

from kdnb import paths
from kdnb.cli import telling
from kdnb.core import store as runs
from kdnb.data.tokens import Tokens

TRAIN = ["--profile", "toy", "--seeds", "0", "--epochs", "1", "--arms", "erm_small"]


def csv(path, rows, header="text,label"):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def moods(count, first=0):
    return [
        f"the plot feels {'dull' if i % 2 else 'bright'} to viewer {i},{i % 2}" for i in range(first, first + count)
    ]


@pytest.fixture
def compare(kdnb):
    """(exit code, output, error) of a comparison on a file."""

    def run(path, *words, text="text", label="label"):
        return kdnb("compare", "--data", path, "--text", text, "--label", label, *TRAIN, *words)

    return run


@pytest.mark.slow
def test_a_comparison_tells_of_its_texts_before_it_trains(compare, tmp_path):
    rows = [*moods(60), *moods(60), *("word " * 200 + f"{i},2" for i in range(12)), "seldom,3", "seldom at all,3"]
    path = tmp_path / "mine.txt"
    path.write_bytes(gzip.compress("\n".join(["text;label", *(row.replace(",", ";") for row in rows)]).encode()))
    code, out, err = compare(path, "--train-rows", "50", "--json")
    assert (code, err) == (0, "")
    told, trained = out.split("[1/1]")
    for line in (
        "mine.txt: text with semicolons, gzipped, 134 rows",
        "60 of 134 rows repeat an earlier row's text; equal texts stay in one split",
        "in train alone, for want of 3 different texts: 3 (2 rows)",
        "train: 50 of ",
        "tiny-small: 8 of ",
        " texts are cut to 32 tokens (--max-length)",
        "classes, rows in train + validation + test: 0 (",
    ):
        assert line in told, line
    assert "ERM small" in trained
    assert last_json(out)["rows"]["train"] == 50


@pytest.mark.slow
def test_a_test_file_is_read_to_its_last_row_and_longer_texts_if_asked(compare, tmp_path):
    path, test = csv(tmp_path / "train.csv", moods(40)), csv(tmp_path / "test.csv", moods(50, 100))
    code, out, _ = compare(path, "--test", test, "--max-length", "60", "--json")
    assert code == 0
    assert last_json(out)["rows"]["test"] == 50  # the profile's are 32
    assert "are cut" not in out
    code, out, _ = compare(path, "--test", test, "--test-rows", "10")
    assert "test: 10 of 50 rows; --test-rows 0 takes all" in out


@pytest.mark.slow
def test_texts_of_unknown_signs_say_so(compare, tmp_path):
    path = csv(tmp_path / "scripts.csv", [f"{'यह फिल्म' if i % 2 else '这部电影'} {i},{i % 2}" for i in range(40)])
    code, out, _ = compare(path)
    assert code == 0
    assert " % of the tokens are [UNK]" in out


@pytest.mark.slow
def test_a_file_without_a_header(compare, tmp_path):
    path = csv(tmp_path / "news.csv", [f"{1 + i % 4},headline {i},the lead of {i}" for i in range(40)], "1,a,b")
    code, out, _ = compare(path, "--columns", "label, title, text")
    assert code == 0
    assert "K = 4" in out
    code, _, err = compare(path)
    assert code == 2
    assert "no header? use --columns text,label" in err


REFUSED = {
    "rows below 0": (["--train-rows", "-5"], "--train-rows must be >= 0 (0 takes all), got -5"),
    "test rows below 0": (["--test-rows", "-1"], "--test-rows must be >= 0 (0 takes all), got -1"),
    "rows fewer than classes": (["--train-rows", "1"], "1 train rows are fewer than its 2 classes"),
    "a folder elsewhere": (["--valid", "s3://bucket/x.csv"], "s3://bucket/x.csv: expected a file on this machine"),
    "columns of another count": (["--columns", "text,title,label"], "its first row has 2 fields between commas"),
    "texts too short": (["--max-length", "4"], "max_length must be in 8..512 tokens, got 4"),
}


@pytest.mark.parametrize(("words", "told"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_one_line_and_nothing_is_written(compare, tmp_path, words, told):
    code, _, err = compare(csv(tmp_path / "mine.csv", moods(40)), *words)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert told in err
    assert not paths.RUNS.exists() or [p.name for p in paths.RUNS.iterdir() if not p.name.startswith(".locks")] == []


@pytest.mark.slow
def test_texts_longer_than_the_model_reads(compare, tmp_path):
    path = csv(tmp_path / "mine.csv", [*moods(40), *("word " * 70 + f"{i},{i % 2}" for i in range(20))])
    code, _, err = compare(path, "--max-length", "100")
    assert code == 2
    assert err.startswith("kdnb: tiny-small reads at most 64 tokens of a text, one has 7")
    assert compare(path, "--max-length", "64")[0] == 0


def test_rows_below_0_are_refused_of_a_named_task_too(kdnb):
    for command in ("train", "compare"):
        code, _, err = kdnb(command, "rt", "--profile", "toy", "--train-rows", "-5")
        assert (code, err) == (2, "kdnb: --train-rows must be >= 0 (0 takes all), got -5\n")


def test_classes_that_no_train_row_has_are_named():
    from kdnb.cli import telling
    from kdnb.data.splits import Rows, load

    told = list(telling.of_data(load("section", "toy", Rows(train=2))))
    assert any(line.startswith("  no train row of ") and line.count(",") == 2 for line in told), told
    assert not any("no train row" in line for line in telling.of_data(load("section", "toy")))


def test_a_files_own_words_reach_no_terminal_raw(compare, tmp_path):
    path = csv(tmp_path / "mine.csv", moods(20), "text,\x1b]0;pwned\x07")
    code, out, err = compare(path)
    assert code == 2
    assert "\x1b" not in out + err
    assert "\\x1b]0;pwned" in err


@pytest.mark.slow
def test_a_files_name_and_labels_reach_no_terminal_raw(compare, tmp_path):
    """Where all is well, too."""
    rows = [f"{row[:-1]}\x1b[3{row[-1]}mmood {row[-1]}" for row in moods(40)]
    code, out, err = compare(csv(tmp_path / "\x1b]0;pwned\x07mine.csv", rows))
    assert code == 0, err
    assert "\x1b" not in out + err
    assert "\x07" not in out + err
    assert "\\x1b]0;pwned" in out


SEARCH = ["search", "--text", "text", "--label", "label", "--profile", "toy", "--only", "lr=0.01"]


@pytest.mark.slow
def test_a_grid_on_a_file_is_planned_swept_and_selected_from(kdnb, tmp_path, monkeypatch):
    """Wherever it is started: the file is named by its whole path."""
    path = csv(tmp_path / "mine.csv", moods(60))
    monkeypatch.chdir(tmp_path)
    code, out, err = kdnb("plan", *SEARCH, "--data", "mine.csv", "--no-probe", "--json")
    assert (code, err, last_json(out)["runs"]) == (0, "", 8)
    code, out, _ = kdnb("sweep", *SEARCH, "--data", "mine.csv", "--train-rows", "0", "--json")
    assert code == 0
    assert "classes, rows in train + validation + test: 0 (" in out.split("sweep search-own-mine-toy-")[0]
    made, stored = last_json(out), runs.stored_ids()
    assert (made["done"], made["left"], len(stored)) == (8, 0, 8)
    monkeypatch.chdir("/")
    code, out, _ = kdnb("sweep", *SEARCH, "--data", path, "--train-rows", "0", "--json")
    assert (code, last_json(out)["sweep"], runs.stored_ids()) == (0, made["sweep"], stored)
    assert kdnb("status", made["sweep"])[0] == 0
    code, out, _ = kdnb("select", *SEARCH, "--data", path, "--train-rows", "0", "--json")
    chosen = last_json(out)["selected"]
    assert [(one["arm"], one["of"]) for one in chosen] == [("erm_large", 2), ("erm_small", 2), ("kd_standard", 4)]
    assert kdnb("export", chosen[-1]["run_id"], tmp_path / "model")[0] == 0  # where its texts are was noted


def test_a_plan_tells_of_a_file_what_a_sweep_tells(kdnb, tmp_path):
    path = csv(tmp_path / "mine.csv", [*moods(60), "seldom,2"])
    code, out, err = kdnb("plan", *SEARCH, "--data", path, "--arms", "erm_small", "--no-probe")
    assert (code, err) == (0, "")
    told = kdnb("teachers", "rows", tmp_path / "rows.csv", *SEARCH[1:-2], "--data", path)[1].split("61 rows of ")[0]
    assert "for want of 3 different texts: 2 (1 row)" in told
    assert told in out


def test_a_grid_that_a_file_cannot_have_is_refused_and_nothing_is_written(kdnb, tmp_path):
    path = csv(tmp_path / "mine.csv", moods(60))
    of_file = ["--data", path, "--text", "text", "--label", "label", "--profile", "toy"]
    for words, told in (
        (["generations", *of_file], "grid generations takes tasks by name, not own:mine, which is of your own file"),
        (["published7", *of_file], "Table 7 has no task 'own:mine'"),
        (["search", "--task", "rt", *of_file], f"either a task (rt) or --data ({path}), not both"),
        (["search", *of_file[:2]], f"--data {path} needs --text and --label, the names of its columns"),
        (["search", "--label", "label"], "--label label is said of your own file, and no file is given: --data FILE"),
        (["search", *of_file, "--train-rows", "-5"], "--train-rows must be >= 0 (0 takes all), got -5"),
        (["search", "--task", "own:mine"], "own:mine is of your own file: kdnb compare and kdnb sweep take --data"),
    ):
        code, out, err = kdnb("sweep", *words)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert err.startswith(f"kdnb: {told}"), err
    assert not paths.OUTPUTS.exists() or not list(paths.OUTPUTS.rglob("*.json"))


@pytest.mark.slow
def test_the_name_of_a_grids_file_reaches_no_terminal_raw(kdnb, tmp_path):
    path = csv(tmp_path / "\x1b]0;pwned\x07mine.csv", moods(60))
    for command in (["plan"], ["sweep"], ["select"], ["status"]):
        words = command if command == ["status"] else [*command, *SEARCH, "--data", path, "--arms", "erm_small"]
        code, out, err = kdnb(*words)
        assert code == 0
        assert "\x1b" not in out + err


@pytest.mark.slow
@pytest.mark.parametrize("notebook", ["20_finetune", "21_grid_search"])
def test_a_notebook_trains_on_the_file_that_a_command_was_given(kdnb, tmp_path, monkeypatch, notebook):
    monkeypatch.setenv("KDNB_OUTPUTS", str(tmp_path / "outputs"))  # its kernel's
    path = csv(tmp_path / "mine.csv", moods(60))
    assert kdnb("compare", "--data", path, "--text", "text", "--label", "label", *TRAIN, "--train-rows", "0")[0] == 0
    (first,) = (runs.config_of(run_id).data for run_id in runs.stored_ids())
    asked = ["arms=erm_small,ls_small", "seeds=0"] if notebook.startswith("20") else ["only=lr=0.01"]
    words = [word for one in ["task=own:mine", "profile=toy", *asked] for word in ("-p", one)]
    code, _, err = kdnb("run", notebook, *words)
    assert (code, err) == (0, "")
    assert {runs.config_of(run_id).data for run_id in runs.stored_ids()} == {first}  # the same rows
    path.unlink()
    code, _, err = kdnb("run", notebook, *words)
    assert (code, err.split(";")[0]) == (2, f"kdnb: own:mine: its texts were in {path}, which is not there any more")


def test_a_tokenizer_that_puts_nothing_around_texts_has_no_negative_share_of_unknown_tokens():
    """A token each, and no two special ones to be taken off."""
    ids = np.array([3, 4, 0], dtype=np.int32)
    for unknown_id in (-1, 0):
        tokens = Tokens(ids=ids, starts=np.arange(4), second=np.ones(3, dtype=int), unknown_id=unknown_id)
        assert list(telling.of_tokens([tokens], 32)) == []
