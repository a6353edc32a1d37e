"""What sparse targets take on disk. Plain numbers: no torch here."""


def bytes_per_token(kept: int, vocabulary: int, *, sampled: bool = False) -> int:
    """Bytes of a token's entries and what goes with them in the cache of `kdnb.studies.language_models.target_cache`.

    Args:
        kept: k or number of draws.
        vocabulary: V: ids take 2 bytes up to 65,536, 3 up to 16,777,216.
        sampled: whether weights are of draws (tail is then not stored).
    """
    id_bytes = 2 if vocabulary <= 2**16 else 3
    return kept * (id_bytes + 2) + (2 if sampled else 4)
