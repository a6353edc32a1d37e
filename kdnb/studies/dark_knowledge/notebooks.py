"""Which notebooks the study's run executes: all of them, on what is committed or small enough to be made at once."""

NOTEBOOKS = ("60_temperature", "61_missing_digit", "62_born_again", "63_features_and_relations", "64_data_free")


def steps(profile: str) -> list[tuple[str, dict]]:
    """(notebook, parameters) in order."""
    return [(notebook, {"profile": profile}) for notebook in NOTEBOOKS if profile != "paper"]
