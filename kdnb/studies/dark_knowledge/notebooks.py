"""Which notebooks the study's run executes: all of them, a demo on what is committed."""

NOTEBOOKS = ("60_temperature", "61_missing_digit", "62_born_again", "63_features_and_relations", "64_data_free")


def steps(profile: str) -> list[tuple[str, dict]]:
    """(notebook, parameters) in order."""
    read = "cpu" if profile == "demo" else profile
    return [(notebook, {"profile": read}) for notebook in NOTEBOOKS if profile != "paper"]
