"""Statistics, figures and the machinery of the ledger of claims."""
