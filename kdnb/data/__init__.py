"""Tasks as checked splits: GLUE, sets from the hub, packaged texts, images, the user's own files; tokens and pixels."""
