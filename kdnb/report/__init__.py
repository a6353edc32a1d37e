"""Notebooks through papermill and the HTML report."""
