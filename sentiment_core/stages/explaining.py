"""Answers about single texts: what a model says of them, and why a review got the score it has.

Nothing is written. A review's text is fetched from exactly the object version that was scored.
"""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from sentiment_core.domain import ObjectVersion
from sentiment_core.errors import Permanent
from sentiment_core.stages.services import Services

if TYPE_CHECKING:
    from sentiment_core.store.lookup import ReviewScore

_DATES_NAMED = 5


class RefusedText(Permanent):
    """A text that no model is asked about: blank, too long, or no valid Unicode."""


def predict_texts(services: Services, texts: Sequence[str], *, model: str | int = "champion") -> list[dict[str, Any]]:
    """Label, confidence and scores of texts, one dict a text.

    Args:
        services: the servers.
        texts: of at most `serving.max_text_chars` characters each.
        model: an alias or a version number.

    Raises:
        RefusedText: a text that is empty, too long or no valid Unicode.
        Permanent: no such model.
    """
    for number, text in enumerate(texts, 1):
        check_text(text, f"text {number}" if len(texts) > 1 else "text", services.policy.serving.max_text_chars)
    opened = services.registry.open(services.registry.resolve(model))
    classes = [str(name) for name in opened.estimator.classes_]
    probabilities = opened.estimator.predict_proba(texts).tolist()
    labels = opened.estimator.predict(texts).tolist()
    return [
        {
            "text": text,
            "label": label,
            "confidence": row[classes.index(label)],
            "scores": dict(zip(classes, row, strict=True)),
            "model_name": opened.ref.name,
            "model_version": opened.ref.version,
            "is_degraded": opened.ref.is_degraded,
        }
        for text, label, row in zip(texts, labels, probabilities, strict=True)
    ]


def check_text(text: str, name: str, max_chars: int) -> None:
    """Refuse what is no text to judge; raises RefusedText."""
    problem = None
    if not text.strip():
        problem = ("words", "none")
    elif len(text) > max_chars:
        problem = (f"at most {max_chars:,} characters", f"{len(text):,}")
    elif not _is_utf8(text):
        problem = ("valid UTF-8", "bytes that are none")
    if problem:
        remedy = "score it as a file (`sentiment score-file`)" if "most" in problem[0] else "give it another"
        raise RefusedText(name, expected=problem[0], found=problem[1], remedy=remedy)


def _is_utf8(text: str) -> bool:
    """False of the lone surrogates that arguments of a shell in another encoding become."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def explain_review(services: Services, review_id: str, *, review_date: date | None = None) -> dict[str, Any]:
    """Why a review has its score: the terms that carried it, the model, object and run it came from.

    Args:
        services: the servers.
        review_id: as delivered.
        review_date: which date's, where the id stands under several.

    Returns:
        `review`, `score` (as stored), `explanation` (scores, intercepts, terms), `model`, `object`, `run`.

    Raises:
        Permanent: no such review, an id of several dates, or a text that is not there any more.
        Transient: a server is away, or the object has been rewritten since.
    """
    from dataclasses import asdict

    from sentiment_core.model.explain import explain

    found = _find(services, review_id, review_date)
    text = _text(services, found)
    opened = services.registry.open(services.registry.resolve(found.model_version))
    explanation = explain(opened.estimator, text)
    origin = found.origin
    return {
        "review": {
            **{name: getattr(found, name) for name in ("review_date", "review_id", "product_id", "source")},
            "text": text,
        },
        "score": {name: getattr(found, name) for name in ("label", "p_negative", "p_neutral", "p_positive", "confidence")},
        "explanation": {**asdict(explanation), "decisive": explanation.decisive},
        "model": {"name": found.model_name, "version": found.model_version, "snapshot": opened.ref.snapshot},
        "object": {
            "object_id": found.object_id,
            "url": f"s3://{origin.bucket}/{origin.key}" if origin else None,
            "etag": origin.etag if origin else None,
            "row_number": found.row_number,
        },
        "run": {"run_id": found.run_id, "scored_at": found.scored_at},
    }


def _find(services: Services, review_id: str, review_date: date | None) -> "ReviewScore":
    from sentiment_core.store.lookup import find_reviews

    # What PostgreSQL cannot hold is nobody's id.
    found = find_reviews(services.engine, review_id, review_date) if _is_utf8(review_id) and "\0" not in review_id else []
    if not found:
        raise Permanent(
            f"review {review_id!r}",
            expected=f"a scored review{f' of {review_date}' if review_date else ''} under this id",
            found="none",
            remedy="look ids up with `sentiment sql -c 'select review_date, review_id from sentiment.scored_reviews limit 9'`",
        )
    if len(found) > 1:
        dates = ", ".join(str(item.review_date) for item in found[:_DATES_NAMED])
        more = f" and {len(found) - _DATES_NAMED} more" if len(found) > _DATES_NAMED else ""
        raise Permanent(
            f"review {review_id!r}", expected="one date", found=f"{dates}{more}", remedy="say which with --date YYYY-MM-DD"
        )
    return found[0]


def _text(services: Services, found: "ReviewScore") -> str:
    from sentiment_core.reviews.bucket import ObjectMissing
    from sentiment_core.reviews.fetch import texts_of

    thing = f"text of review {found.review_id!r} of {found.review_date}"
    origin, row_number = found.origin, found.row_number
    if origin is None or found.object_status == "gone":
        raise _gone(thing, origin, "nothing: the object has been removed from S3")
    if row_number is None:
        raise _gone(thing, origin, "no row number: it was scored by an earlier version of the product")
    try:
        texts = texts_of(services.bucket, origin, [row_number], services.policy.reading)
    except ObjectMissing as error:
        raise _gone(thing, origin, "nothing: the object has been removed from S3") from error
    if row_number not in texts:
        raise _gone(thing, origin, f"no text in row {row_number}")
    return texts[row_number]


def _gone(thing: str, origin: ObjectVersion | None, found: str) -> Permanent:
    place = f"s3://{origin.bucket}/{origin.key}" if origin else "an object of the ledger"
    return Permanent(
        thing, expected=f"it in {place}", found=found, remedy="deliver the file again and score its date with --force"
    )
