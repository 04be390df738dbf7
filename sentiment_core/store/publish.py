"""Making what is staged current, one review_date at a time.

A publication is one transaction under a lock on its date: it claims the objects whose rows of the date have changed,
lets them and what they touch contend for their identities, keeps what it replaces in score_history, and settles the
ledger. Few rows are merged into the date's leaf here; many become a new leaf (`bulk`). Readers go on reading.
Publishing twice equals once, and whoever comes by can complete what a killed run has left.
"""

from datetime import date

import psycopg2.errors
from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine

from sentiment_core.errors import Transient
from sentiment_core.store.bulk import swap
from sentiment_core.store.claim import Claim, PublishedDate, claim
from sentiment_core.store.engine import statement
from sentiment_core.store.ledger import settle

# Below this a merge takes under a second, and a new leaf would only wear out the catalogue.
MIN_BULK_ROWS = 20_000
# A merged row costs the server 37 microseconds at a million rows, for it goes into every index by itself; one of a new
# leaf 6, but a new leaf takes in the rows that stay as well. With a larger figure trickles would rebuild leaves.
MERGE_COST = 6


def publish(engine: Engine, review_date: date, *, run_id: str) -> PublishedDate:
    """Make the winners among the live objects the current rows of a date.

    Where a leaf cannot be swapped because somebody reads it for long, its rows are merged instead.

    Args:
        engine: as the writer.
        review_date: the date; another publication of it is waited for.
        run_id: named in the server's list of sessions while it runs; rows keep the run that scored them.

    Raises:
        Transient, Permanent: as `engine.translate` judges.
    """
    try:
        return _publish(engine, review_date, run_id, may_swap=True)
    except Transient as error:
        if not isinstance(error.__cause__, psycopg2.errors.LockNotAvailable):
            raise
        return _publish(engine, review_date, run_id, may_swap=False)


def is_bulk(n_staged: int, n_kept: int) -> bool:
    """Whether a new leaf is quicker than a merge, by the rows that come in and those that stay.

    >>> is_bulk(200, 1_000_000), is_bulk(1_000_000, 0), is_bulk(500_000, 1_000_000)
    (False, True, True)
    """
    return n_staged >= MIN_BULK_ROWS and n_staged * MERGE_COST > n_staged + n_kept


def _publish(engine: Engine, review_date: date, run_id: str, *, may_swap: bool) -> PublishedDate:
    with engine.begin() as connection:
        connection.execute(
            text("select set_config('application_name', :name, true)"), {"name": f"sentiment publish {run_id}"[:63]}
        )
        connection.execute(statement("publish.set_memory"))
        connection.execute(statement("publish.lock_date"), {"review_date": review_date.isoformat()})
        claimed = claim(connection, review_date)
        if not claimed.object_ids:
            return PublishedDate(review_date=review_date, n_inserted=0, n_updated=0, n_deleted=0, n_retired=0)
        claimed.execute(connection, "forget_runners_up")
        n_kept = connection.execute(statement("publish.count_kept"), {"review_date": review_date}).scalar_one()
        done = swap(connection, claimed) if may_swap and is_bulk(claimed.n_staged, n_kept) else _merge(connection, claimed)
        claimed.execute(connection, "mark")
        connection.execute(statement("ledger.lock_objects"), {"object_ids": claimed.object_ids})
        settle(connection, claimed.object_ids)
    return done


def _merge(connection: Connection, claimed: Claim) -> PublishedDate:
    """Merge the winners into the date's leaf; only identities that a claimed object holds or held are looked at."""
    connection.execute(statement("ledger.ensure_leaf"), {"review_date": claimed.review_date})
    claimed.execute(connection, "make_contenders")
    if claimed.stale_ids:
        claimed.execute(connection, "add_stale")
    for name in ("analyze_contenders", "add_current", "add_runners_up", "rank_contenders"):
        claimed.execute(connection, name)
    counts = claimed.execute(connection, "merge").one()
    for name in ("promote_runners_up", "keep_runners_up", "clear_staged"):
        claimed.execute(connection, name)
    return PublishedDate(
        review_date=claimed.review_date,
        n_inserted=counts.n_inserted,
        n_updated=counts.n_updated,
        n_deleted=counts.n_deleted,
        n_retired=counts.n_updated + counts.n_deleted,
    )
