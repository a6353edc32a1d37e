"""Things to look at: the simplex of targets, single examples, all runs; widgets, and frames where no kernel answers."""
