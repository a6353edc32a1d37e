"""The command that makes the committed records: it knows every part, and asks for no other."""

import pytest

from kdnb.studies.dark_knowledge import little_data, little_trainings, reference


def test_it_makes_what_is_asked_for_in_order(monkeypatch):
    made = []
    monkeypatch.setattr(little_trainings, "run", made.append)
    reference.main(["rt", "digits"])
    assert made == ["rt", "digits"]
    assert set(little_data.PLANS) < set(reference.PARTS)


def test_a_part_that_is_none_is_told_before_anything_is_made(monkeypatch, capsys):
    monkeypatch.setattr(little_trainings, "run", lambda _: pytest.fail("made"))
    with pytest.raises(SystemExit, match="2"):
        reference.main(["digits", "digit"])
    error = capsys.readouterr().err
    assert error.startswith("no part 'digit': expected some of temperature; missing digit; digits;")
    assert error.count("\n") == 1
