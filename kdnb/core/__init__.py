"""The method: targets, losses, entropy, methods, the fine-tuning loop, metrics and the run store."""
