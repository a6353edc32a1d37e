"""DistillKit's captures: a small encoder of their format in plain Python, and what the reader makes of its bytes."""

import itertools
import math
import struct

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from kdnb.studies.language_models import distillkit
from kdnb.studies.language_models.distillkit import Compression
from kdnb.studies.language_models.sparse import sparse_divergence
from kdnb.studies.language_models.target_cache import CacheMismatch

RECOMMENDED = {
    "d": 129_280, "k": 128, "exact_k": 16, "exact_dtype": "bfloat16", "polynomial_terms": [0, 1, 2, 3, 4, "sqrt"],
    "term_dtype": "float32", "residual_bins": [], "delta_encoding": False, "error_diffusion": False,
}  # fmt: skip
BUDGET = {**RECOMMENDED, "d": 50_257, "k": 50, "exact_k": 1, "polynomial_terms": [0, 1, "sqrt"]}
PUBLISHED = {
    **RECOMMENDED, "d": 151_936, "exact_k": 32, "exact_dtype": "float32", "polynomial_terms": [0, 1, 2],
    "delta_encoding": True,
}  # fmt: skip
BINS = {
    **RECOMMENDED, "d": 1000, "k": 20, "exact_k": 4, "exact_dtype": "float16", "polynomial_terms": [0, "sqrt"],
    "normalize_t": True, "residual_bins": [
        {"scale_dtype": "float16", "element_bits": 5, "num_elements": 7},
        {"scale_dtype": "bfloat16", "element_bits": 1, "num_elements": 3},
    ],
}  # fmt: skip
PLAIN = {
    "d": 70_000, "k": 6, "exact_k": 0, "polynomial_terms": None, "delta_encoding": True, "residual_bins": [
        {"scale_dtype": "float64", "element_bits": 19, "num_elements": 6}
    ],
}  # fmt: skip
CONFIGS = {"recommended": RECOMMENDED, "budget": BUDGET, "published": PUBLISHED, "bins": BINS, "bins alone": PLAIN}


# The encoder: (bytes, what they stand for) of one token's falling log probabilities


def stored(value, dtype):
    """A number's bytes, little end first, and the number that they are."""
    if dtype == "bfloat16":
        word = int.from_bytes(struct.pack("<f", value), "little")
        kept = (word + 0x7FFF + (word >> 16 & 1)) >> 16  # round half to even
        return kept.to_bytes(2, "little"), struct.unpack("<f", (kept << 16).to_bytes(4, "little"))[0]
    code = {"float16": "<e", "float32": "<f", "float64": "<d"}[dtype]
    return struct.pack(code, value), struct.unpack(code, struct.pack(code, value))[0]


def bit_packed(numbers, bits):
    """Numbers as one string of bits, highest first, filled with zeros to whole bytes."""
    text = "".join(format(n, f"0{bits}b") for n in numbers)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))


def encode(log_p, config):
    """Bytes of falling log probabilities, and what a reader is to make of them."""
    given = list(log_p)
    if config["delta_encoding"]:
        given = [given[0], *(b - a for a, b in itertools.pairwise(given))]
    out, back = b"", []
    for value in given[: config["exact_k"]]:
        piece, kept = stored(value, config.get("exact_dtype", "float32"))
        out, back = out + piece, [*back, kept]
    rest = given[config["exact_k"] :]
    curve = [0.0] * len(rest)
    if terms := config["polynomial_terms"]:
        at = [i / (len(rest) - 1) if config.get("normalize_t") else float(i) for i in range(len(rest))]
        rows = [[math.sqrt(t) if term == "sqrt" else t**term for term in terms] for t in at]
        for place, value in enumerate(np.linalg.lstsq(np.array(rows), np.array(rest), rcond=None)[0]):
            piece, kept = stored(value, config["term_dtype"])
            out, curve = out + piece, [c + kept * row[place] for c, row in zip(curve, rows, strict=True)]
    start = 0
    for one in config["residual_bins"]:
        bits, stop = one["element_bits"], start + one["num_elements"]
        residuals = [a - b for a, b in zip(rest[start:stop], curve[start:stop], strict=True)]
        piece, scale = stored(max(map(abs, residuals)) / (1 if bits == 1 else 2 ** (bits - 1)), one["scale_dtype"])
        if bits == 1:
            levels = [min(max(round(r / scale), 0), 1) for r in residuals]
            values = [scale if level else -scale for level in levels]
        else:
            half = 2 ** (bits - 1)
            levels = [min(max(round(r / scale), -half), half - 1) + half for r in residuals]
            values = [(level - half) * scale for level in levels]
        curve[start:stop] = [c + v for c, v in zip(curve[start:stop], values, strict=True)]
        out, start = out + piece + bit_packed(levels, bits), stop
    back += curve
    return out, list(np.cumsum(back)) if config["delta_encoding"] else back


def falling(config, tokens, seed=0):
    """Laws whose k largest entries have a mass below 1: ids and log probabilities (tokens, k)."""
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.choice(config["d"], config["k"], replace=False) for _ in range(tokens)])
    steps = rng.exponential(0.15, (tokens, config["k"]))
    logits = -np.cumsum(steps, axis=1)
    return ids, logits - np.log(np.exp(logits).sum(1, keepdims=True)) + math.log(0.93)


def row_of(config, tokens=5, seed=0):
    """A row as their sampler writes it, the laws of all tokens but the first; and ids and values it stands for."""
    ids, log_p = falling(config, tokens - 1, seed)
    pieces, values = zip(*(encode(one, config) for one in log_p), strict=True)
    row = {
        "input_ids": list(range(10, 10 + tokens)),
        "compressed_logprobs": [list(piece) for piece in pieces],
        "bytepacked_indices": [list(bit_packed(one, (config["d"] - 1).bit_length())) for one in ids.tolist()],
    }
    return row, ids, np.array(values), log_p


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_capture_is_read_as_what_its_bytes_stand_for(config):
    row, ids, values, log_p = row_of(config)
    capture = distillkit.sequence(row, Compression(**config))
    np.testing.assert_array_equal(capture.target.ids, ids)
    mass = np.exp(values).sum(1)
    np.testing.assert_allclose(capture.target.weights, np.exp(values) / np.maximum(mass, 1)[:, None], rtol=2e-4)
    np.testing.assert_allclose(capture.target.tail, np.maximum(1 - mass, 0), atol=2e-4)
    np.testing.assert_allclose(mass, np.exp(log_p).sum(1), atol=0.1)  # the encoder means what it was given
    assert capture.target.entropy.isnan().all()
    assert capture.ids.tolist() == [10, 11, 12, 13, 14]
    assert capture.told.all()
    assert len(capture.told) == 4


def test_bytes_written_by_hand():
    config = Compression(
        d=8,
        k=3,
        exact_k=1,
        exact_dtype="bfloat16",
        delta_encoding=False,
        residual_bins=[{"scale_dtype": "float16", "element_bits": 4, "num_elements": 2}],
    )
    row = {
        "input_ids": [1, 2],
        "bytepacked_indices": [[0b10101111, 0b00000000]],  # 5 3 6: 101 011 110
        "compressed_logprobs": [[0x00, 0xBF, 0x00, 0x34, 0x20]],  # -0.5; scale 0.25; 2 - 8 and 0 - 8
    }
    target = distillkit.sequence(row, config).target
    assert target.ids.tolist() == [[5, 3, 6]]
    np.testing.assert_allclose(target.weights, [[math.exp(-0.5), math.exp(-1.5), math.exp(-2)]], rtol=1e-6)
    assert float(target.tail) == pytest.approx(1 - math.exp(-0.5) - math.exp(-1.5) - math.exp(-2), abs=1e-6)


def test_a_student_can_learn_from_it():
    row, *_ = row_of(BINS)
    target = distillkit.sequence(row, Compression(**BINS), vocabulary=1024).target
    for variant in ("renorm", "tail_bucket", "uniform_tail", "conditional"):
        assert sparse_divergence(variant, target, torch.zeros(4, 1024)).isfinite().all()


def test_files_are_read_in_their_order_and_documents_kept_apart(tmp_path):
    lists = pa.list_(pa.list_(pa.uint8()))
    schema = pa.schema(
        [
            ("input_ids", pa.list_(pa.uint64())),
            ("compressed_logprobs", lists),
            ("bytepacked_indices", lists),
            ("attention_mask", pa.list_(pa.int64())),
        ]
    )
    for number in (0, 2, 10):  # in their order, which is not the alphabet's
        row, *_ = row_of(BINS, tokens=4, seed=number)
        row |= {"input_ids": [number, 1, 2], "attention_mask": [1, 1, 2]}  # packed: as many laws as tokens
        parquet.write_table(pa.Table.from_pylist([row], schema), tmp_path / f"data_{number}.parquet")
    found = list(distillkit.read(tmp_path, Compression(**BINS)))
    assert [int(one.ids[0]) for one in found] == [0, 2, 10]
    assert found[0].told.tolist() == [True, False, False]  # the next document; nothing next
    assert len(list(distillkit.read(tmp_path / "data_2.parquet", Compression(**BINS)))) == 1
    np.testing.assert_array_equal(found[2].target.ids, falling(BINS, 3, 10)[0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"d": 2**18}, "bytepacked_indices: 272 bytes a token, but 288"),
        ({"k": 127}, "bytepacked_indices: 272 bytes a token, but 270"),
        ({"exact_k": 15}, "compressed_logprobs: 56 bytes a token, but 54"),
        ({"exact_dtype": "float32"}, "compressed_logprobs: 56 bytes a token, but 88"),
        ({"polynomial_terms": [0, 1]}, "compressed_logprobs: 56 bytes a token, but 40"),
        ({"d": 70_000}, "d: an id is not below the vocabulary of 70,000"),
    ],
)  # fmt: skip
def test_another_config_is_refused_by_the_name_of_the_field(changed, message):
    row, *_ = row_of(RECOMMENDED)
    with pytest.raises(CacheMismatch, match=message):
        distillkit.sequence(row, Compression(**{**RECOMMENDED, **changed}))


def test_a_k_that_hides_in_the_padding_is_found():
    config = {**BUDGET, "d": 8, "k": 5, "exact_k": 2}  # 15 bits; 4 ids would be 12, in two bytes as well
    row, *_ = row_of(config)
    row["bytepacked_indices"] = [list(bit_packed([4, 3, 2, 1, 7], 3))] * 4
    with pytest.raises(CacheMismatch, match=r"bytepacked_indices: bits behind the 4 numbers of 3 bits are not zero"):
        distillkit.sequence(row, Compression(**{**config, "k": 4}))


def test_data_that_makes_no_sense_is_refused():
    row, *_ = row_of(PUBLISHED)
    how = Compression(**PUBLISHED)
    exact = {**RECOMMENDED, "d": 1000, "k": 3, "exact_k": 3, "exact_dtype": "float32", "polynomial_terms": []}

    def plain(values, ids=(4, 5, 6)):
        packed = list(bit_packed(ids, 10))
        return {
            "input_ids": [1, 2],
            "bytepacked_indices": [packed],
            "compressed_logprobs": [list(encode(values, exact)[0])],
        }

    for bad, config, message in [
        ({**row, "input_ids": [1, 2, 3]}, how, "input_ids: 3 tokens with the laws of 4"),
        ({**row, "compressed_logprobs": row["compressed_logprobs"][:3]}, how, "of 4 tokens, the values of 3"),
        ({"input_ids": [1], "coeffs": []}, how, "bytepacked_indices: the capture has no such column, only input_ids"),
        (plain([-1, -2, -3], (4, 4, 6)), exact, "an id twice"),
        (plain([-2, -1, -3]), exact, "not finite, falling"),
        (plain([-1, -2, -math.inf]), {**exact, "delta_encoding": True}, "not finite"),
        (row, {**PUBLISHED, "delta_encoding": False}, "not finite, falling"),
        (plain([-0.1, -0.2, -0.3]), exact, "mass of 2.46"),
    ]:
        with pytest.raises(CacheMismatch, match=message):
            distillkit.sequence(bad, config if isinstance(config, Compression) else Compression(**config))
    with pytest.raises(CacheMismatch, match="d: an id is not below the vocabulary of 5"):
        distillkit.sequence(plain([-1, -2, -3]), Compression(**exact), vocabulary=5)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"d": 1}, "d"), ({"k": 0}, "k"), ({"exact_k": 129}, "exact_k"), ({"exact_dtype": "int8"}, "exact_dtype"),
        ({"term_dtype": "half"}, "term_dtype"), ({"polynomial_terms": ["__class__"]}, "polynomial_terms"),
        ({"residual_bins": [{"scale_dtype": "float16", "element_bits": 8, "num_elements": 113}]}, "residual_bins"),
        ({"residual_bins": [{"scale_dtype": "float16", "element_bits": 33, "num_elements": 1}]}, "residual_bins"),
    ],
)  # fmt: skip
def test_a_config_that_makes_no_sense_is_refused_by_the_name_of_the_field(changed, field):
    with pytest.raises(CacheMismatch, match=f"^{field}: "):
        Compression(**{**RECOMMENDED, **changed})


def test_sizes_are_those_that_the_readme_prints():
    """About 300 and 114 bytes, which are for ids of 15 and 16 bits."""
    for config, d, printed in ((RECOMMENDED, 32_000, 296), (BUDGET, 50_257, 114)):
        how = Compression(**{**config, "d": d})
        assert sum(how.sizes) + -(-how.k * how.id_bits // 8) == printed
