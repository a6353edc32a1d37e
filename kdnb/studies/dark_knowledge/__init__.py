"""Hinton's dark knowledge and its family: what else a teacher hands on than smoother labels."""
