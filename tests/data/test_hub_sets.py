"""AG News from a local folder laid out as the hub's: rows, cut, what is fetched, and what a broken file says."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hub_folder import ODD, special_tokens, topics_mirror

from kdnb import paths
from kdnb.catalog import TASKS
from kdnb.data import fetch, hub_sets
from kdnb.data import splits as data
from kdnb.errors import HubUnreachable

OFFICIAL = hub_sets.HUB_SETS


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A hub folder and an empty data cache of the test's own; validation takes 4 rows instead of thousands."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("HUB", "GLUE", "ASSETS"):
        monkeypatch.setattr(paths, name, cache / name.lower())
    monkeypatch.setattr(paths, "DATA_CACHE", cache)
    monkeypatch.setenv("KDNB_HUB", str(tmp_path / "hub"))
    small = {name: replace(one, held=4) for name, one in hub_sets.HUB_SETS.items()}
    monkeypatch.setattr(hub_sets, "HUB_SETS", small)
    data.load.cache_clear()
    yield tmp_path / "hub"
    data.load.cache_clear()


def test_rows_are_read_one_by_one_and_validation_is_cut_out_of_train(mirror):
    topics_mirror(mirror)
    splits = data.load("agnews", "paper").splits
    held = hub_sets.holdout(12, 4)[1]
    rows = {"train": np.setdiff1d(np.arange(12), held), "validation": held, "test": np.arange(6)}
    for split, part in splits.items():
        assert part.text == [f"{'test' if split == 'test' else 'train'} {row}" for row in rows[split]]
        assert part.text2 is None
        np.testing.assert_array_equal(part.labels, rows[split] % 4)


@pytest.mark.slow
def test_special_tokens_in_a_sets_texts_are_text(mirror):
    topics_mirror(mirror)
    for path in (mirror / "fancyzhx" / "ag_news" / "data").iterdir():
        pd.read_parquet(path).assign(text=ODD).to_parquet(path, index=False)
    what = data.load("agnews", "paper")
    assert {text for part in what.splits.values() for text in part.text} == {ODD}
    wanted = {"[CLS]": 1, "[SEP]": 1, "[MASK]": 0, "[PAD]": 0}
    assert special_tokens(what) == dict.fromkeys(data.SPLITS, wanted)


def test_a_set_of_pairs_is_read_by_both_columns(mirror, monkeypatch):
    folder = mirror / "some" / "pairs" / "data"
    folder.mkdir(parents=True)
    for split, rows in {"train": 12, "test": 6}.items():
        texts = {name: [f"{split} {name} {row}" for row in range(rows)] for name in ("premise", "claim")}
        table = pd.DataFrame({**texts, "label": [row % 2 for row in range(rows)]})
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet", index=False)
    files = {split: f"data/{split}-*.parquet" for split in ("train", "test")}
    where = hub_sets.HubSet(repo="some/pairs", revision="0" * 40, files=files, example="premise", held=4)
    task = replace(TASKS["agnews"], name="pairs", labels=("no", "yes"), pair=True)
    monkeypatch.setitem(hub_sets.HUB_SETS, "pairs", replace(where, second="claim"))
    rows = hub_sets.read(task)
    assert list(rows.groupby("split").size()) == [6, 8, 4]
    assert (rows.text.str.replace("premise", "claim") == rows.text2).all()
    monkeypatch.setitem(hub_sets.HUB_SETS, "pairs", where)
    with pytest.raises(ValueError, match=r"some/pairs/data/train-\*\.parquet: no column '', found premise, claim"):
        hub_sets.read(task)


@pytest.mark.slow
def test_the_official_sizes_give_the_tasks_sizes(mirror, monkeypatch):
    """Zhang, Zhao and LeCun 2015, Table 3: 120,000 train and 7,600 test articles; every one is used once."""
    monkeypatch.setattr(hub_sets, "HUB_SETS", OFFICIAL)
    topics_mirror(mirror, rows=(120_000, 7600))
    splits = data.load("agnews", "paper").splits
    assert tuple(map(len, splits.values())) == TASKS["agnews"].sizes
    texts = [set(part.text) for part in splits.values()]
    assert len(set.union(*texts)) == sum(map(len, texts)) == 127_600


def test_the_set_is_pinned():
    for name, one in hub_sets.HUB_SETS.items():
        assert len(one.revision) == 40
        assert int(one.revision, 16)
        assert TASKS[name].sizes[1] == one.held
    assert set(hub_sets.HUB_SETS) == {name for name, task in TASKS.items() if task.source == "hub"}


def test_label_noise_changes_train_labels_only(mirror):
    topics_mirror(mirror, rows=(200, 40))
    clean, noisy = (data.load(name, "paper").splits for name in ("agnews", "agnews@0.5"))
    changed = {split: int((clean[split].labels != noisy[split].labels).sum()) for split in data.SPLITS}
    assert 0 < changed["train"] <= 98  # half of 196
    assert changed["validation"] == changed["test"] == 0


def test_what_was_fetched_is_read_without_any_hub(mirror, monkeypatch):
    topics_mirror(mirror)
    before = data.load("agnews", "demo").fingerprint
    (part,) = fetch.needs("demo", [TASKS["agnews"]])[1]
    assert (part.repo, part.patterns) == ("fancyzhx/ag_news", ("data/train-*.parquet", "data/test-*.parquet"))
    monkeypatch.setattr(fetch, "_package", lambda *_: {})  # the demo's model comes in a package
    found = fetch.fetch("demo", ["agnews"], say=lambda _: None)
    assert set(found["files"]) == {
        f"fancyzhx/ag_news/data/{split}-00000-of-00001.parquet" for split in ("train", "test")
    }
    shutil.rmtree(mirror)
    monkeypatch.delenv("KDNB_HUB")
    data.load.cache_clear()
    assert data.load("agnews", "demo").fingerprint == before


BROKEN = {
    "no column": ({"label": "topic"}, r"data/train-\*\.parquet: no column 'label', found text, topic"),
    "hidden label": ({"first": -1}, r"label '-1' is none of World, Sports, Business, Sci/Tech"),
    "few rows": ({"rows": (4, 2)}, r"train has 4 rows, 4 of them are held out"),
}


@pytest.mark.parametrize(("harm", "told"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_one_clear_line(mirror, harm, told):
    topics_mirror(mirror, **harm)
    with pytest.raises(ValueError, match=told) as error:
        data.load("agnews", "paper")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("error", [ConnectionError(), OSError("\nreset\nby peer")], ids=["nothing", "lines"])
def test_an_error_is_told_in_one_line_whatever_it_says(error):
    told = str(hub_sets.unreachable(OFFICIAL["agnews"], "AG News", error, instead="take rt"))
    why = str(error).split("\n")[1] if str(error) else "ConnectionError"
    assert told == f"AG News: nothing of fancyzhx/ag_news here and nothing from the hub ({why}); take rt"


@pytest.mark.slow
def test_without_the_hub_the_way_out_is_told(mirror, monkeypatch):
    monkeypatch.delenv("KDNB_HUB")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told = r"AG News: nothing of fancyzhx/ag_news here .*`kdnb fetch --tasks agnews`, or take an embedded task"
    with pytest.raises(HubUnreachable, match=told):
        data.load("agnews", "demo")
