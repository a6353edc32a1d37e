"""The claims on language models, subject by subject: where each comes from and how it is tested."""

from kdnb.analysis.ledger import Chapter
from kdnb.studies.language_models import claims_prefixes as prefixes
from kdnb.studies.language_models import claims_sparse as sparse

CHAPTER = Chapter(claims={**prefixes.CLAIMS, **sparse.CLAIMS}, runless={**prefixes.RUNLESS, **sparse.RUNLESS})
