"""The claims on language models, subject by subject: where each comes from and how it is tested."""

from kdnb.analysis.ledger import Chapter
from kdnb.studies.language_models import claims_cost as cost
from kdnb.studies.language_models import claims_prefixes as prefixes
from kdnb.studies.language_models import claims_sparse as sparse
from kdnb.studies.language_models import claims_speculative as speculative
from kdnb.studies.language_models import claims_state_space as state_space

_SUBJECTS = (prefixes, sparse, speculative, cost, state_space)
CHAPTER = Chapter(
    claims={id: claim for subject in _SUBJECTS for id, claim in subject.CLAIMS.items()},
    runless={name: test for subject in _SUBJECTS for name, test in subject.RUNLESS.items()},
)
