"""What is right in each notebook's exercises, and what is said to what is not: a module a notebook, `EXERCISES`."""
