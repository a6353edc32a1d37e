"""Numbers in the notebooks' prose: what a run gives, a cell prints; a sentence quotes others, or states a rule."""

import json
import re

import pytest

from kdnb import paths

NOTEBOOKS = sorted(path.stem for path in (paths.ROOT / "notebooks").glob("*.ipynb"))
NUMBER = re.compile(r"(?<![\w.,/:-])(?:\d+\.\d+|\.\d+|\d+(?= ?%))(?![\w]|\.\d)")
ASIDE = re.compile(  # formulas, addresses, code, marks, names of sections
    r"\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)|`[^`]*`|arXiv \d+\.\d+|<[^>]*>|(?:[Ss]ections?|CC BY) [\d., and]+", re.DOTALL
)
EXERCISES = re.compile(r"^#+ (?:Try it yourself|Solutions|To discuss)", re.MULTILINE)
RULES = {".05": "the level of a test", "95": "of an interval"}
THE_PAPER = "the paper's tables"  # looked up in published.json
QUOTED = {  # what stands in prose and in no cell, as `plain` writes it, with whose number it is
    "00_start_here": {THE_PAPER: ".2698 .2758"},
    "10_entropy_of_targets": {THE_PAPER: ".0548 .1123 .6896"},
    "21_grid_search": {"the paper's grid": ".1 .9"},
    "30_kd_vs_ls": {THE_PAPER: ".1"},
    "33_seeds_and_verdicts": {THE_PAPER: ".2698 .2758", "sign tests": ".031 .125", "the level of a test": "5"},
    "34_calibration": {"an example of calibration": "80"},
    "35_published_tables": {THE_PAPER: ".0995 .1058"},
    "42_two_things_in_one_loss": {"conditions of H18.2 and H18.3": "97 99.5"},
    "51_switching_losses": {"all labels right": "100"},
    "52_eigendirections": {"the rule of the claim": "80"},
    "60_temperature": {"Hinton et al.": "2.5"},
    "61_missing_digit": {"the learning rate": ".002", "all of a class": "100", "Hinton et al.": "2.5 98.6"},
    "63_features_and_relations": {"what is often said": "2.67"},
    "64_data_free": {
        "DFAD's table": ".614 .677 .733 5.6",
        "two published tables": "20.88 22.5 34.66 40 42.83 43.7",
        "a published benchmark": "68.58 70.79 72.19 73.56",
        "DAFL's abstract": "74.5 92.2",
        "overviews, and users of DAFL's code": "5 62",
    },
    "70_word_and_sequence_kd": {
        "Kim and Rush": "16.9 22.7 8.2",
        "a report on Qwen3": "67.6 74.4",
    },
    "71_sparse_targets": {"what is left over": "30"},
    "72_speculative_decoding": {
        "an option's default in transformers": ".4 0",
        "an independent evaluation": ".71",
        "Leviathan et al.": "2.6 3.4",
        "DistillSpec": "45",
    },
    "73_state_space_student": {"a released table": "43.2 49.2 52.7 59.3"},
    "74_cost_of_distillation": {"an abstract": "10", "two answers to guess between": "4.33", "a rule of thumb": "40"},
}


def parts(name):
    """A notebook's sentences before its exercises, without what is `ASIDE`; and its code."""
    cells = json.loads((paths.ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    text = {
        kind: ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind] for kind in ("markdown", "code")
    }
    end = next((i for i, said in enumerate(text["markdown"]) if EXERCISES.search(said)), None)
    return ASIDE.sub(" ", "\n".join(text["markdown"][:end])), "\n".join(text["code"])


def plain(number):
    """.5 of 0.5 and of 0.50; 17 of 17; 0 of 0.0."""
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return number.removeprefix("0") or "0"


def numbers(text):
    return {plain(found) for found in NUMBER.findall(text)}


def unaccounted(said, code, quoted):
    """The numbers of some prose that neither a cell has, nor a rule, nor the list of quotations."""
    return numbers(said) - numbers(code) - set(RULES) - set(" ".join(quoted.values()).split())


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_prose_has_no_number_of_a_run(name):
    """Decimals and shares: a result belongs into a cell that reads the runs, where it cannot grow old."""
    said, code = parts(name)
    quoted = QUOTED.get(name, {})
    assert not unaccounted(said, code, quoted), "print it from the runs, or name its source in QUOTED"
    assert set(" ".join(quoted.values()).split()) <= numbers(said) - numbers(code), "no longer quoted"


def test_a_result_written_into_prose_is_found():
    said, code = parts("42_two_things_in_one_loss")
    quoted = QUOTED["42_two_things_in_one_loss"]
    planted = said + " Softness adds .045 nats, and 3 % of all texts change."
    assert unaccounted(planted, code, quoted) == {".045", "3"}


def test_quoted_cells_are_the_papers():
    printed = numbers((paths.ROOT / "kdnb/studies/label_smoothing/published.json").read_text(encoding="utf-8"))
    for name, quoted in QUOTED.items():
        assert set(quoted.get(THE_PAPER, "").split()) <= printed, name


def test_all_notebooks_that_quote_are_there():
    assert set(QUOTED) <= set(NOTEBOOKS)
