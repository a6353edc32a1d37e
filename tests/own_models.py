"""Tiny random models of many kinds, saved as transformers saves them, with a tokenizer."""

from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = [f"word{i}" for i in range(40)] + [f"sign{i}" for i in range(5)]
COMMON = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
KINDS = {  # model type -> what its configuration has of its own
    "bert": {"max_position_embeddings": 64},
    "distilbert": {"max_position_embeddings": 64, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "roberta": {"max_position_embeddings": 66, "type_vocab_size": 1},
    "xlm-roberta": {"max_position_embeddings": 66, "type_vocab_size": 1},
    "mpnet": {"max_position_embeddings": 66},
    "electra": {"max_position_embeddings": 64, "embedding_size": 8},
    "albert": {"max_position_embeddings": 64, "embedding_size": 8},
    "deberta-v2": {
        "max_position_embeddings": 64, "relative_attention": True, "position_buckets": 8, "type_vocab_size": 2,
        "pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "norm_rel_ebd": "layer_norm",
    },
    "modernbert": {"max_position_embeddings": 64, "global_attn_every_n_layers": 2, "local_attention": 8},
}  # fmt: skip
ROBERTA_LIKE = ("roberta", "xlm-roberta", "mpnet")
TOLD_APART = ("bert", "electra", "deberta-v2", "albert")  # their tokenizers give types


def tokenizer(kind):
    """A fast tokenizer of whole words whose special tokens lie where the kind's own has them."""
    from transformers import PreTrainedTokenizerFast

    if kind in ROBERTA_LIKE:
        begin, end, special = "<s>", "</s>", ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        names = {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
        pair = f"{begin} $A {end} {end} $B {end}"
    else:
        begin, end, special = "[CLS]", "[SEP]", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
        pair = f"{begin} $A {end} $B:1 {end}:1"
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=names["unk_token"]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", pair=pair, special_tokens=[(one, vocabulary[one]) for one in (begin, end)]
    )
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if kind in TOLD_APART else [])]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, cls_token=begin, sep_token=end, model_input_names=inputs, **names
    )


def config(kind, **more):
    """A tiny configuration of a kind."""
    from transformers import AutoConfig

    words = tokenizer(kind)
    ends = {"bos_token_id": words.cls_token_id, "eos_token_id": words.sep_token_id}
    ends |= {"cls_token_id": words.cls_token_id, "sep_token_id": words.sep_token_id} if kind == "modernbert" else {}
    fields = {**COMMON, "vocab_size": len(words), "pad_token_id": words.pad_token_id, **ends, **KINDS[kind], **more}
    if kind != "modernbert":
        fields["initializer_range"] = 0.3
    return AutoConfig.for_model(kind, **fields)


def save(folder, kind, *, labels=(), seed=0, **fields):
    """A random encoder in a folder, or, with labels, a finished classifier; fields are of its config."""
    import torch
    from transformers import AutoModel, AutoModelForSequenceClassification

    from kdnb.plain import quiet

    more = dict(fields)
    if labels:
        more |= {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    torch.manual_seed(seed)
    loader = AutoModelForSequenceClassification if labels else AutoModel
    model = loader.from_config(config(kind, **more)).eval()
    for parameter in model.parameters():  # so that every part shows in the logits
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    with quiet("transformers"):
        model.save_pretrained(folder)
    tokenizer(kind).save_pretrained(folder)
    return model


def xlnet(folder, types):
    """A tiny XLNet classifier in a folder, and its tokenizer, which tells the types of tokens or does not."""
    import torch
    from transformers import PreTrainedTokenizerFast, XLNetConfig, XLNetForSequenceClassification

    from kdnb.plain import quiet

    names = ["<unk>", "<cls>", "<sep>", "<pad>"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*names, "a"])}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A <sep> <cls>:2", pair="$A <sep> $B:1 <sep>:1 <cls>:2", special_tokens=[("<sep>", 2), ("<cls>", 1)]
    )
    roles = dict(zip(("unk_token", "cls_token", "sep_token", "pad_token"), names, strict=True))
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if types else [])]
    words = PreTrainedTokenizerFast(tokenizer_object=backend, padding_side="left", model_input_names=inputs, **roles)
    torch.manual_seed(0)
    config = XLNetConfig(vocab_size=8, d_model=16, n_layer=2, n_head=2, d_inner=32, initializer_range=0.3)
    model = XLNetForSequenceClassification(config).eval()
    with quiet("transformers"):
        model.save_pretrained(folder)
    words.save_pretrained(folder)
    return words, model
