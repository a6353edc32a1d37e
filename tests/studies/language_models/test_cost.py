"""The cost of distillation: T14.4 and the planner's arithmetic, torch's counter, memory, records and claims."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from kdnb.analysis.statistics import over_seeds, verdict
from kdnb.studies.language_models import claims_cost, cost, cost_measured, cost_records
from kdnb.studies.language_models.cost import Device, Plan, Transformer
from kdnb.studies.language_models.cost_records import CostClock, CostPeak

PLAN = Plan(teacher=8e9, student=1e9, tokens=1e9, epochs=3, vocabulary=151_936)
SMALL = Transformer(layers=2, width=32, feed_forward=48, vocabulary=50, heads=4, kv_heads=2, head_width=16)
TIED = Transformer(layers=1, width=24, feed_forward=64, vocabulary=40, heads=3, tied=True)


# T14.4 and the arithmetic


def test_eleven_counts_forward_passes_and_four_and_a_third_counts_training():
    assert cost.forward_ratio(70e9, 7e9) == pytest.approx(11.0)
    assert cost.training_cost_ratio(70e9, 7e9) == pytest.approx(13 / 3)
    assert cost.training_cost_ratio(8e9, 1e9) == pytest.approx(11 / 3)
    assert cost.training_cost_ratio(8e9, 1e9, epochs=3) == pytest.approx(17 / 9)
    whole = cost.cost(replace(PLAN, teacher=70e9, student=7e9, epochs=1))
    assert whole.ratio(cost.ONLINE) == pytest.approx(13 / 3)


def test_hours_of_a_teacher_of_eight_billion_and_a_student_of_one():
    told = cost.cost(PLAN)
    assert told.hours[cost.ERM] == pytest.approx(12.6, abs=0.05)
    assert told.hours[cost.SPARSE] - told.hours[cost.ERM] == pytest.approx(11.2, abs=0.05)  # 1.6e19 FLOP
    assert told.flops[cost.SPARSE] - told.flops[cost.ERM] == pytest.approx(1.6e19)
    assert told.ratio(cost.ONLINE) == pytest.approx(3.667, abs=5e-4)
    assert told.ratio(cost.SPARSE) == pytest.approx(1.889, abs=5e-4)
    assert list(told.table().columns) == ["way", "FLOPs", "over ERM", "hours"]


def test_students_share_a_cache_as_epochs_do():
    one, three = cost.cost(PLAN), cost.cost(replace(PLAN, epochs=1, students=3))
    assert dict(one.flops) == dict(three.flops)


def test_hidden_states_cost_the_head_again_in_each_pass():
    told = cost.cost(PLAN)
    assert told.flops[cost.HIDDEN] - told.flops[cost.SPARSE] == pytest.approx(2 * 151_936 * 4096 * 3e9)


def test_a_teacher_that_has_to_be_trained_is_paid_by_all_ways_but_erm():
    poor, rich = cost.cost(replace(PLAN, teacher_tokens=2e9)), cost.cost(PLAN)
    more = {way: poor.flops[way] - rich.flops[way] for way in rich.flops}
    assert more.pop(cost.ERM) == 0
    assert list(more.values()) == pytest.approx([6 * 8e9 * 2e9] * 4)


@pytest.mark.parametrize("bandwidth", [1e9, 3.35e12, 1e18])
def test_decoding_takes_the_longer_of_its_products_and_of_reading_the_weights(bandwidth):
    plan = replace(PLAN, device=Device(989e12, bandwidth), decoded=64)
    told, speed = cost.cost(plan), 989e12 * 0.4
    steps = 3e9 / 64
    wanted = steps * max(2 * 1e9 * 64 / speed, 2 * 1e9 / bandwidth)
    learning = (6 * 1e9 + 2 * 8e9) * 3e9 / speed
    assert 3600 * told.hours[cost.ON_POLICY] == pytest.approx(wanted + learning)
    assert told.flops[cost.ON_POLICY] == pytest.approx((8 * 1e9 + 2 * 8e9) * 3e9)
    half = cost.cost(replace(plan, generated=0.5))
    assert 3600 * half.hours[cost.ON_POLICY] == pytest.approx(wanted / 2 + learning)


def test_bytes_of_what_is_stored():
    small, large = cost.bytes_per_token(32_000, 2048), cost.bytes_per_token(151_936, 4096)
    assert small["whole law, float16"] == 64_000
    assert small["top-64, float16 and int32"] == 384
    assert small["12 draws, kdnb"] == 12 * 4 + 2
    assert large["12 draws, kdnb"] == 12 * 5 + 2
    assert large["12 draws, 17 + 7 bits"] == 36
    assert large[cost.STATES] == 8192
    assert cost.bytes_per_token(50_257, 768)["DistillKit, budget"] == 114  # the README's figure
    assert small["DistillKit, recommended"] == 296  # "~300"


def test_break_even_is_where_both_ways_take_the_same_time():
    told, speed = cost.cost(PLAN), 989e12 * 0.4
    teacher, disk = 2 * 8e9 / speed, 324 / 2e9
    passes = told.break_even["top-64, kdnb"]
    assert teacher + disk + passes * disk == pytest.approx(passes * teacher)
    head, disk = 2 * 151_936 * 4096 / speed, 8192 / 2e9
    passes = told.break_even[cost.STATES]
    assert teacher + disk + passes * (disk + head) == pytest.approx(passes * teacher)
    assert told.break_even["whole law, float16"] == math.inf  # read more slowly than computed
    assert 1 < told.break_even["12 draws, 17 + 7 bits"] < told.break_even["top-64, kdnb"] < 2


def test_memory_of_logits_dense_and_in_chunks():
    memory = cost.cost(PLAN).memory
    assert memory["logits, one float32 tensor"] == pytest.approx(9.96e9, rel=1e-3)  # B 8, T 2048, V 151,936
    assert memory["teacher, bfloat16"] == memory["student, gradient and AdamW, float32"] == 16e9
    assert memory[cost.DENSE] / memory[cost.KEPT] > 30
    short = cost.cost(replace(PLAN, sequences=1, length=100)).memory
    assert short[cost.TAUGHT] == 4 * 151_936 * (7 * 100 + 2048)  # no chunk is larger than the batch


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("teacher", 0), ("student", -1), ("tokens", math.inf), ("epochs", 0), ("students", 0), ("teacher_tokens", -1),
        ("utilization", 40), ("utilization", 0), ("generated", 1.5), ("disk_rate", 0), ("kept", math.nan),
    ],
)  # fmt: skip
def test_nonsense_is_named(field, value):
    with pytest.raises(ValueError, match=f"{field} must be .*, got {value}"):
        replace(PLAN, **{field: value})


def test_weights_of_published_shapes():
    shape = {"layers": 32, "width": 4096, "feed_forward": 14336, "vocabulary": 128_256, "heads": 32, "kv_heads": 8}
    large = Transformer(**shape)
    small = Transformer(layers=16, width=2048, feed_forward=8192, vocabulary=128_256, heads=32, kv_heads=8, tied=True)
    assert sum(large.weights.values()) == pytest.approx(8.03e9, rel=1e-3)  # Llama-3.1-8B
    assert sum(small.weights.values()) == small.multiplied == pytest.approx(1.236e9, rel=1e-3)  # Llama-3.2-1B
    assert large.multiplied == sum(large.weights.values()) - 128_256 * 4096


# Torch's counter


@pytest.mark.parametrize("shape", [SMALL, TIED], ids=["grouped heads", "tied"])
def test_counter_agrees_with_the_formula_term_by_term_when_attention_is_eager(shape):
    length, one = 24, cost_measured.language(shape, attention="eager")
    wanted = {name: length * value for name, value in shape.forward(length).items()}
    forward, both = cost_measured.counted(one, length), cost_measured.counted(one, length, backward=True)
    assert forward == wanted
    assert both == {name: 3 * value for name, value in wanted.items()}
    assert sum(both.values()) / sum(forward.values()) == 3.0
    matrices = sum(p.numel() for p in one.model.parameters() if p.ndim == 2)
    assert matrices == sum(shape.weights.values())


def test_on_a_cpu_the_counter_sees_nothing_of_sdpa():
    """pytorch#195460: when this fails, it is fixed, and "eager" is no longer needed."""
    seen = cost_measured.counted(cost_measured.language(SMALL, attention="sdpa"), 24)
    assert seen["attention"] == 0 < SMALL.forward(24)["attention"]
    assert seen["layers"] + seen["head"] == 24 * 2 * SMALL.multiplied


# Memory


class Live(TorchDispatchMode):
    """Counts tensors of a size that are alive, after each operation."""

    def __init__(self, numel):
        super().__init__()
        self.numel, self.alive, self.most = numel, {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple) else (made,):
            if isinstance(one, torch.Tensor) and one.untyped_storage().nbytes() == 4 * self.numel:
                storage = one.untyped_storage()
                self.alive[storage.data_ptr()] = StorageWeakRef(storage)
        self.alive = {at: ref for at, ref in self.alive.items() if not ref.expired()}
        self.most = max(self.most, len(self.alive))
        return made


SIZE = CostPeak(seed=0, vocabulary=1000, tokens=48, width=12, chunk=16, kept=4)


@pytest.mark.parametrize("how", cost_records.LOSSES)
def test_tensors_the_size_of_logits_alive_at_the_peak(how):
    """Between operations; what lives inside one is for the resident size to tell."""
    rows = SIZE.tokens if how == cost.DENSE else SIZE.chunk
    with Live(rows * SIZE.vocabulary) as live:
        cost_measured.loss_of(SIZE, how)(slice(None))
    assert live.most == cost.TENSORS[how]


@pytest.mark.slow
@pytest.mark.skipif(not cost_measured.resets(), reason="the resident size of a process starts anew on Linux alone")
def test_resident_size_rises_as_the_formula_says():
    one = CostPeak(seed=0, tokens=96, chunk=32)
    assert one.vocabulary == 49_152
    assert cost_measured.peak(one, cost.TAUGHT) == pytest.approx(one.predicted()[cost.TAUGHT], rel=0.1)


# Clock, records and claims


@pytest.fixture(scope="module")
def toy():
    """The toy clock, measured."""
    one = next(one for one in cost_records.experiments("toy") if isinstance(one, CostClock))
    return one, cost_measured.clock(one)


@pytest.mark.slow
def test_a_clock_times_every_way_and_is_stored_once(toy, store, monkeypatch):
    one, made = toy
    assert made.arrays["seconds"].shape == (len(cost_records.WAYS), one.rounds * (one.steps - 1))
    assert (made.arrays["seconds"] > 0).all()
    monkeypatch.setattr(cost_measured, "clock", lambda _: made)
    record = cost_records.obtain(one)
    monkeypatch.setattr(cost_measured, "clock", None)
    np.testing.assert_array_equal(cost_records.obtain(one).arrays["seconds"], record.arrays["seconds"])
    table = cost_records.clock_table({one: record}).set_index("way")
    assert table.measured[cost.ERM] == table.predicted[cost.ERM] == 1
    assert cost_records.results("cpu") == {}  # a toy is none of the measurements that decide


def test_clocked_pair_is_ten_to_one_and_its_prediction_that_of_the_planner():
    one = CostClock(seed=0)
    teacher, student = one.weights
    assert teacher / student == pytest.approx(10, abs=0.1)
    assert one.predicted()[cost.ONLINE] == pytest.approx(cost.training_cost_ratio(teacher, student))
    assert one.predicted()[cost.ON_POLICY] == pytest.approx(1 + teacher / (3 * student) + (1 - 16 / 128) / 3)


def test_every_measurement_has_a_name_of_its_own():
    every = cost_records.experiments() + cost_records.experiments("toy")
    assert len({one.run_id() for one in every}) == len(every) == 5 + 3 + 2


def tables(online=4.2, cache=1.05, on_policy=5.0, off=0.02):
    """Clocks and peaks of three seeds whose answer is known."""
    measured = dict(zip(cost_records.WAYS, (1.0, online, cache, on_policy), strict=True))
    predicted = dict(zip(cost_records.WAYS, (1.0, 13 / 3, 1.0, 4.6), strict=True))
    clocks = pd.DataFrame(
        [
            {"seed": seed, "way": way, "measured": value * (1 + 0.001 * seed), "predicted": predicted[way]}
            for seed in range(3)
            for way, value in measured.items()
        ]
    )
    peaks = pd.DataFrame(
        [
            {"seed": seed, "loss": how, "off": sign * (off + 0.001 * seed)}
            for seed in range(3)
            for how, sign in zip(cost_records.LOSSES, (-1, 0.1, 0.2), strict=True)
        ]
    )
    return clocks, peaks


def decided(**more):
    found = claims_cost.effects(*tables(**more), (11.0, 13 / 3))
    ends = {id: over_seeds(values, claims_cost.CLAIMS[id].sign) for id, values in found.items()}
    return {id[-1]: verdict(end.low, end.high, claims_cost.CLAIMS[id].sign) for id, end in ends.items()}


def test_claims_go_either_way():
    assert decided() == dict.fromkeys("abcd", "holds")
    assert decided(online=10, cache=1.2, on_policy=10, off=0.3) == dict.fromkeys("abcd", "fails")
    assert decided(on_policy=2.0)["c"] == "fails"  # too quick is as far off as too slow


def test_claims_without_records_have_no_effect(store):
    assert {claims_cost.RUNLESS[one.test](one).n for one in claims_cost.CLAIMS.values()} == {0}
