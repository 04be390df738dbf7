"""What comes in beside the nightly scores: files that a person puts, and late labels."""

import logging
import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from sentiment_core.domain import ObjectVersion
from sentiment_core.errors import Permanent
from sentiment_core.stages.services import Services
from sentiment_core.stages.window import Night

log = logging.getLogger(__name__)


def put_file(services: Services, path: Path, day: date, *, is_labels: bool = False) -> dict[str, Any]:
    """Upload a file of reviews or labels to its folder; a key that holds the same bytes is left alone."""
    from sentiment_core.reviews.layout import incoming_prefix, is_review_key, labels_prefix

    if not is_review_key(path.name):
        raise Permanent(
            str(path),
            expected="a file ending in .parquet, .jsonl, .jsonl.gz, .csv or .csv.gz",
            found=path.name,
            remedy="convert or rename it",
        )
    key = (labels_prefix(day) if is_labels else incoming_prefix(day)) + path.name
    try:
        with path.open("rb") as stream:
            is_new = services.bucket.put_if_changed(key, stream)
    except OSError as error:
        raise Permanent(
            str(path), expected="a readable file", found=str(error), remedy="check the name and its rights"
        ) from error
    return {"file": str(path), "url": services.bucket.url(key), "outcome": "uploaded" if is_new else "already there"}


def ingest_labels(services: Services, night: Night) -> dict[str, Any]:
    """Read the label files of a night's folder (a scheduled run: of the late days too) into `labels`.

    A label file may be read any number of times: the label with the latest labelled_at wins.
    """
    from sentiment_core.reviews.layout import is_review_key, labels_prefix

    n_folders = 1 + (services.policy.nightly.late_days if night.kind == "scheduled" else 0)
    total = {"n_objects": 0, "n_failed": 0, "n_labels": 0, "n_quarantined": 0}
    for back in range(n_folders):
        day = night.window_date - timedelta(days=back)
        for obj in services.bucket.list(labels_prefix(day)):
            if is_review_key(obj.key):
                for name, count in _ingest_object(services, obj, day).items():
                    total[name] += count
    return total


def _ingest_object(services: Services, obj: ObjectVersion, day: date) -> dict[str, int]:
    from sentiment_core.reviews.bucket import ObjectMissing
    from sentiment_core.reviews.labels import read_labels
    from sentiment_core.reviews.layout import quarantine_key
    from sentiment_core.reviews.read import UnreadableObject, reject_lines
    from sentiment_core.store.records import upsert_labels

    counts = {"n_objects": 1, "n_labels": 0, "n_quarantined": 0}
    with tempfile.TemporaryFile() as rejected:
        try:
            with services.bucket.open(obj) as stream:
                for batch in read_labels(stream, obj.key, folder_date=day, limits=services.policy.reading):
                    outcome = upsert_labels(services.engine, batch.table)
                    rejects = (*batch.rejects, *outcome.rejects)
                    counts["n_labels"] += outcome.n_labels
                    counts["n_quarantined"] += len(rejects)
                    rejected.write(reject_lines(obj.key, rejects))
        except (UnreadableObject, ObjectMissing) as error:
            log.warning("%s", error)
            return {"n_objects": 1, "n_failed": 1}
        if rejected.tell():
            rejected.seek(0)
            services.bucket.put(quarantine_key(obj.key, obj.etag), rejected, content_type="application/x-ndjson")
    return counts
