"""The second paper's part of the ledger, arXiv 2301.12923: its claims and our conjectures around them. Data only.

Its text could not be read: sources name what a summary says of it, and every test is our reconstruction.
"""

from kdnb.studies.label_smoothing.claims import NO_NUMBER, Claim

_PAPER = "arXiv 2301.12923, by a summary"
_OURS = "our question on arXiv 2301.12923"


def _claim(id: str, statement: str, told: str, source: str = _PAPER, **more) -> Claim:
    return Claim(id=id, statement=statement, source=source, told=told, published=NO_NUMBER, **more)


_DEVIATIONS = [
    _claim(
        "H6.1", "A self-distilled student (tau 4) is less sure than chance makes it where its teacher is unsure",
        "train, teacher's least sure quarter: the larger of mean Y - X and of that minus the control's < 0",
        test="underfit", evidence="deviations", unit="log-odds", side=-1,
    ),
    _claim(
        "H6.2", "Across sizes the underfit is weaker than in self-distillation",
        "the same mean, standard KD's minus its control's, less self-KD's minus its control's > 0",
        test="underfit across", evidence="deviations", unit="log-odds",
    ),
    _claim(
        "H6.3", "How far a student deviates does not by itself predict what it gains",
        "r of depth below the control and accuracy over a seed's students; an interval without 0 contradicts",
        _OURS, test="deviation and gain", evidence="deviations", side=0,
    ),
]  # fmt: skip
_SWITCHING = [
    _claim(
        "H7.1", "Labels first and the teacher from half-way on recovers half of KD's gain or more",
        "recovered gain R(.5) minus one half > 0", test="late teacher", evidence="switching", unit="of the gain",
    ),
    _claim(
        "H7.2", "The later the teacher comes, the less of its gain is recovered",
        "slope of R in the switch point < 0", test="recovery slope", evidence="switching", unit="of the gain", side=-1,
    ),
    _claim(
        "H7.3", "The teacher first and labels for the last quarter keeps half of KD's gain or more",
        "recovered gain R(.75) minus one half > 0", test="early teacher", evidence="switching", unit="of the gain",
    ),
]  # fmt: skip
_SIMULATED = [
    _claim(
        "H7.4", "Labels in the last quarter beat KD alone only if the teacher does not fit the train labels",
        "accuracy of KD -> one-hot at .75 minus KD's, teachers of noisy minus of clean digits > 0",
        test="simulation", evidence="simulation", unit="points",
    ),
    _claim(
        "H8.1", "At equal progress along the top direction a linear student is behind its teacher along every other",
        "largest S_2 - A_2 over a grid of eigenvalues and times < 0; no run needed", "arXiv 2301.12923, our proof",
        test="filters", evidence="simulation", unit="of progress", side=-1,
    ),
    _claim(
        "H8.2", "So do small networks, on three of four of MLP and CNN, clean and noisy digits",
        "share of the path below the teacher's, student minus control, third largest setting > 0",
        test="simulation", evidence="simulation", unit="of the path",
    ),
    _claim(
        "H8.3", "Distillation helps where labels are noisy, not where a teacher fits clean ones",
        "accuracy of student minus control, noisy minus clean digits > 0", _OURS,
        test="simulation", evidence="simulation", unit="points",
    ),
    _claim(
        "H9.1", "An early-stopped teacher turns the push on the similar class, a late one does not",
        "share of turned examples: early over one half, late under it; the smaller of both > 0",
        test="simulation", evidence="simulation", unit="of the examples",
    ),
    _claim(
        "H9.2", "KD's gradient points nearer to the truth than the labels', and that nearer than the teacher's weights",
        "cosine to the truth: the smaller of the two steps > 0",
        test="simulation", evidence="simulation", unit="of cosine",
    ),
    _claim(
        "H9.3", "No gradient on the class most similar to the label does without a teacher what KD does",
        "test accuracy of teacher-free zeroing minus ERM's, similar pairs of classes > 0", _OURS,
        test="simulation", evidence="simulation", unit="points",
    ),
]  # fmt: skip
DEVIATION_CLAIMS = {claim.id: claim for claim in [*_DEVIATIONS, *_SWITCHING, *_SIMULATED]}
