"""Configs: ranges, names by content, arms (docs/experiments.md, T4.1)."""

import json
import math
from dataclasses import asdict, fields, replace

import pytest

from kdnb.catalog import PROFILES
from kdnb.core.config import LATER, RunConfig, flat, slug
from kdnb.experiment.arms import ARMS, arm_config
from kdnb.experiment.points import compare_points, with_teachers

KD = RunConfig(task="rt", profile="toy", data="0" * 16, method="kd", student="small", teacher_run="rt-erm-large-s0-abc")
ERM = replace(KD, method="erm", teacher_run="")
OUT_OF_RANGE = [
    ("method", "mixup"), ("student", "medium"), ("profile", "huge"), ("schedule", "cosine"), ("precision", "fp16"),
    ("alpha", -0.1), ("alpha", 1.1), ("alpha", math.nan), ("tau", 0.0), ("tau", -1.0), ("tau", math.nan),
    ("tau", math.inf), ("lr", 0.0), ("lr", 1.0), ("lr", math.nan), ("epochs", 0), ("batch_size", 0), ("warmup", -0.1),
    ("warmup", 1.1), ("weight_decay", -1.0), ("weight_decay", math.nan), ("clip", -1.0), ("clip", math.nan),
    ("dropout", -0.1), ("dropout", 1.0), ("max_length", 7), ("max_length", 513), ("history_points", -1),
    ("history_rows", 0), ("teacher_run", ""), ("confidence", 0.5), ("confidence", -0.5), ("seed", -1),
    ("order_seed", -1),
]  # fmt: skip
OTHER_VALUES = {
    "task": "sst2", "profile": "demo", "data": "1" * 16, "student": "large", "teacher_run": "rt-erm-large-s1-def",
    "alpha": 0.5, "tau": 2.0, "tau2_scaling": False, "lr": 1e-3, "epochs": 9, "batch_size": 8, "schedule": "constant",
    "warmup": 0.1, "weight_decay": 0.01, "clip": 0.0, "dropout": 0.0, "max_length": 64, "precision": "fp32",
    "history_points": 3, "history_rows": 5, "seed": 4, "order_seed": 5,
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be .*, got {value!r}$"):
        replace(KD, **{name: value})


def test_a_teacher_is_for_kd_alone_and_a_confidence_for_tfkd_alone():
    with pytest.raises(ValueError, match="teacher_run"):
        replace(ERM, teacher_run="rt-erm-large-s0-abc")
    with pytest.raises(ValueError, match="confidence"):
        replace(ERM, method="tfkd")
    assert replace(ERM, method="tfkd", confidence=0.9).confidence == 0.9


def test_the_released_form_is_for_tfkd_alone_and_a_multiplier_for_the_released_form_alone():
    tfkd = replace(ERM, method="tfkd", confidence=0.9)
    released = replace(tfkd, tfkd_form="released", multiplier=50)
    assert (released.tfkd_form, released.multiplier) == ("released", 50.0)
    with pytest.raises(ValueError, match="tfkd_form must be 'paper' for kd, where it has no use, got 'released'"):
        replace(KD, tfkd_form="released")
    with pytest.raises(ValueError, match="tfkd_form must be one of paper, released, got 'code'"):
        replace(tfkd, tfkd_form="code")
    for config in (ERM, KD, tfkd):
        with pytest.raises(ValueError, match=r"multiplier must be .*, got 50\.0"):
            replace(config, multiplier=50)
    for value in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="multiplier must be > 0 and finite"):
            replace(released, multiplier=value)


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [("erm", "alpha", 0.5), ("erm", "tau", 4.0), ("erm", "tau2_scaling", False), ("ls", "tau", 4.0),
     ("ls", "tau2_scaling", False), ("ls", "confidence", 0.9), ("ls", "tfkd_form", "released")],
)  # fmt: skip
def test_what_a_method_has_no_use_for_stays_at_its_default(method, name, value):
    """Otherwise two names would stand for the same logits."""
    config = replace(ERM, method=method)
    with pytest.raises(ValueError, match=rf"^{name} must be .* for {method}, where it has no use, got {value!r}$"):
        replace(config, **{name: value})


def test_what_neither_side_of_a_switch_uses_stays_at_its_default():
    switch = replace(ERM, method="switch", before="erm", after="ls", alpha=0.5)
    with pytest.raises(ValueError, match=r"^tau must be 1\.0 for erm and ls, where it has no use, got 4\.0$"):
        replace(switch, tau=4)


def test_each_form_of_teacher_free_kd_has_the_confidence_of_its_source():
    same = {"task": "rt", "profile": "toy", "data": "0" * 16, "seed": 0}
    paper, released = (arm_config("tfkd_small", **same, **form) for form in ({}, {"tfkd_form": "released"}))
    assert (paper.confidence, released.confidence) == (0.9, 0.99)  # Eq. 9: >= 0.9; a constant in the released code
    assert paper.tau == released.tau == 20
    assert arm_config("tfkd_small", **same, tfkd_form="released", confidence=0.8).confidence == 0.8


def test_every_field_changes_the_run_id():
    assert set(OTHER_VALUES) | {"method", "confidence", "extra", *LATER} == {field.name for field in fields(RunConfig)}
    changed = {name: replace(KD, **{name: value}).run_id() for name, value in OTHER_VALUES.items()}
    others = [ERM, replace(ERM, method="ls"), *(replace(ERM, method="tfkd", confidence=c) for c in (0.8, 0.9))]
    others.append(replace(others[-1], tfkd_form="released"))
    others.append(replace(others[-1], multiplier=2.0))
    ids = [KD.run_id(), *changed.values(), *(config.run_id() for config in others)]
    assert len(set(ids)) == len(ids)


def test_equal_configs_have_equal_ids():
    assert replace(KD).run_id() == KD.run_id()
    assert RunConfig(**dict(reversed(asdict(KD).items()))).run_id() == KD.run_id()


@pytest.mark.parametrize(("name", "value"), [("alpha", 1), ("tau", 2), ("clip", 0), ("weight_decay", 0), ("warmup", 1)])
def test_a_whole_number_is_the_same_run_as_its_float(name, value):
    """`-p alpha=1` comes as an int, `--alpha 1` as a float: equal configs are one run."""
    whole, decimal = replace(KD, **{name: value}), replace(KD, **{name: float(value)})
    assert whole == decimal
    assert whole.run_id() == decimal.run_id()


def test_a_run_id_tells_what_the_run_is():
    assert KD.run_id().startswith("rt-kd-small-s0-")
    own = replace(ERM, task="own:my reviews.v2", seed=3, student="large")
    assert own.run_id().startswith("own-my-reviews-v2-erm-large-s3-")
    assert all(c.isalnum() or c == "-" for c in slug("own:Übung/../x y"))


def test_a_config_survives_json():
    again = RunConfig.from_dict(json.loads(KD.to_json()))
    assert again == KD
    assert again.to_json() == KD.to_json()


@pytest.mark.parametrize("task", ["rt", 'own:a "b" \\ \n', "own:Übung 数", ""])
@pytest.mark.parametrize("value", [0.0, 1e-5, 1 / 3, 1e22, math.inf])
def test_the_quick_json_has_the_bytes_of_json(task, value):
    config = replace(KD, task=task, clip=value, seed=10**12, tau2_scaling=False)
    content = {name: value for name, value in flat(config).items() if name not in LATER}
    assert config.to_json() == json.dumps(content, sort_keys=True, indent=1) + "\n"
    later = replace(
        ERM,
        method="switch",
        before="erm",
        after="tfkd",
        switch_at=0.5,
        ramp=0.1,
        alpha=0.9,
        confidence=0.9,
        tfkd_form="released",
        multiplier=2.0,
    )
    content = {name: value for name, value in flat(later).items() if name not in LATER or value != LATER[name]}
    assert later.to_json() == json.dumps(content, sort_keys=True, indent=1) + "\n"


def test_names_of_stored_runs_stay_as_they_are():
    """The committed reference runs have these names; another hash would lose them all."""
    assert KD.run_id() == "rt-kd-small-s0-729d8b1f3fc4"
    assert replace(KD, schedule="constant", epochs=7).training() == "rt-kd-small-s0-cdc8dcd78de7"


def test_a_field_added_later_leaves_older_names_alone():
    for name, value in LATER.items():
        assert getattr(KD, name) == value
        assert f'"{name}"' not in KD.to_json()
        assert RunConfig.from_dict(json.loads(KD.to_json())) == KD


def test_epoch_counts_share_a_training_only_with_a_constant_learning_rate():
    constant = replace(KD, schedule="constant", epochs=2)
    assert constant.training() == replace(constant, epochs=5).training()
    assert constant.training() != replace(constant, alpha=0.1).training()
    assert replace(KD, epochs=2).training() != replace(KD, epochs=5).training()
    warm = replace(constant, warmup=0.1)
    assert warm.training() != replace(warm, epochs=5).training()


def test_a_student_may_be_named_by_its_checkpoint():
    assert replace(ERM, student="minilm-3").run_id().startswith("rt-erm-minilm-3-s0-")
    with pytest.raises(ValueError, match="student must be one of large, small, tiny-large"):
        replace(ERM, student="minilm-7")


def test_an_unknown_or_missing_field_is_refused():
    with pytest.raises(ValueError, match="unknown config field 'beta'"):
        RunConfig.from_dict({**asdict(KD), "beta": 1})
    with pytest.raises(TypeError, match="method"):
        RunConfig(task="rt", profile="toy", data="", student="small")


def test_reverse_kd_is_kd_with_the_models_exchanged():
    """No method, no loss and no field of its own: only who teaches whom."""
    standard, reverse = ARMS["kd_standard"], ARMS["kd_reverse"]
    assert (standard.method, reverse.method) == ("kd", "kd")
    assert ARMS[standard.teacher].student == reverse.student == "large"
    assert ARMS[reverse.teacher].student == standard.student == "small"
    same = {"task": "rt", "profile": "demo", "data": "0" * 16, "seed": 0, "teacher_run": "rt-erm-small-s0-abc"}
    first, second = arm_config("kd_standard", **same), arm_config("kd_reverse", **same)
    assert replace(first, student="large") == second


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_makes_every_arm(profile):
    points = compare_points("rt", profile, "0" * 16, PROFILES[profile].seeds)
    assert len(points) == len(ARMS) * len(PROFILES[profile].seeds)
    assert len({point.config.run_id() for point in points}) == len(points)
    assert len(PROFILES[profile].seeds) >= 2


def test_the_demo_never_trains_on_less_than_a_thousand_rows():
    assert PROFILES["demo"].defaults["text"].train_rows >= 1000
    assert len(PROFILES["demo"].seeds) >= 3


def test_teachers_come_before_their_students():
    seen = set()
    for point in compare_points("rt", "toy", "0" * 16, (0, 1), ("kd_reverse", "kd_standard")):
        assert not point.config.teacher_run or point.config.teacher_run in seen
        seen.add(point.config.run_id())
    assert with_teachers(["kd_self"]) == ["erm_small", "kd_self"]


def test_a_students_teacher_has_its_seed():
    for point in compare_points("rt", "toy", "0" * 16, (0, 3)):
        if point.config.teacher_run:
            assert f"-s{point.config.seed}-" in point.config.teacher_run


def test_unknown_arms_and_fields_get_one_line():
    with pytest.raises(ValueError, match=r"unknown arm 'kd_revers'; did you mean 'kd_reverse'\?"):
        compare_points("rt", "toy", "0" * 16, (0,), ("kd_revers",))
    with pytest.raises(ValueError, match="learning_rate"):
        compare_points("rt", "toy", "0" * 16, (0,), changes={"learning_rate": 1e-4})


def test_changes_of_one_arm_stay_with_it():
    points = compare_points(
        "rt", "toy", "0" * 16, (0,), ("ls_small", "kd_self"), {"epochs": 5}, {"ls_small": {"alpha": 0.2}}
    )
    by_arm = {point.arm: point.config for point in points}
    assert by_arm["ls_small"].alpha == 0.2
    assert by_arm["kd_self"].alpha == PROFILES["toy"].kd_alpha
    assert {config.epochs for config in by_arm.values()} == {5}
