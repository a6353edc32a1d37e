"""`--student` and `--teacher` take any model of transformers, from a folder or the hub at a commit."""

import re

import own_models
import pytest
import torch
from command import last_json

from kdnb import paths
from kdnb.core import store as runs
from kdnb.data import checkpoints

pytestmark = pytest.mark.slow
TOY = ["--profile", "toy", "--epochs", "1"]


def test_a_comparison_of_ones_own_models(kdnb, tmp_path):
    own_models.save(tmp_path / "big", "mpnet")
    own_models.save(tmp_path / "little", "electra")
    words = ["compare", "rt", *TOY, "--seeds", "0", "--arms", "kd_standard,ls_small", "--json"]
    code, out, err = kdnb(*words, "--student", tmp_path / "little", "--teacher", tmp_path / "big")
    assert (code, err) == (0, "")
    arms = {entry["arm"]: entry for entry in last_json(out)["arms"]}
    assert set(arms) == {"erm_large", "ls_small", "kd_standard"}
    assert arms["erm_large"]["model"].startswith("big@")
    assert arms["kd_standard"]["model"] == arms["ls_small"]["model"]
    assert arms["kd_standard"]["model"].startswith("little@")
    assert arms["kd_standard"]["teacher"] == arms["erm_large"]["run_id"]
    again = kdnb(*words, "--student", tmp_path / "little", "--teacher", tmp_path / "big")[1]
    assert again.count("loaded") == 3
    plain = last_json(kdnb(*words)[1])["arms"]
    assert not {entry["run_id"] for entry in plain} & {entry["run_id"] for entry in arms.values()}


def test_what_ones_own_model_does_not_know_of_ones_own_texts_is_told(kdnb, tmp_path):
    own_models.save(tmp_path / "little", "bert")
    lines = [f"{'foreign ' * 9}word{i} sign{i % 2},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "mine.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    words = ["compare", "--data", tmp_path / "mine.csv", "--text", "text", "--label", "label", *TOY, "--seeds", "0"]
    code, out, err = kdnb(*words, "--arms", "erm_small", "--student", tmp_path / "little")
    assert (code, err) == (0, "")
    (told,) = (line for line in out.splitlines() if "[UNK]" in line)
    assert told.startswith("  little@")


def test_the_profiles_own_models_by_name_are_the_same_runs(kdnb):
    words = ["compare", "rt", *TOY, "--seeds", "0", "--arms", "kd_standard", "--json"]
    named = last_json(kdnb(*words, "--student", "tiny-small", "--teacher", "tiny-large")[1])["arms"]
    assert named == last_json(kdnb(*words)[1])["arms"]
    other = last_json(kdnb(*words, "--teacher", "tiny-3")[1])["arms"]
    assert [entry["model"] for entry in other] == ["tiny-3", "tiny-small"]


def test_a_finished_classifier_teaches_as_it_is(kdnb, tmp_path):
    own_models.save(tmp_path / "done", "albert", labels=("Positive", "Negative"))
    code, out, err = kdnb("compare", "rt", *TOY, "--seeds", "0,1", "--teacher", tmp_path / "done", "--json")
    assert (code, err) == (0, "")
    arms = last_json(out)["arms"]
    (teacher,) = (entry for entry in arms if entry["arm"] == "erm_large")  # asked once, whatever the seeds
    assert re.search(r"Classifier as given seed 0 .* asked in \d+ s", out)
    assert f"{len(arms)} runs: 6 arms x 2 seeds; {len(arms) - 1} to train, " in out
    assert "as-it-is" not in out.rpartition("\n{")[0]
    assert {entry["teacher"] for entry in arms if entry["arm"] == "kd_standard"} == {teacher["run_id"]}
    assert not {"ls_large", "kd_reverse"} & {entry["arm"] for entry in arms}
    words = ["train", "rt", *TOY, "--method", "kd", "--teacher", tmp_path / "done", "--seed", "1", "--lr", "0.001"]
    assert last_json(kdnb(*words, "--json")[1])["teacher"] == teacher["run_id"]
    code, _, err = kdnb("compare", "rt", *TOY, "--arms", "ls_large", "--teacher", tmp_path / "done")
    assert code == 2
    assert "arm ls_large would train it again; leave it out" in err
    code, _, err = kdnb("export", teacher["run_id"], tmp_path / "x")
    assert code == 2
    assert "is the classifier that was given" in err


def test_a_model_of_the_hub_is_its_commit(kdnb, tmp_path, monkeypatch):
    monkeypatch.setenv("KDNB_HUB", str(tmp_path / "hub"))
    own_models.save(tmp_path / "hub" / "someone" / "little-bert", "bert")
    name = f"someone/little-bert@{'a' * 40}"
    found = last_json(kdnb("train", "rt", *TOY, "--student", name, "--json")[1])
    assert found["model"] == name
    assert runs.load(found["run_id"]).config.model == name
    assert not paths.MODELS.exists()


def test_train_and_export_of_ones_own_model(kdnb, tmp_path):
    own_models.save(tmp_path / "little", "deberta-v2")
    found = last_json(kdnb("train", "mrpc", *TOY, "--student", tmp_path / "little", "--keep-weights", "--json")[1])
    assert found["arm"] == "erm_small"
    assert kdnb("export", found["run_id"], tmp_path / "model")[0] == 0
    assert '"DebertaV2ForSequenceClassification"' in (tmp_path / "model" / "config.json").read_text()
    assert kdnb("runs", "verify")[0] == 0


def test_a_bad_model_is_one_line_and_nothing_is_trained(kdnb, tmp_path):
    bert = tmp_path / "bert"
    own_models.save(bert, "bert")
    (tmp_path / "empty").mkdir()
    for name in ("pickled", "wordless", "remote"):
        own_models.save(tmp_path / name, "bert")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    for path in (tmp_path / "wordless").glob("tokenizer*"):
        path.unlink()
    config = tmp_path / "remote" / "config.json"
    config.write_text(
        config.read_text().replace('"model_type": "bert"', '"model_type": "mine", "auto_map": {"AutoModel": "m.M"}')
    )
    own_models.save(tmp_path / "labelled", "bert", labels=("a", "b"))
    own_models.xlnet(tmp_path / "xlnet", types=True)
    hub = "google-bert/bert-base-uncased"
    for words, told in (
        (["--student", hub], f"is named with its commit, as in {hub}@<40 digits>"),
        (["--student", f"{hub}@main"], f"is named with its commit, as in {hub}@<40 digits>"),
        (["--student", f"{hub}@{'0' * 40}"], "none from the hub"),
        (["--student", tmp_path / "nothing"], "no such folder"),
        (["--student", tmp_path / "empty"], "no config.json with a model_type"),
        (["--student", tmp_path / "pickled"], "no .safetensors file, which save_pretrained writes;"),
        (["--student", tmp_path / "wordless"], "no tokenizer"),
        (["--student", tmp_path / "remote"], "none that transformers has"),
        (["--method", "kd", "--teacher", tmp_path / "labelled"], "they must be the same names"),
        (["--student", "digits/cnn"], "no such folder"),
        (["--student", tmp_path / "xlnet"], "xlnet pads in front of a text and classifies at its end"),
    ):
        code, out, err = kdnb("train", "rt", *TOY, *words)
        assert code == 2, (words, out, err)
        assert len(err.splitlines()) == 1, err
        assert told in err, words
        assert runs.stored_ids() == []
    code, _, err = kdnb("train", "digits", *TOY, "--student", bert)
    assert code == 2
    assert "reads texts" in err


def test_texts_longer_than_a_model_has_positions_are_refused_before_any_training(kdnb, tmp_path):
    own_models.save(tmp_path / "short", "roberta", max_position_embeddings=20)
    code, _, err = kdnb("compare", "rt", *TOY, "--student", tmp_path / "short")
    assert code == 2
    assert "reads at most 18 tokens, texts are cut to 32" in err
    assert runs.stored_ids() == []


@pytest.mark.parametrize("kind", ["roberta", "mpnet"])
@pytest.mark.parametrize("pad", [0, 1, 3])
def test_the_longest_text_that_is_let_through_is_the_longest_that_the_model_reads(tmp_path, kind, pad):
    model = own_models.save(tmp_path / "short", kind, max_position_embeddings=20, pad_token_id=pad)

    def refused(length):
        try:
            checkpoints.check_positions("short", model.config.to_dict(), length)
        except ValueError:
            return True
        return False

    longest = max(length for length in range(8, 25) if not refused(length))
    model(input_ids=torch.full((1, longest), 9))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, longest + 1), 9))
