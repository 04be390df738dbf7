"""A few nights to play: which labelled reviews train the first model, which are delivered when, what is learnt later.

Quiet nights of one domain come first, then nights of which half is from another domain, with labels arriving a day
later for a part of them. Reviews are delivered without ratings. Products of the training set are in no night, as
tomorrow brings new ones. `corpus` says where the reviews come from, `deliveries` how rows become files.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa

from sentiment_core import schema
from sentiment_core.errors import Permanent
from sentiment_core.reviews.corpus import NEEDED, Corpus, Labelled, make_corpus, read_corpus
from sentiment_core.reviews.deliveries import Delivery, deliver, deliver_labels, delivered_identities


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many reviews there are in each part.

    The first mixed night is the large one: when the second sets off the retrain, only its labels have come. With a
    thousand of them a model's gain on another domain (six points on real reviews) passes the promotion's test nearly
    always; with half as many every second candidate is held. As many of either domain are labelled: what is labelled is
    what the new model's nights are compared with, and the last night is to look like it.
    """

    n_training: int = 9_000
    n_quiet: int = 1_500
    n_mixed: tuple[int, ...] = (2_800, 1_200, 1_100)
    """Half of each is foreign."""
    labelled_share: tuple[float, ...] = (0.8, 0.5, 0.0)
    """Of each of them."""


# Below this a part is no demonstration: drift checks want 200 reviews, a retrain 200 labels, a promotion 50 held out.
MIN_SIZES = Sizes(n_training=800, n_quiet=250, n_mixed=(640, 250, 250))


@dataclass(frozen=True, kw_only=True)
class Night:
    """What is delivered for one date."""

    date: date
    deliveries: tuple[Delivery, ...]
    """In the order in which they arrive."""
    labels: bytes | None
    """A file of labels in JSONL that arrives the day after; None when nobody has labelled anything."""
    is_mixed: bool


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """Everything that is played."""

    training: pa.Table
    """Columns of `schema.SNAPSHOT`, all of them standing."""
    nights: tuple[Night, ...]
    story: str
    """In one sentence what is played."""


def plan_nights(
    *, reviews_dir: Path | None, seed: int, last_date: date, n_quiet_nights: int = 3, sizes: Sizes | None = None
) -> DemoPlan:
    """Plan quiet and mixed nights that end on `last_date`; the same arguments and files give the same bytes.

    Args:
        reviews_dir: folder of Parquet files with real, labelled reviews; None makes synthetic ones.
        seed: of the sample and of every split.
        last_date: date of the last night.
        n_quiet_nights: nights before the mixed ones.
        sizes: wanted sizes; smaller where there are not enough reviews.

    Raises:
        Permanent: the folder has no usable reviews, or fewer than MIN_SIZES.
    """
    wanted = sizes or Sizes()
    n_base = wanted.n_training + n_quiet_nights * wanted.n_quiet + sum(_half(wanted.n_mixed))
    n_foreign = sum(_half(wanted.n_mixed))
    if reviews_dir is None:
        # A tenth more, because whole products are taken for training until there are enough rows.
        corpus = make_corpus(seed, n_base=n_base + n_base // 10, n_foreign=n_foreign)
    else:
        corpus = read_corpus(reviews_dir, seed, n_foreign=n_foreign, min_foreign=min(n_foreign, sum(_half(MIN_SIZES.n_mixed))))
    fitting = _fit(wanted, len(corpus.base) / n_base, len(corpus.foreign) / n_foreign if n_foreign else 1.0)
    training, rest = _split_by_product(corpus.base, fitting.n_training, seed)
    _check(corpus, training, rest, fitting, wanted, n_quiet_nights=n_quiet_nights)
    nights = _play(corpus, rest, fitting, seed=seed, last_date=last_date, n_quiet_nights=n_quiet_nights)
    return DemoPlan(
        training=_snapshot(training),
        nights=nights,
        story=_tell(corpus, len(training), n_quiet_nights, len(fitting.n_mixed)),
    )


def expected_identities(night: Night) -> set[tuple[date, str]]:
    """Distinct valid identities that a night delivers, read again from its files in another way than the machine's."""
    return delivered_identities(night.deliveries, night.date)


def _tell(corpus: Corpus, n_training: int, n_quiet: int, n_mixed: int) -> str:
    start = f"{n_training:,} labelled reviews ({corpus.base_name}) to start from; {n_quiet} quiet nights of the same"
    if not n_mixed:
        return f"{start}."
    return f"{start}, then {n_mixed} nights half of which is {corpus.foreign_name}, with labels arriving a day later for a part."


def _half(sizes: Sequence[int]) -> list[int]:
    return [size // 2 for size in sizes]


def _fit(wanted: Sizes, base_ratio: float, foreign_ratio: float) -> Sizes:
    """Scale what does not fit; a part that is long enough is left as it is."""
    base = min(1.0, 0.95 * base_ratio) if base_ratio < 1 else 1.0  # whole products are split, so keep a little in hand
    mixed = min(base, foreign_ratio)
    return replace(
        wanted,
        n_training=int(wanted.n_training * base),
        n_quiet=int(wanted.n_quiet * base),
        n_mixed=tuple(int(size * mixed) for size in wanted.n_mixed),
    )


def _split_by_product(rows: Sequence[Labelled], n_training: int, seed: int) -> tuple[list[Labelled], list[Labelled]]:
    """Products in any order until `n_training` rows are reached; the others are for the nights.

    In the order of their first reviews the popular ones would all be training's, and the nights' reviews be others.
    """
    products: dict[str, list[Labelled]] = defaultdict(list)
    for row in rows:
        products[row.group].append(row)
    training: list[Labelled] = []
    rest: list[Labelled] = []
    for members in random.Random(f"products of {seed}").sample(list(products.values()), k=len(products)):  # noqa: S311  # a split
        (training if len(training) < n_training else rest).extend(members)
    return training, rest


def _check(
    corpus: Corpus, training: list[Labelled], rest: list[Labelled], sizes: Sizes, wanted: Sizes, *, n_quiet_nights: int
) -> None:
    least = _smaller(MIN_SIZES, wanted)
    n_rest = n_quiet_nights * least.n_quiet + sum(_half(least.n_mixed))
    found = (
        f"{len(corpus.base):,} labelled reviews of {corpus.base_name} ({len(training):,} for training, {len(rest):,} of other "
        f"products) and {len(corpus.foreign):,} of {corpus.foreign_name}"
    )
    is_enough = (
        sizes.n_training >= least.n_training
        and len(rest) >= n_quiet_nights * sizes.n_quiet + sum(_half(sizes.n_mixed))
        and sizes.n_quiet >= least.n_quiet
        and all(size >= small for size, small in zip(sizes.n_mixed, least.n_mixed, strict=True))
    )
    if not is_enough:
        raise Permanent(
            "reviews to play nights with",
            expected=f"at least {least.n_training:,} labelled reviews for training, {n_rest:,} of other products for the nights, "
            f"and {sum(_half(least.n_mixed)):,} of another domain",
            found=found,
            remedy=f"add Parquet files with {NEEDED}; or play with synthetic reviews",
        )
    if len({row.label for row in training}) == 1:
        raise Permanent(
            "reviews to train from",
            expected="positive and negative ones",
            found=f"{training[0].label} ones only ({corpus.base_name})",
            remedy="add reviews of the other kind",
        )


def _smaller(one: Sizes, other: Sizes) -> Sizes:
    """The least that is accepted: nobody who asks for fewer on purpose is refused."""
    return replace(
        one,
        n_training=min(one.n_training, other.n_training),
        n_quiet=min(one.n_quiet, other.n_quiet),
        n_mixed=tuple(min(pair) for pair in zip(_padded(one.n_mixed, len(other.n_mixed)), other.n_mixed, strict=True)),
    )


def _padded(sizes: tuple[int, ...], length: int) -> tuple[int, ...]:
    return (*sizes, *[sizes[-1]] * length)[:length]


def _play(
    corpus: Corpus, rest: Sequence[Labelled], sizes: Sizes, *, seed: int, last_date: date, n_quiet_nights: int
) -> tuple[Night, ...]:
    rng = random.Random(f"nights of {seed}")  # noqa: S311  # a split, not a secret
    base, foreign = iter(rng.sample(rest, k=len(rest))), iter(corpus.foreign)
    first = last_date - timedelta(days=n_quiet_nights + len(sizes.n_mixed) - 1)
    nights = []
    for number in range(n_quiet_nights):
        rows = [next(base) for _ in range(sizes.n_quiet)]
        day = first + timedelta(days=number)
        nights.append(Night(date=day, deliveries=deliver(rows, day, rng), labels=None, is_mixed=False))
    for number, half in enumerate(_half(sizes.n_mixed)):
        ours, theirs = [next(base) for _ in range(half)], [next(foreign) for _ in range(half)]
        n_labelled = round(_padded_shares(sizes.labelled_share, number) * half)
        day = first + timedelta(days=n_quiet_nights + number)
        rows = rng.sample(ours + theirs, k=2 * half)
        deliveries = deliver(rows, day, rng)
        labels = deliver_labels(theirs[:n_labelled] + ours[:n_labelled], day, rng) if n_labelled else None
        nights.append(Night(date=day, deliveries=deliveries, labels=labels, is_mixed=True))
    return tuple(nights)


def _padded_shares(shares: tuple[float, ...], number: int) -> float:
    return shares[min(number, len(shares) - 1)]


def _snapshot(rows: Sequence[Labelled]) -> pa.Table:
    columns = {
        "review_id": [row.review_id for row in rows],
        "product_id": [row.product_id for row in rows],
        "source": [row.source for row in rows],
        "text": [row.text for row in rows],
        "label": [row.label for row in rows],
        "origin": ["standing"] * len(rows),
        "labelled_at": [None] * len(rows),
    }
    arrays = [pa.array(columns[field.name], field.type) for field in schema.SNAPSHOT]
    return pa.Table.from_arrays(arrays, schema=schema.SNAPSHOT)
