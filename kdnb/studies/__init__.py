"""One folder per paper or theme, each with its claims, grids and measures."""
