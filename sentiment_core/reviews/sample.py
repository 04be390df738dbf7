"""Synthetic reviews: written by a seeded grammar, true of nothing, for demonstrations and tests.

Nobody wrote these reviews. Their ids begin with `synthetic-` and their source is `synthetic:<domain>`, so that no table
can mistake them for real ones. They are made to be as hard for a linear model as real ones, and to give it the same
trouble when the domain changes. The words stand in include/sample-data.toml; how a review is built from them stands
here. How reviews are spread over nights does not (`nights`).
"""

import math
import random
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import pyarrow as pa

from sentiment_core import schema
from sentiment_core.errors import Permanent
from sentiment_core.settings import REPOSITORY

GRAMMAR = REPOSITORY / "include" / "sample-data.toml"
SAMPLE = schema.arrow_schema(
    schema.REVIEW_ID, schema.PRODUCT_ID, schema.SOURCE, schema.CREATED_AT, schema.RATING, schema.LANGUAGE, schema.TEXT
)

# A phrase is a list of: literal text, a list of phrases to choose from, or the name of a slot that the product fills.
Phrase = list[Any]
Product = dict[str, Any]
Draw = Callable[[], float]

_PRODUCT_SLOTS = ("title", "person", "aspect", "name")
_SLOT = re.compile(r"\{(\w+)\}")
_WEIGHT = re.compile(r"(\d+)\| ")
_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeio]|un)")
_MIX = 240  # phrases in the list that two sources are mixed into: fine enough for shares of a few per cent
_SYLLABLE = re.compile(r"[a-z]+")
_SYLLABLES = _SYLLABLE.findall(
    "ba ker lo min ta ru sen vi dor mal ne sha ri ost fen gal hu bri len mo kas tir wen zo pel dan ock"
)
_MAX_SENTENCES = 60  # longer than almost every real review


@dataclass(frozen=True)
class Domain:
    """The compiled grammar of one product domain."""

    name: str
    phrases: dict[str, list[Phrase]]
    titles: list[Phrase]
    n_products: int
    median_sentences: float
    sigma_sentences: float
    html_share: float
    has_persons: bool
    ratings: dict[int, float]
    tone: dict[int, float]
    """By rating: share of the opinions that are favourable."""
    habits: dict[str, float]
    """Shares of sentences and of reviews with some trait; see the file."""


def domains() -> tuple[str, ...]:
    """Names of the product domains there are.

    >>> domains()
    ('films', 'electronics', 'books', 'kitchen')
    """
    return tuple(_document()["domains"])


def generate(
    n: int, *, domain: str, seed: int, first_id: int = 0, day: date | None = None, products: tuple[float, float] = (0.0, 1.0)
) -> pa.Table:
    """Write `n` reviews of one domain: columns of `SAMPLE`, ids from `first_id` on, written during the UTC day `day`.

    `products` narrows the reviews to a part of the domain's products, as shares from 0 to 1; popular ones lie
    everywhere. A product is the same whatever the seed. Raises Permanent for an unknown domain.

    >>> table = generate(3, domain="books", seed=7)
    >>> table["review_id"].to_pylist()
    ['synthetic-books-0000000', 'synthetic-books-0000001', 'synthetic-books-0000002']
    >>> table.equals(generate(3, domain="books", seed=7))
    True
    """
    grammar = _domain(domain)
    rng = random.Random(f"{domain}/{seed}/{first_id}")  # noqa: S311  # sample text, not a secret
    catalogue = _catalogue(domain)
    chosen = range(
        int(products[0] * len(catalogue)), max(int(products[0] * len(catalogue)) + 1, int(products[1] * len(catalogue)))
    )
    weights = [_popularity(index) for index in chosen]
    midnight = datetime.combine(day or date(2026, 1, 1), datetime.min.time(), UTC)
    rows: list[tuple[str, str, str, datetime, int, str, str]] = []
    for offset, index in enumerate(rng.choices(chosen, weights, k=n)):
        product = catalogue[index]
        rating = _choose_rating(rng.random(), grammar, product["quality"])
        text = _write(rng, grammar, product, rating)
        created_at = midnight + timedelta(seconds=int(rng.random() * 86_400))
        rows.append(
            (f"synthetic-{domain}-{first_id + offset:07d}", product["id"], f"synthetic:{domain}", created_at, rating, "en", text)
        )
    columns = zip(*rows, strict=True) if rows else ([] for _ in SAMPLE)
    return pa.Table.from_arrays(
        [pa.array(values, field.type) for values, field in zip(columns, SAMPLE, strict=True)], schema=SAMPLE
    )


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(GRAMMAR.read_text(encoding="utf-8"))


@cache
def _domain(name: str) -> Domain:
    document = _document()
    if name not in document["domains"]:
        raise Permanent(
            f"sample domain {name!r}", expected="one of " + ", ".join(document["domains"]), found=name, remedy=f"see {GRAMMAR}"
        )
    own, shared = document["domains"][name], document["shared"]
    phrases: dict[str, list[Phrase]] = {slot: [] for slot in {*shared["phrases"], *own["phrases"]}}
    for slot, compiled in phrases.items():
        theirs, ours = (_weighted(source.get(slot, []), phrases) for source in (shared["phrases"], own["phrases"]))
        compiled.extend(_mix(theirs, ours, own["own_share"]))
    return Domain(
        name=name,
        phrases=phrases,
        titles=_weighted(own["title"], phrases),
        n_products=own["products"],
        median_sentences=own["median_sentences"],
        sigma_sentences=own["sigma_sentences"],
        html_share=own["html_share"],
        has_persons=own["persons"],
        ratings={int(rating): share for rating, share in shared["ratings"].items()},
        tone={int(rating): share for rating, share in shared["tone"].items()},
        habits=shared["habits"],
    )


def _weighted(sources: list[str], phrases: dict[str, list[Phrase]]) -> list[Phrase]:
    """Compile phrases; one with weight 3 stands in the list three times."""
    compiled: list[Phrase] = []
    for source in sources:
        weight = _WEIGHT.match(source)
        parts = _SLOT.split(source[weight.end() :] if weight else source)
        phrase = [_slot(part, phrases) if place % 2 else part for place, part in enumerate(parts) if part]
        compiled.extend([phrase] * (int(weight[1]) if weight else 1))
    return compiled


def _slot(name: str, phrases: dict[str, list[Phrase]]) -> Any:
    # The lists are filled after the phrases that refer to them: the reference is to the list itself.
    return (name,) if name in _PRODUCT_SLOTS else phrases[name]


def _mix(shared: list[Phrase], own: list[Phrase], own_share: float) -> list[Phrase]:
    """One list in which the domain's own phrases have the share `own_share`."""
    if not (shared and own):
        return shared or own
    return _spread(own, round(_MIX * own_share)) + _spread(shared, _MIX - round(_MIX * own_share))


def _spread(phrases: list[Phrase], length: int) -> list[Phrase]:
    """A list of about that length in which the first phrases stand most often: some words are on everybody's lips."""
    weights = [1.0 / (rank + 1.5) for rank in range(len(phrases))]
    counts = [max(1, round(length * weight / sum(weights))) for weight in weights]
    return [phrase for phrase, count in zip(phrases, counts, strict=True) for _ in range(count)]


@cache
def _catalogue(domain: str) -> list[Product]:
    """The products of a domain with their names, people, talked-of aspects and quality (0 is average)."""
    grammar = _domain(domain)
    rng = random.Random(f"products of {domain}")  # noqa: S311  # sample text, not a secret
    catalogue = []
    for number in range(grammar.n_products):
        product: Product = {"id": f"synthetic-{domain}-product-{number:04d}", "quality": rng.gauss(0.0, 0.22)}
        product["name"] = [_invent_name(rng) for _ in range(2)]
        product["person"] = [
            f"{_invent_name(rng)} {_invent_name(rng)}" if grammar.has_persons else _invent_name(rng) for _ in range(3)
        ]
        aspects = [phrase[0] for phrase in grammar.phrases["aspect"]]
        product["aspect"] = rng.sample(sorted(set(aspects)), k=12)
        words: list[str] = []
        _expand(rng.choice(grammar.titles), product, rng.random, words)
        product["title"] = ["".join(words)]
        catalogue.append(product)
    return catalogue


def _popularity(index: int) -> float:
    # Zipf's law over a scrambled order, so that every stretch of the catalogue has popular and forgotten products;
    # the offset keeps the most popular product under about three per cent of all reviews.
    return float(1.0 / (12 + (index * 7919) % 1009))


def _invent_name(rng: random.Random) -> str:
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((2, 2, 3)))).capitalize()


def _choose_rating(draw: float, grammar: Domain, quality: float) -> int:
    weights = {rating: share * math.exp(quality * (rating - 3)) for rating, share in grammar.ratings.items()}
    left = draw * sum(weights.values())
    for rating, weight in weights.items():
        left -= weight
        if left < 0:
            return rating
    return max(weights)


def _write(rng: random.Random, grammar: Domain, product: Product, rating: int) -> str:
    draw, habits = rng.random, grammar.habits
    tone = grammar.tone[rating]
    if draw() < habits["unclear"]:
        tone = 1.0 - tone
    n_sentences = round(rng.lognormvariate(math.log(grammar.median_sentences), grammar.sigma_sentences))
    if n_sentences <= 1:
        kind = "short_unclear" if draw() < habits["no_opinion"] else "short_good" if draw() < tone else "short_bad"
        sentences = [_phrase(kind, grammar, product, draw)]
    else:
        sentences = [_sentence(draw, grammar, product, tone) for _ in range(min(n_sentences, _MAX_SENTENCES))]
        if draw() < habits["verdict"]:
            sentences.append(_phrase("verdict_good" if draw() < tone else "verdict_bad", grammar, product, draw))
    return _roughen(rng, grammar, sentences, is_happy=draw() < tone)


def _sentence(draw: Draw, grammar: Domain, product: Product, tone: float) -> str:
    kind = "neutral" if draw() < grammar.habits["neutral"] else "favourable" if draw() < tone else "critical"
    return _phrase(kind, grammar, product, draw)


def _phrase(name: str, grammar: Domain, product: Product, draw: Draw) -> str:
    words: list[str] = []
    choices = grammar.phrases[name]
    _expand(choices[int(draw() * len(choices))], product, draw, words)
    text = "".join(words)
    return text[0].upper() + text[1:]


def _expand(phrase: Phrase, product: Product, draw: Draw, words: list[str]) -> None:
    for part in phrase:
        if type(part) is str:
            words.append(part)
        elif type(part) is tuple:
            choices = product[part[0]]
            words.append(choices[int(draw() * len(choices))])
        else:
            _expand(part[int(draw() * len(part))], product, draw, words)


def _roughen(rng: random.Random, grammar: Domain, sentences: list[str], *, is_happy: bool) -> str:
    """Join sentences the way people type them: shouting, slips, emoji, HTML."""
    draw, habits = rng.random, grammar.habits
    if draw() < grammar.html_share:
        sentences.insert(len(sentences) // 2, "<br /><br />")
    text = _BEFORE_VOWEL.sub(r"\1n ", " ".join(sentences))
    if draw() < habits["emoji"]:
        choices = grammar.phrases["emoji" if is_happy else "angry"]
        text += choices[int(draw() * len(choices))][0]
    casing = draw()
    if casing < habits["lower_case"]:
        text = text.lower()
    elif casing > 1.0 - habits["upper_case"]:
        text = text.upper()
    if draw() < habits["mistyped"]:
        text = _mistype(rng, text, share=draw() * habits["mistyped_letters"])
    return text


def _mistype(rng: random.Random, text: str, *, share: float) -> str:
    """Swap, drop or double letters inside words."""
    letters = list(text)
    for _ in range(1 + int(len(letters) * share)):
        place = int(rng.random() * (len(letters) - 1))
        here, after = letters[place : place + 2] if len(letters) > 1 else ("", "")
        if here.isalpha() and after.isalpha():
            letters[place : place + 2] = rng.choice(((after, here), ("", after), (here + here, after)))
    return "".join(letters)
