"""Filters: what they keep, in every form they may have, and one clear line for what makes no sense."""

from dataclasses import fields

import pytest

from kdnb.core.config import METHOD_FIELDS, RunConfig
from kdnb.core.methods import all_settings, known
from kdnb.experiment.arms import arm_config
from kdnb.sweeps.only import checked, keeps, known_fields, parse, spelled

POINT = {"lr": 3e-5, "epochs": 2, "tau": 4.0, "tau2_scaling": True, "arm": "kd_standard", "method": "kd"}


@pytest.mark.parametrize(("texts", "expected"), [
    ([], True), (["lr=3e-5"], True), (["lr=0.00003"], True), (["lr=1e-5"], False), (["lr=1e-5,3e-5"], True),
    (["lr=1e-5", "epochs=2"], False), (["lr=3e-5", "epochs=2"], True), (["epochs=1..2"], True), (["epochs=2..2"], True),
    (["epochs=3..9"], False), (["epochs=1,2..4"], True), (["epochs=.5...9,7"], False), (["tau2_scaling=true"], True),
    (["tau2_scaling=False"], False), (["tau2_scaling=true,false"], True), (["arm=kd_standard,ls_small"], True),
    (["arm=kd_self"], False), (["method= kd "], True),
    (["alpha=0.5"], True), (["alpha=0.5", "epochs=3"], False), (["before=erm"], True),  # which the point lacks
])  # fmt: skip
def test_a_filter_keeps_what_it_says(texts, expected):
    assert keeps(parse(texts), POINT) is expected


@pytest.mark.parametrize("filters", [
    {"lr": "1e-5, 3e-5", "epochs": "1..4", "method": "kd"}, {"lr": (1e-5, 3e-5), "epochs": ["1..4"], "method": ["kd"]},
    {"lr": ["1e-5", 3e-5, 3e-5], "epochs": [(1, 4)], "method": "kd,kd"},
    {"lr": [1e-5, 3e-5], "epochs": [[1, 4]], "method": ("kd",)},  # as JSON has it
])  # fmt: skip
def test_every_form_is_brought_into_one(filters):
    only = checked(filters)
    assert only == {"lr": (1e-5, 3e-5), "epochs": ((1.0, 4.0),), "method": ("kd",)}
    assert checked(only) == only
    assert spelled(only) == "lr=1e-05,3e-05 epochs=1..4 method=kd"
    assert parse(spelled(only).split()) == only


@pytest.mark.parametrize(("text", "words"), [
    ("lr", r"only must be field=values, such as lr=1e-5,3e-5 or epochs=1..4, got 'lr'"),
    ("lrs=1", r"unknown field 'lrs'; did you mean 'lr'\?"),
    ("lrate=1", r"unknown field 'lrate'; did you mean 'lr'\? \(known: lr, epochs, alpha, tau, arm, method, "),
    ("learning_rate=1", r"unknown field 'learning_rate' \(known: lr, "),
    ("tau2_scalng=true", r"unknown field 'tau2_scalng'; did you mean 'tau2_scaling'\?"),
    ("conf=1", r"unknown field 'conf'; did you mean 'confidence'\?"),
    ("lr <= 3e-5", r"unknown field 'lr <'; did you mean 'lr'\?"),
    ("lr=", "only lr must be numbers or ranges, such as 1,2 or 1..4, got ''"),
    ("lr=1,", "got ''"), ("lr=fast", "got 'fast'"), ("lr=nan", "got 'nan'"), ("lr=0..inf", r"got '0\.\.inf'"),
    ("lr=3..1", r"got '3\.\.1'"), ("lr=1..2..3", r"got '1\.\.2\.\.3'"), ("lr=..2", r"got '\.\.2'"),
    ("epochs=true", "got 'true'"), ("tau2_scaling=1", "only tau2_scaling must be true or false, got '1'"),
    ("arm=", "only arm must be a name, got none"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(text, words):
    with pytest.raises(ValueError, match=words) as refused:
        parse([text])
    assert "\n" not in str(refused.value)


def test_a_field_is_named_once():
    with pytest.raises(ValueError, match=r"only names lr twice: join its values, lr=1,2$"):
        parse(["lr=1", "lr=2"])


def test_filters_speak_of_what_points_have():
    of_studies = {name for name in all_settings() if name not in METHOD_FIELDS}
    assert set(known_fields()) <= {field.name for field in fields(RunConfig)} | {"arm", "teacher"} | of_studies
    config = arm_config("kd_standard", task="rt", profile="toy", data="0" * 16, seed=0, teacher_run="x")
    for name in set(known_fields()) - {"arm", "teacher"} - of_studies:
        assert type(getattr(config, name)) is known_fields()[name], name


def test_points_are_picked_by_the_setting_of_a_study_s_method():
    assert known("matched_ls")
    assert known_fields()["matched"] is str
    assert parse(["matched=instance"]) == {"matched": ("instance",)}
