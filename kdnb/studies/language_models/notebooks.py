"""Which notebooks the study's run executes: all of them, a demo on what is committed."""

NOTEBOOKS = (
    "70_word_and_sequence_kd",
    "71_sparse_targets",
    "72_speculative_decoding",
    "73_state_space_student",
    "74_cost_of_distillation",
)


def steps(profile: str) -> list[tuple[str, dict]]:
    """(notebook, parameters) in order."""
    read = "cpu" if profile == "demo" else profile
    return [(notebook, {"profile": read}) for notebook in NOTEBOOKS if profile != "paper"]
