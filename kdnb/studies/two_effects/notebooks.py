"""Which notebooks the study's run executes: the two by two trains what a small profile lacks, placebos are read."""

TWO_BY_TWO, PLACEBOS = "42_two_things_in_one_loss", "43_placebo_teachers"


def steps(profile: str) -> list[tuple[str, dict]]:
    """(notebook, parameters) in order: placebos as committed where training them would take longer than the rest."""
    if profile not in ("toy", "demo", "cpu"):
        return []
    return [(TWO_BY_TWO, {"profile": profile}), (PLACEBOS, {"profile": "cpu" if profile == "demo" else profile})]
