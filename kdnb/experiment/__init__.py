"""How one gets a run: arms, load-or-train, workers, and stored runs as tables."""
