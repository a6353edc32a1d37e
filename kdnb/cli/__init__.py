"""The commands of `kdnb`."""
