"""Labelled reviews to play nights with: two domains, one to start from and a foreign one, out of Parquet files or made up.

What a column of somebody else's file means is decided here, and what is not certain is refused rather than guessed.
How the reviews are spread over nights is the business of `nights`.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment_core.domain import LABELS
from sentiment_core.errors import Permanent
from sentiment_core.reviews import sample

FOREIGN_SYNTHETIC = "electronics"
NEEDED = "a string column `text`, and one of: `positive` (0/1), `label` (negative/neutral/positive or 0/1), `rating` (1 to 5)"

_MAX_TEXT_CHARS = 100_000  # a demonstration needs no novels
_MAX_ID_CHARS = 512
_WORD = re.compile(r"[a-z']{2,}")
_COMMON_WORDS = 2_000  # frequent words say what is talked about; rare ones are names, and differ between any two sets
_COMPARED_REVIEWS = 400


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A review and what its writer thought."""

    review_id: str
    product_id: str | None
    source: str
    text: str
    label: str
    rating: int | None
    """Stars where they are known on a scale of 1 to 5."""
    language: str | None = None

    @property
    def group(self) -> str:
        """What must not stand on both sides of a split: the product, else the text itself."""
        return self.product_id if self.product_id is not None else " ".join(self.text.lower().split())


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Reviews of the domain that is played first and of the one that comes in later, each in a seeded order."""

    base: tuple[Labelled, ...]
    foreign: tuple[Labelled, ...]
    base_name: str
    foreign_name: str


@dataclass(frozen=True)
class _Group:
    """The reviews of one domain of one file."""

    name: str
    file: str
    rows: tuple[Labelled, ...]

    @property
    def has_products(self) -> bool:
        return all(row.product_id is not None for row in self.rows)


def make_corpus(seed: int, *, n_base: int, n_foreign: int) -> Corpus:
    """Synthetic films, and synthetic electronics as the foreign domain."""
    return Corpus(
        base=tuple(_synthetic("films", n_base, seed)),
        foreign=tuple(_synthetic(FOREIGN_SYNTHETIC, n_foreign, seed)),
        base_name="synthetic films",
        foreign_name=f"synthetic {FOREIGN_SYNTHETIC}",
    )


def read_corpus(folder: Path, seed: int, *, n_foreign: int, min_foreign: int) -> Corpus:
    """Real reviews out of a folder's Parquet files.

    The base is the file with the most labelled rows. The foreign domain is, among the other files (or, in a single
    file, among its other values of `domain` or `source`) with at least `min_foreign` rows, the one whose words differ
    most from the base's; those that know their products come first. Where there is none, `n_foreign` synthetic reviews
    of electronics take its place.

    Raises:
        Permanent: no such folder, no Parquet file in it, or none with the columns needed.
    """
    by_file = _read_files(folder)
    base_file = max(by_file, key=lambda name: sum(len(group.rows) for group in by_file[name]))
    others = [group for name, groups in by_file.items() if name != base_file for group in groups]
    base_groups = sorted(by_file[base_file], key=lambda group: (-len(group.rows), group.name))
    if len(by_file) == 1 and len(base_groups) > 1:
        others, base_groups = base_groups[1:], base_groups[:1]
    base = tuple(row for group in base_groups for row in group.rows)
    foreign = _choose_foreign(base, [group for group in others if len(group.rows) >= min_foreign])
    rng = random.Random(seed)  # noqa: S311  # a split, not a secret
    return Corpus(
        base=_shuffled(base, rng),
        foreign=_shuffled(foreign.rows, rng) if foreign else tuple(_synthetic(FOREIGN_SYNTHETIC, n_foreign, seed)),
        base_name=base_groups[0].name if len(base_groups) == 1 else base_file,
        foreign_name=foreign.name if foreign else f"synthetic {FOREIGN_SYNTHETIC}",
    )


def _synthetic(domain: str, n: int, seed: int) -> Iterator[Labelled]:
    for row in sample.generate(n, domain=domain, seed=seed).to_pylist():
        yield Labelled(
            review_id=row["review_id"],
            product_id=row["product_id"],
            source=row["source"],
            text=row["text"],
            label=label_of_rating(row["rating"]),
            rating=row["rating"],
            language=row["language"],
        )


def label_of_rating(rating: int) -> str:
    """The contract's reading of stars.

    >>> [label_of_rating(rating) for rating in range(1, 6)]
    ['negative', 'negative', 'neutral', 'positive', 'positive']
    """
    return LABELS[0 if rating <= 2 else 1 if rating == 3 else 2]  # noqa: PLR2004  # the contract's own numbers


def _shuffled(rows: Sequence[Labelled], rng: random.Random) -> tuple[Labelled, ...]:
    return tuple(rng.sample(rows, k=len(rows)))


def _read_files(folder: Path) -> dict[str, list[_Group]]:
    paths = sorted(path for path in folder.glob("*.parquet") if path.is_file()) if folder.is_dir() else []
    if not paths:
        raise Permanent(
            f"folder {folder}",
            expected="Parquet files of labelled reviews (*.parquet)",
            found="no such file" if folder.is_dir() else "no such folder",
            remedy=f"name a folder of files with {NEEDED}",
        )
    by_file: dict[str, list[_Group]] = {}
    refused: list[str] = []
    taken: set[str] = set()
    for path in paths:
        try:
            groups = _read_file(path, taken)
        except _NotUsableError as error:
            refused.append(f"{path.name} ({error})")
        else:
            by_file[path.stem] = groups
    if not by_file:
        raise Permanent(
            f"folder {folder}",
            expected=f"at least one Parquet file with {NEEDED}",
            found="; ".join(refused),
            remedy="add or rename columns; ratings of another scale are not guessed, give `positive` or `label` beside them",
        )
    return by_file


class _NotUsableError(Exception):
    """Why one file of the folder is left out; never leaves this module."""


def _read_file(path: Path, taken: set[str]) -> list[_Group]:
    """The usable rows of a file by domain; ids that stand in `taken` already are skipped, and new ones added."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise _NotUsableError(f"not readable as Parquet: {error}") from error
    table = table.rename_columns([name.lower() for name in table.column_names])
    judge = _judge_of(table)
    domain = next((name for name in ("domain", "source") if name in table.column_names), None)
    names = [name for name in ("review_id", "product_id", "text", "language", domain) if name in table.column_names]
    rows: dict[str, list[Labelled]] = defaultdict(list)
    for number, (row, (label, rating)) in enumerate(zip(table.select(names).to_pylist(), judge(table), strict=True)):
        review_id = str(row["review_id"]) if row.get("review_id") is not None else f"{path.stem}-{number}"
        if label is None or review_id in taken or not _is_valid(review_id, row["text"]):
            continue
        taken.add(review_id)
        source = str(row[domain]) if domain and row[domain] is not None else path.stem
        product_id = row.get("product_id")
        rows[source].append(
            Labelled(
                review_id=review_id,
                product_id=str(product_id) if product_id is not None else None,
                source=source,
                text=row["text"],
                label=label,
                rating=rating,
                language=row.get("language"),
            )
        )
    if not rows:
        raise _NotUsableError("no row with a text and a label")
    return [_Group(source, path.stem, tuple(found)) for source, found in rows.items()]


def _is_valid(review_id: str, text: Any) -> bool:
    is_id = 0 < len(review_id) <= _MAX_ID_CHARS and review_id.isprintable() and not review_id.isspace()
    return is_id and isinstance(text, str) and bool(text.strip()) and "\0" not in text and len(text) <= _MAX_TEXT_CHARS


Judgement = tuple[str | None, int | None]


def _judge_of(table: pa.Table) -> Callable[[pa.Table], Iterable[Judgement]]:
    """How labels are read out of this table: `positive` before `label` before `rating`."""
    if len(set(table.column_names)) < len(table.column_names) or "text" not in table.column_names:
        raise _NotUsableError(f"columns {', '.join(table.column_names)}")
    kind = table.schema.field("text").type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise _NotUsableError(f"`text` is of type {kind}")
    for name in ("positive", "label"):
        if name in table.column_names:
            return lambda table: zip(_labels(table, name), _stars(table), strict=True)
    if "rating" not in table.column_names:
        raise _NotUsableError(f"columns {', '.join(table.column_names)}")
    stars = _stars(table)
    if not any(stars):
        raise _NotUsableError("`rating` is not a whole number from 1 to 5 in every row")
    return lambda _: [(label_of_rating(rating) if rating else None, rating) for rating in stars]


def _labels(table: pa.Table, name: str) -> list[str | None]:
    values = {0: "negative", 1: "positive", "0": "negative", "1": "positive", "false": "negative", "true": "positive"}
    labels: list[str | None] = []
    for value in table[name].to_pylist():
        word = value.strip().lower() if isinstance(value, str) else value
        label = word if word in LABELS else values.get(word)
        if label is None and word is not None:
            raise _NotUsableError(f"`{name}` holds {value!r}")
        # A row somebody called neutral says nothing to a model of two classes.
        labels.append(label if label != "neutral" else None)
    return labels


def _stars(table: pa.Table) -> list[int | None]:
    """Ratings where the whole column is on a scale of 1 to 5; else nothing, for another scale is not guessed."""
    if "rating" not in table.column_names:
        return [None] * len(table)
    try:
        values = [None if value is None else float(value) for value in table["rating"].to_pylist()]
    except (TypeError, ValueError):
        return [None] * len(table)
    is_stars = all(value is None or value in (1.0, 2.0, 3.0, 4.0, 5.0) for value in values)
    return [int(value) if value is not None and is_stars else None for value in values]


def _choose_foreign(base: Sequence[Labelled], candidates: Sequence[_Group]) -> _Group | None:
    ours = _words(base)
    return max(candidates, key=lambda group: (group.has_products, _distance(ours, _words(group.rows)), group.name), default=None)


def _words(rows: Sequence[Labelled]) -> dict[str, float]:
    step = max(1, len(rows) // _COMPARED_REVIEWS)
    counts = Counter(word for row in rows[::step] for word in set(_WORD.findall(row.text.lower())))
    common = counts.most_common(_COMMON_WORDS)
    total = sum(count for _, count in common)
    return {word: count / total for word, count in common}


def _distance(one: dict[str, float], other: dict[str, float]) -> float:
    """Total variation distance of two word distributions, in [0, 1].

    >>> _distance({"a": 1.0}, {"a": 0.5, "b": 0.5})
    0.5
    """
    return sum(abs(one.get(word, 0.0) - other.get(word, 0.0)) for word in {**one, **other}) / 2
