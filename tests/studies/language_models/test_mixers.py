"""State-space mixers and the stages from attention: T14.5, padding, the package's own loop, the records and claims."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdnb.core.store import Record
from kdnb.studies.language_models import claims_state_space, mixers, models, stages, staging, training
from kdnb.studies.language_models.config import LMConfig
from kdnb.studies.language_models.stages import Arm, Beside, Conversion

SMALL = {"width": 16, "heads": 2, "rows": 32, "held_out": 8, "batch": 2, "teacher_steps": 3, "steps": 6}
LLAMA = {
    "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2,
    "attn_implementation": "eager",
}  # fmt: skip
MAMBA2 = {
    "model_type": "mamba2", "num_hidden_layers": 2, "hidden_size": 16, "head_dim": 16, "num_heads": 2, "n_groups": 1,
    "chunk_size": 12, "state_size": 8,
}  # fmt: skip


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ids_of(rows=3, length=12, vocabulary=24, seed=0):
    return torch.randint(vocabulary, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def teacher():
    return models.from_config(LLAMA, 24, 0)


# T14.5: matrix and recurrence


def test_an_entry_of_the_matrix_is_its_definition():
    log_decay, write, read = -drawn(2, 5, 3).abs(), drawn(2, 5, 3, 4, seed=1), drawn(2, 5, 3, 4, seed=2)
    found = mixers.matrix(log_decay, write, read)
    for i in range(5):
        for j in range(5):
            product = math.prod(log_decay[1, k, 2].exp().item() for k in range(j + 1, i + 1))
            wanted = product * float(read[1, i, 2] @ write[1, j, 2]) if j <= i else 0.0
            assert found[1, 2, i, j].item() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])  # decays of nearly 1, ordinary ones, ones that forget at once
def test_matrix_and_recurrence_are_equal(scale):
    log_decay, values = -scale * drawn(2, 32, 3).abs(), drawn(2, 32, 3, 6, seed=3)
    write, read = drawn(2, 32, 3, 5, seed=1), drawn(2, 32, 3, 5, seed=2)
    by_matrix = torch.einsum("bhij,bjhp->bihp", mixers.matrix(log_decay, write, read), values)
    by_state, _ = mixers.recurrence(log_decay, write, read, values, torch.zeros(2, 3, 5, 6, dtype=torch.float64))
    torch.testing.assert_close(by_matrix, by_state, rtol=0, atol=1e-10)


def test_a_text_read_in_two_parts_gives_what_it_gives_whole():
    log_decay, values = -drawn(1, 9, 2).abs(), drawn(1, 9, 2, 4, seed=3)
    write, read = drawn(1, 9, 2, 3, seed=1), drawn(1, 9, 2, 3, seed=2)
    parts, state = [], torch.zeros(1, 2, 3, 4, dtype=torch.float64)
    for part in (slice(0, 4), slice(4, 9)):
        some, state = mixers.recurrence(log_decay[:, part], write[:, part], read[:, part], values[:, part], state)
        parts.append(some)
    whole, _ = mixers.recurrence(log_decay, write, read, values, torch.zeros_like(state))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-12)


def test_the_module_by_matrix_and_by_steps_in_value_and_gradient():
    torch.manual_seed(0)
    mixer, hidden = mixers.StateSpaceMixer(12, 3, 4, 5).double(), drawn(2, 32, 12)
    torch.nn.init.normal_(mixer.decay.weight)
    gradients = []
    mixed, _ = mixers.recurrence(*mixer.parts(hidden), mixer.values(hidden), torch.zeros(2, 3, 5, 4).double())
    for outputs in (mixer(hidden)[0], mixer.o_proj(mixed.flatten(2))):
        gradients.append([outputs.detach(), *torch.autograd.grad(outputs.square().sum(), list(mixer.parameters()))])
    assert all(g.abs().max() > 0 for g in gradients[0])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_decays_begin_between_slow_and_fast_whatever_is_read():
    log_decay, _, _ = mixers.StateSpaceMixer(12, 3, 4, 5).parts(torch.randn(1, 4, 12))
    torch.testing.assert_close(log_decay.exp(), torch.tensor([0.98, 0.74, 0.5]).expand(1, 4, 3))


# T14.5: the stages


def test_stage_losses_are_numpy_norms():
    ours, theirs = drawn(2, 3, 4, 4).numpy(), drawn(2, 3, 4, 4, seed=1).numpy()
    wanted = np.mean([np.linalg.norm(ours[b, h] - theirs[b, h], "fro") for b in range(2) for h in range(3)])
    assert float(mixers.matrix_loss(torch.from_numpy(ours), torch.from_numpy(theirs))) == pytest.approx(wanted)
    wanted = np.mean([np.linalg.norm(ours[0, i, j] - theirs[0, i, j]) for i in range(3) for j in range(4)])
    assert float(mixers.block_loss(torch.from_numpy(ours[0]), torch.from_numpy(theirs[0]))) == pytest.approx(wanted)


def test_a_trace_holds_what_the_teachers_own_layers_make(teacher):
    ids = ids_of()
    wanted = teacher.model(ids, output_attentions=True, output_hidden_states=True)
    hooks = [len(part._forward_hooks) for part in teacher.model.modules()]
    seen = staging.trace(teacher, ids)
    for number, one in enumerate(seen):
        torch.testing.assert_close(one.inputs, wanted.hidden_states[number])
        torch.testing.assert_close(one.matrix, wanted.attentions[number])
    torch.testing.assert_close(teacher.model.base_model.norm(seen[-1].outputs), wanted.hidden_states[-1])
    assert [len(part._forward_hooks) for part in teacher.model.modules()] == hooks  # none is left behind


def test_attention_that_hides_its_weights_is_refused():
    hidden = models.from_config({**LLAMA, "attn_implementation": "sdpa"}, 24, 0)
    with pytest.raises(ValueError, match='load it with attention "eager"'):
        staging.trace(hidden, ids_of())


def test_both_stages_are_zero_where_the_student_is_its_teacher(teacher):
    family = staging.convert(teacher, Arm(copied=False, state=4), 0)
    seen = staging.trace(family, ids_of())
    for layer, one in zip(family.model.base_model.layers, seen, strict=True):
        assert staging.stage_loss("1", layer, one).item() == 0
        assert staging.stage_loss("2", layer, one).item() == 0
    found = staging.errors(family, seen)
    assert found[0] == found[1] == [0, 0]


def config_of(blocks, steps, lr):
    """Of a training on 64 short sequences of recall."""
    return LMConfig(
        data=blocks.fingerprint,
        held_out="",
        length=12,
        student="",
        student_weights="",
        vocabulary=24,
        batch_size=8,
        tokens=steps * 8 * 11,
        lr=lr,
        precision="fp32",
    )


def aligned(teacher, arm, stage, steps=150):
    """A student after one stage, its losses, and the sequences' config."""
    blocks = stages.recall_blocks(64, 12, 4, 24, 0)
    config = config_of(blocks, steps, 2e-2)
    student = staging.convert(teacher, arm, 1)
    return student, staging.align(config, stage, student, teacher, blocks)


@pytest.mark.slow
def test_stage_one_reaches_a_teacher_of_the_family_and_not_attention():
    teacher = models.from_config({**LLAMA, "num_hidden_layers": 1}, 24, 0)
    family = staging.convert(teacher, Arm(copied=False, state=4), 0)
    for one in (family, teacher):  # sharper than fresh weights are, so that there is something to match
        for layer in one.model.base_model.layers:
            for name in ("read", "write", "q_proj", "k_proj"):
                if hasattr(layer.self_attn, name):
                    getattr(layer.self_attn, name).weight.data.mul_(4)
    errors = {}
    for name, one in (("family", family), ("attention", teacher)):
        student, losses = aligned(one, Arm(state=4), "1", 200)
        errors[name] = max(staging.errors(student, staging.trace(one, ids_of()))[0])
        assert losses[-1] < losses[0] / 1.5
    assert errors["family"] < 0.1 < 0.4 < errors["attention"]


@pytest.mark.parametrize("stage", ["1", "2"])
def test_a_stage_moves_its_own_weights_and_no_others(teacher, stage):
    hashed = models.weights_hash(teacher.model)
    before = staging.convert(teacher, Arm(state=4), 1).model.state_dict()
    student, losses = aligned(teacher, Arm(state=4), stage, 5)
    moved = {name for name, value in student.model.state_dict().items() if not torch.equal(value, before[name])}
    parts = ("read", "write", "decay") + (("v_proj", "o_proj") if stage == "2" else ())
    assert {name.split("self_attn.")[-1].split(".")[0] for name in moved} == set(parts)
    assert all(p.requires_grad for p in student.model.parameters())
    assert models.weights_hash(teacher.model) == hashed
    assert len(losses) == 5


def test_all_but_the_matrix_is_copied_or_nothing_is(teacher):
    copied, fresh = (staging.convert(teacher, Arm(copied=c), 1).model.state_dict() for c in (True, False))
    own = teacher.model.state_dict()
    shared = [name for name in copied if name in own]
    assert len(shared) == len(own) - 2 * 2  # q and k of two layers have no counterpart
    assert all(torch.equal(copied[name], own[name]) for name in shared)
    assert not any(torch.equal(fresh[name], own[name]) for name in shared if "norm" not in name)


def test_a_kept_layer_is_the_teachers_and_stage_one_leaves_it(teacher):
    student, _ = aligned(teacher, Arm(state=4, kept=(0,)), "1", 3)
    first, second = student.model.base_model.layers
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            first.state_dict().values(), teacher.model.base_model.layers[0].state_dict().values(), strict=True
        )
    )
    assert isinstance(second.self_attn, mixers.StateSpaceMixer)
    of_matrix, _, matrices = staging.errors(student, staging.trace(teacher, ids_of()))
    assert math.isnan(of_matrix[0])
    assert of_matrix[1] > 0
    assert len(matrices) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": "21"}, "stages must be one of"),
        ({"kept": (0,), "copied": False}, "need copied weights"),
        ({"shares": (1, 2)}, "one for each of the stages"),
    ],
)
def test_an_arm_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Arm(**change)


def test_what_cannot_be_converted_is_refused(teacher):
    with pytest.raises(ValueError, match=r"kept layers must be in 0\.\.1, got \(2,\)"):
        staging.convert(teacher, Arm(kept=(2,)), 0)
    grouped = models.from_config({**LLAMA, "num_key_value_heads": 1}, 24, 0)
    with pytest.raises(ValueError, match="without shared key heads"):
        staging.convert(grouped, Arm(), 0)


@pytest.mark.parametrize("total", [20, 240, 301])
def test_every_arm_has_the_same_number_of_steps(total):
    for arm in (*(Arm(stages=s) for s in stages.ABLATION), Arm(shares=stages.MOHAWK_SHARES)):
        assert sum(arm.steps(total)) == total
        assert min(arm.steps(total)) > 0
    assert Arm().steps(240) == [80, 80, 80]
    assert Arm(shares=(1, 2, 7)).steps(300) == [30, 60, 210]


# Padding


@pytest.mark.parametrize("kind", ["mamba2", "mixer"])
def test_padding_on_the_right_moves_no_real_token(kind, teacher):
    language = models.from_config(MAMBA2, 24, 0) if kind == "mamba2" else staging.convert(teacher, Arm(state=4), 0)
    ids = ids_of()
    padded, mask = torch.cat([ids, torch.zeros(3, 5, dtype=torch.long)], dim=1), torch.ones(3, 17, dtype=torch.long)
    mask[:, 12:] = 0
    with torch.no_grad():
        torch.testing.assert_close(language.hidden(padded, mask)[:, :12], language.hidden(ids), rtol=1e-4, atol=1e-5)
        other = padded.clone()
        other[:, 12:] = 7
        torch.testing.assert_close(language.hidden(other, mask)[:, :12], language.hidden(ids), rtol=1e-4, atol=1e-5)
        other = ids.clone()
        other[:, 3] = (ids[:, 3] + 1) % 24  # that the state is there at all: an earlier token does move later ones
        assert (language.hidden(other) - language.hidden(ids))[:, -1].abs().max() > 1e-4


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_padding_on_the_left_is_refused_by_the_mixer(attention):
    language = staging.convert(models.from_config({**LLAMA, "attn_implementation": attention}, 24, 0), Arm(state=4), 0)
    mask = torch.ones(3, 12, dtype=torch.long)
    mask[1, :4] = 0
    with pytest.raises(ValueError, match="pad on the right"):
        language.hidden(ids_of(), mask)


# The package's own loop


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mamba2", "mixer"])
def test_the_loop_trains_it_and_its_loss_falls(kind, teacher):
    language = models.from_config(MAMBA2, 24, 0) if kind == "mamba2" else staging.convert(teacher, Arm(copied=False), 0)
    models.check_head(language)
    blocks = stages.recall_blocks(64, 12, 4, 24, 0)
    config = config_of(blocks, 40, 1e-2)
    before = {name: value.clone() for name, value in language.model.state_dict().items()}
    history = training.fit(config, language, blocks, training.NoTargets())
    assert np.mean([row["loss"] for row in history[-5:]]) < history[0]["loss"] - 0.3
    assert all(not torch.equal(value, before[name]) for name, value in language.model.state_dict().items())


def test_mamba_and_llama_have_as_many_parameters():
    one = Beside(seed=0)
    llama, mamba = (
        models.parameters(models.from_config(config, one.vocabulary, 0).model)
        for config in (staging.llama_config(one), staging.mamba_config(one))
    )
    assert abs(llama / mamba - 1) < 0.005


# Associative recall


def test_each_answer_repeats_the_pair_of_its_key():
    blocks = stages.recall_blocks(50, 32, 8, 64, 3)
    for row in blocks.ids.astype(int):
        told = {pair // 7: pair for pair in row[:8]}
        assert len(told) == 8
        asked, answers = row[8::2] - 56, row[9::2]
        assert len(asked) == 12
        assert set(asked[:8]) == set(range(8))
        assert [told[key] for key in asked] == list(answers)
    assert len({tuple(row) for row in blocks.ids}) == 50
    assert blocks.fingerprint != stages.recall_blocks(50, 32, 8, 64, 4).fingerprint


@pytest.mark.parametrize(("length", "vocabulary"), [(32, 63), (33, 64), (8, 64), (32, 8)])
def test_recall_that_does_not_fit_is_refused(length, vocabulary):
    with pytest.raises(ValueError, match=r"must be .*, got"):
        stages.recall_blocks(4, length, 8, vocabulary, 0)


# Records and claims


def small(**changes):
    return Conversion(
        **{"language": "recall", "layers": 2, "arms": (Arm(stages="1"), Arm()), "seed": 0, **SMALL, **changes}
    )


@pytest.mark.slow
def test_a_record_is_what_it_says_and_the_same_twice():
    first, second = staging.make(small()), staging.make(small())
    for name, shape in {"kl": (2,), "matrix_error": (2, 2), "student_matrix": (2, 2, 32, 32)}.items():
        assert first.arrays[name].shape == shape
    for name, values in first.arrays.items():
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(values, second.arrays[name])
    assert first.metrics["tokens"] == 6 * 2 * 32
    assert {(row["arm"], row["stage"]) for row in first.history} == {(0, 1), (1, 1), (1, 2), (1, 3)}


def test_the_name_of_an_experiment_holds_every_field_of_its_arms():
    one = small()
    others = [{"stages": "3"}, {"copied": False}, {"state": 4}, {"kept": (1,)}, {"shares": (1, 2, 3)}]
    names = {replace(one, arms=(Arm(**change),)).run_id() for change in [{}, *others]}
    assert len(names) == 6


def told(experiment, **arrays):
    return Record(experiment.values(), arrays, {}, [], {})


def test_claims_read_the_arms_they_speak_of():
    markov, family, recall, beside = stages.experiments("cpu")[:4]
    kl = np.arange(len(markov.arms), dtype=float)
    blank = np.zeros((len(markov.arms), 1))
    found = {
        markov: told(markov, nll=kl, kl=kl, agreement=kl, recall=kl, matrix_error=blank + 0.5, block_error=blank),
        family: told(
            family,
            **dict.fromkeys(("nll", "kl", "agreement", "recall"), np.zeros(1)),
            matrix_error=np.full((1, 1), 0.1),
            block_error=np.zeros((1, 1)),
        ),
        recall: told(
            recall,
            nll=kl[:7],
            kl=kl[:7] ** 2,
            agreement=kl[:7],
            recall=kl[:7] / 10,
            matrix_error=np.zeros((7, 2)),
            block_error=np.tile([0.2, 0.6], (7, 1)),
        ),
        beside: told(beside, recall=np.array([0.9, 0.7])),
    }
    values = {name: series.tolist() for name, series in claims_state_space.effects(found).items()}
    assert set(values) == set(claims_state_space.CLAIMS)
    wanted = {"a": 2 - 6, "b": 1 - 4, "c": 8 - 2, "d": 0.4, "e": 0.2 - 0.4, "f": 0.6 - 0.3, "g": 0.2}
    assert {name[-1]: value for name, (value,) in values.items()} == pytest.approx(wanted)


def test_no_record_decides_no_claim():
    assert claims_state_space.effects({}) == {}
