"""The claims on dark knowledge, subject by subject: where each comes from and how it is tested."""

from kdnb.analysis.ledger import Chapter
from kdnb.studies.dark_knowledge import claims_features as features
from kdnb.studies.dark_knowledge import claims_generations as generations

CHAPTER = Chapter(
    claims=generations.CLAIMS | features.CLAIMS,
    tests=generations.TESTS,
    runless=features.RUNLESS,
    evidence=generations.EVIDENCE,
)
