"""arXiv 2301.12923: how students deviate from their teachers, and why."""
