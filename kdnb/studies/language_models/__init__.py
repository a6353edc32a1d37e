"""Distillation of language models: words, sequences, sparse targets, drafts, state-space students, cost."""
