"""What is trained: text classifiers with their fast encoder, and image models."""
