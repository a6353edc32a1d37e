"""The claims on dark knowledge, subject by subject: where each comes from and how it is tested."""

from kdnb.analysis.ledger import Chapter
from kdnb.studies.dark_knowledge import claims_data_free as data_free
from kdnb.studies.dark_knowledge import claims_features as features
from kdnb.studies.dark_knowledge import claims_generations as generations
from kdnb.studies.dark_knowledge import claims_missing as missing

CHAPTER = Chapter(
    claims={**missing.CLAIMS, **generations.CLAIMS, **features.CLAIMS, **data_free.CLAIMS},
    tests=generations.TESTS,
    runless={**missing.RUNLESS, **features.RUNLESS, **data_free.RUNLESS},
    evidence=generations.EVIDENCE,
)
