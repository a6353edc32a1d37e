"""Two effects in one loss: what a teacher's softness does to a student's entropy, and what its labels do."""
