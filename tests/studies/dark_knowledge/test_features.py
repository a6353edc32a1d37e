"""Layer maps against the published ones, projections against least squares, hooks that are gone, methods end to end."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from kdnb import paths
from kdnb.catalog import SOURCES, Source
from kdnb.core import store
from kdnb.core.config import RunConfig
from kdnb.data import splits
from kdnb.data.assets import PACKAGED
from kdnb.experiment.arms import arm_config
from kdnb.experiment.training import encoded, train
from kdnb.models import classifiers, text
from kdnb.models.vision import untrained
from kdnb.studies.dark_knowledge import features
from kdnb.studies.dark_knowledge.features import Depth, FeatureLoss, Pair, captured, read_states
from kdnb.studies.dark_knowledge.methods import FeatureKD, RelationKD


def of_teacher(pairs):
    return [pair.teacher.number for pair in pairs]


def test_the_maps_are_the_published_ones():
    """T12.1."""
    assert of_teacher(features.uniform(12, 32)) == [3, 5, 8, 11, 13, 16, 19, 21, 24, 27, 29, 32]
    assert of_teacher(features.skip(6, 12)) == [2, 4, 6, 8, 10]
    assert of_teacher(features.last(6, 12)) == [7, 8, 9, 10, 11]
    assert of_teacher(features.tinybert(4, 12)) == [0, 3, 6, 9, 12]
    assert features.tinybert(4, 12)[0] == Pair(Depth(0), Depth(0))
    with pytest.raises(ValueError, match="multiple of 4 teacher layers, got 6"):
        features.tinybert(4, 6)
    for deeper in (features.skip, features.last):  # skip had the embeddings for every layer, last a layer -1
        with pytest.raises(ValueError, match="PKD's maps need a teacher of at least 6 layers, got 4"):
            deeper(6, 4)
    for name, made in features.MAPS.items():
        assert [pair.student.number for pair in made(6, 12)] == list(range(*MAPPED[name]))


MAPPED = {"uniform": (1, 7), "skip": (1, 6), "last": (1, 6), "tinybert": (0, 7)}  # student layers with a pair, of six


def test_halves_are_rounded_up_and_not_to_the_even_layer():
    assert of_teacher(features.uniform(4, 6)) == [2, 3, 5, 6]  # 1.5, 3, 4.5, 6; Python's round has 2, 3, 4, 6


def test_the_embeddings_have_a_hidden_state_and_no_attention():
    assert Depth(1).attention == 0
    with pytest.raises(ValueError, match="attend to nothing"):
        _ = Depth(0).attention
    with pytest.raises(ValueError, match="got -1"):
        Depth(-1)


def how(**more):
    return FeatureKD(teacher_run="t", **more)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mlp(*widths, seed=0):
    return untrained(Source("image", "mlp", layers=widths), (1, 8, 8), 10, 0.0, seed)


def states_of(model, rows=40, seed=3):
    with captured(model) as states:
        model(drawn(rows, 1, 8, 8, seed=seed))
    return {depth: state.detach() for depth, state in states.items()}


def widths(*numbers):
    return {Depth(m): width for m, width in enumerate(numbers, 1)}


def hooks(model):
    return [hook for part in model.modules() for hook in part._forward_hooks.values()]


def test_hooks_go_with_their_block_even_when_it_fails():
    model = mlp(16, 12)
    with captured(model) as states:
        model(drawn(5, 1, 8, 8))
        assert len(hooks(model)) == 2
    assert hooks(model) == []
    with pytest.raises(RuntimeError), captured(model):
        model(drawn(5, 1, 9, 9))  # not the size that it reads
    assert hooks(model) == []
    assert {depth.number: tuple(state.shape) for depth, state in states.items()} == {1: (5, 16), 2: (5, 12)}


def test_a_projection_of_the_largest_pair_has_the_weights_that_are_told():
    with torch.device("meta"):
        made = nn.Linear(1024, 4096, bias=False)
    assert sum(p.numel() for p in made.parameters()) == 4_194_304
    ours = features._projection(40, 12, seed=0)
    assert [tuple(p.shape) for p in ours.parameters()] == [(40, 12)]


@pytest.mark.parametrize(("projection", "count"), [("share", 1), ("per_pair", 2)])
def test_projections_belong_to_the_loss_and_not_to_the_student(projection, count):
    student, teacher = mlp(12, 12), mlp(20, 20, 20, 20, seed=1)
    before = {name: p.numel() for name, p in student.state_dict().items()}
    with FeatureLoss(how(projection=projection), student, states_of(teacher), widths(12, 12)) as beside:
        assert sum(p.numel() for p in beside.parameters()) == count * 12 * 20
        assert {name: p.numel() for name, p in student.state_dict().items()} == before
        assert not set(map(id, beside.parameters())) & set(map(id, student.parameters()))
        student(drawn(40, 1, 8, 8, seed=3))
        beside(torch.arange(40)).backward()
    assert all(p.grad.abs().sum() > 0 for p in beside.parameters())
    assert all(p.grad.abs().sum() > 0 for p in student.body.parameters())
    assert hooks(student) == []


def test_no_gradient_reaches_the_teacher():
    """T12.4."""
    student, teacher = mlp(12, 12), mlp(20, 20, seed=1)
    with captured(teacher) as states:
        teacher(drawn(40, 1, 8, 8, seed=3))  # its graph is alive
    for settings in ({}, {"layer_map": "learned"}):
        with FeatureLoss(how(**settings), student, states, widths(12, 12)) as beside:
            student(drawn(40, 1, 8, 8, seed=3))
            beside(torch.arange(40)).backward()
    assert all(p.grad is None for p in teacher.parameters())


def test_widths_that_cannot_be_compared_are_refused():
    student, teacher = mlp(12, 12), states_of(mlp(20, 30, seed=1))
    with pytest.raises(ValueError, match="PKD compares states of one width, got 12 and 20"):
        FeatureLoss(how(feature_loss="pkd", layer_map="skip"), student, teacher, widths(12, 12))
    with pytest.raises(ValueError, match="one projection cannot serve"):
        FeatureLoss(how(projection="share"), student, teacher, widths(12, 12))
    with pytest.raises(ValueError, match="the map last leaves a student of 1 layer no pair"):
        FeatureLoss(how(layer_map="last"), mlp(12), teacher, widths(12))
    with pytest.raises(ValueError, match=r"a learned map mixes layers of one width, got a teacher's of \[20, 30\]"):
        FeatureLoss(how(layer_map="learned"), student, teacher, widths(12, 12))
    with pytest.raises(ValueError, match="the map tinybert begins at the embeddings"):
        FeatureLoss(how(layer_map="tinybert"), student, teacher, widths(12, 12))
    with pytest.raises(ValueError, match="no hidden states are read from Linear"):
        features.sites(nn.Linear(2, 2))


def test_a_trained_projection_is_that_of_least_squares():
    """T12.3: gradient descent on W alone ends where the closed form is; a wider student that holds H^t reaches 0."""
    hidden, noise = drawn(200, 5).double(), drawn(200, 8, seed=2).double()
    target = hidden @ drawn(5, 8, seed=1).double() + noise
    exact = features.least_squares(hidden, target)
    made = features._projection(8, 5, seed=0).double()
    optimizer = torch.optim.LBFGS(made.parameters(), max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(made(hidden), target)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert (made.weight.T - exact).abs().max() < 1e-4
    assert nn.functional.mse_loss(hidden @ exact, target) > 0.5
    wider = torch.cat([target, torch.zeros(200, 3).double()], dim=1)
    assert nn.functional.mse_loss(wider @ features.least_squares(wider, target), target) < 1e-20


def test_a_student_that_is_its_teacher_costs_nothing_and_pkd_sees_no_length():
    teacher = mlp(12, 12, 12, 12)
    states = states_of(teacher)
    own = widths(12, 12, 12, 12)
    for settings in ({}, {"feature_loss": "pkd"}, {"feature_loss": "pkd", "layer_map": "skip"}):
        with FeatureLoss(how(**settings), teacher, states, own) as beside:
            teacher(drawn(40, 1, 8, 8, seed=3))
            assert beside(torch.arange(40)).item() < 1e-12
            assert beside(torch.arange(39, -1, -1)).item() > 1e-4  # rows that are not the batch's
    louder = {depth: 5 * state for depth, state in states.items()}
    for loss, low, high in (("pkd", 0, 1e-12), ("mse", 1e-2, 1e9)):
        with FeatureLoss(how(feature_loss=loss), teacher, louder, own) as beside:
            teacher(drawn(40, 1, 8, 8, seed=3))
            assert low <= beside(torch.arange(40)).item() < high


def test_a_learned_map_starts_even_and_finds_the_layer_that_fits():
    teacher = states_of(mlp(12, 12, 12, seed=1))
    student = mlp(12, 12)
    with FeatureLoss(how(layer_map="learned", map_temperature=0.1), student, teacher, widths(12, 12)) as beside:
        torch.testing.assert_close(beside.map(), torch.full((2, 3), 1 / 3))
        beside.states = {Depth(1): teacher[Depth(2)], Depth(2): teacher[Depth(3)]}
        optimizer = torch.optim.Adam([beside.theta], lr=0.05)
        for _ in range(60):
            optimizer.zero_grad()
            beside(torch.arange(40)).backward()
            optimizer.step()
        assert beside.map().argmax(dim=1).tolist() == [1, 2]


def test_a_weight_gives_the_loss_its_share_of_the_gradient():
    model, x = mlp(12, 12), drawn(20, 1, 8, 8)
    task, feature = model(x).square().mean(), model.body(x).sum()
    w = features.weight_for_share(0.25, task, feature, model)
    norms = []
    for loss in (task, w * feature):
        grads = torch.autograd.grad(loss, model.parameters(), retain_graph=True, allow_unused=True)
        norms.append(torch.cat([g.flatten() for g in grads if g is not None]).norm())
    assert float(norms[1] / sum(norms)) == pytest.approx(0.25, rel=1e-5)
    with pytest.raises(ValueError, match="no gradient"):
        features.weight_for_share(0.25, task, feature * 0, model)


@pytest.fixture(scope="module")
def toy():
    data = splits.load("rt", "toy")
    fixed = {"task": "rt", "profile": "toy", "data": data.fingerprint, "seed": 0, "epochs": 2, "history_points": 2}
    return data, arm_config("erm_large", **fixed), fixed


def test_states_are_read_in_order_and_the_last_is_what_the_classifier_reads(toy):
    data, config, _ = toy
    model = classifiers.build(config, data)
    inputs = encoded(config, data)["train"]
    states = read_states(model, inputs, "fp32")
    assert {depth.number: tuple(state.shape) for depth, state in states.items()} == {
        0: (64, 32),
        1: (64, 32),
        2: (64, 32),
    }
    with torch.no_grad():
        one = model.eval().encoder(**inputs.batch(np.array([7])))
    torch.testing.assert_close(states[Depth(2)][7:8], one, rtol=1e-4, atol=1e-5)
    assert hooks(model) == []


@pytest.fixture(scope="module")
def trained(toy):
    """The run that teaches."""
    return train(toy[1], toy[0])


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    for name in ("OUTPUTS", "RUNS", "FEATURES", "DAMAGED"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    for name in ("RUNS", "FEATURES"):
        (tmp_path / name.lower()).mkdir()
    return tmp_path


METHODS = [
    {"method": "features", "layer_map": "uniform"},
    {"method": "features", "layer_map": "learned", "projection": "share"},
    {"method": "features", "layer_map": "uniform", "feature_loss": "pkd"},
    {"method": "features", "layer_map": "tinybert", "feature_loss": "tinybert"},
    {"method": "rkd"},
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", METHODS, ids=lambda s: "-".join(s.values()))
def test_a_student_trains_on_its_teachers_states_without_running_it(toy, trained, elsewhere, monkeypatch, settings):
    data, _, fixed = toy
    teacher = copy.deepcopy(trained)
    store.save(teacher)
    config = RunConfig.of(
        {**vars(arm_config("kd_standard", **fixed, teacher_run=teacher.run_id)), "extra": (), **settings}
    )
    first = train(config, data, teacher)
    kept = paths.FEATURES / f"{teacher.run_id}.npz"
    assert kept.is_file()
    monkeypatch.setattr(features, "_trained_again", lambda *_: pytest.fail("its states are on disk"))
    again = train(config, data, teacher)
    assert np.array_equal(first.logits["test"], again.logits["test"])
    weight = "relation_weight" if settings["method"] == "rkd" else "feature_weight"
    none = train(config.changed(**{weight: 0.0}), data, teacher)
    plain = train(replace(config, method="kd", extra=()), data, teacher)
    assert np.array_equal(none.logits["test"], plain.logits["test"])
    assert not np.array_equal(first.logits["test"], plain.logits["test"])


@pytest.mark.slow
def test_a_teacher_that_trains_to_other_logits_is_refused(toy, trained, elsewhere):
    data, _, _ = toy
    teacher = copy.deepcopy(trained)
    teacher.logits["train"][3, 0] += 1e-6
    store.save(teacher)
    with pytest.raises(ValueError, match="trained again has other logits"):
        features.teacher_states(teacher.run_id, data)
    assert list(paths.FEATURES.glob("*.npz")) == []


def test_settings_are_named_with_their_ranges():
    assert RelationKD.settings()["angle_weight"].low == 0
    with pytest.raises(ValueError, match="layer_map must be one of uniform, skip, last"):
        FeatureKD.settings()["layer_map"].check("layer_map", "first")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layers", "width"), [("minilm-l3", 3, 384), ("mpnet-12", 12, 768)])
def test_a_model_of_the_ladder_reads_meaning(name, layers, width):
    """Mean-pooled states of two sentences that say the same are nearer than those of two that do not."""
    if not (paths.ASSETS / SOURCES[name].where).is_dir():
        pytest.skip(f"{PACKAGED[SOURCES[name].where].requirement} is fetched on demand and not here")
    from transformers import AutoTokenizer

    encoder, dense = text._pretrained(name)
    assert (len(encoder.encoder.layer), dense.in_features) == (layers, width)
    if name == "minilm-l3":
        assert sum(p.numel() for p in encoder.parameters()) == 17_241_984
    tokenizer = AutoTokenizer.from_pretrained(text.location(name)[0])
    said = ["A man is playing the guitar.", "Someone plays guitar.", "The stock market fell sharply."]
    with torch.no_grad():
        pooled = [encoder.eval()(**tokenizer([s], return_tensors="pt")).last_hidden_state.mean(dim=1) for s in said]
    near, far = (nn.functional.cosine_similarity(pooled[0], other).item() for other in pooled[1:])
    assert near > 0.7
    assert far < 0.3
