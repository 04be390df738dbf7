"""A night of size: the date's rows become a new leaf, which takes the old one's place.

Where the staged rows can be had as they lie, their table is the new leaf and no row is written again. Indexes are
built over the finished rows, which also shows whether an identity has several; only then are winners picked. All of
it happens in the publication's transaction and beside the readers, up to the moment in which an old leaf is taken
away. Whether a night is of size is decided in `publish`.
"""

import psycopg2.errors
from sqlalchemy.engine import Connection

from sentiment_core.errors import Permanent, Transient
from sentiment_core.store.claim import Claim, PublishedDate
from sentiment_core.store.engine import statement
from sentiment_core.store.ledger import leaf


def swap(connection: Connection, claim: Claim) -> PublishedDate:
    """Put a new leaf with the winners in the place of the date's leaf.

    Raises:
        Transient: readers hold on to the old leaf; its cause is psycopg2's LockNotAvailable.
    """
    is_taken = _take_staged(connection, claim)
    if not is_taken:
        claim.execute(connection, "make_new")
        claim.execute(connection, "copy_staged")
    claim.execute(connection, "make_losers")
    n_carried = 0
    if has_leaf := _has_leaf(connection, claim):
        connection.execute(statement("publish.lock_swap"))
        n_carried = claim.execute(connection, "carry_over").rowcount
    n_rows = claim.n_staged + n_carried + claim.execute(connection, "bring_back_runners_up").rowcount
    n_rows -= _index(connection, claim)
    done = _first(claim, n_rows)
    is_history = False
    if has_leaf:
        done, is_history = _retire(connection, claim, n_rows, n_carried)
    if not is_taken:
        claim.execute(connection, "clear_staged")
    claim.execute(connection, "swap", is_history=is_history)
    return done


def _take_staged(connection: Connection, claim: Claim) -> bool:
    """Make the staged leaf the new leaf, if nobody is staging into it and it holds the claimed rows alone."""
    savepoint = connection.begin_nested()
    try:
        claim.execute(connection, "take_staged")
    except Transient as error:
        savepoint.rollback()
        if not isinstance(error.__cause__, psycopg2.errors.LockNotAvailable):
            raise
        return False
    # Every claimed row is there, so that an equal number means no other is.
    is_alone: bool = claim.execute(connection, "count_new").scalar_one() == claim.n_staged
    if is_alone:
        savepoint.commit()
    else:
        savepoint.rollback()
    return is_alone


def _has_leaf(connection: Connection, claim: Claim) -> bool:
    name = leaf("scored_reviews", claim.review_date).partition(".")[2]
    return bool(connection.execute(statement("publish.has_leaf"), {"leaf": name}).scalar_one())


def _index(connection: Connection, claim: Claim) -> int:
    """Build the indexes, and say how many rows had to go because their identity has a better one."""
    try:
        with connection.begin_nested():
            claim.execute(connection, "index_new")
    except Permanent as error:
        if not isinstance(error.__cause__, psycopg2.errors.UniqueViolation):
            raise
    else:
        return 0
    n_losers = claim.execute(connection, "part_rivals").rowcount
    claim.execute(connection, "analyze_losers")
    claim.execute(connection, "index_new")
    return n_losers


def _first(claim: Claim, n_rows: int) -> PublishedDate:
    return PublishedDate(review_date=claim.review_date, n_inserted=n_rows, n_updated=0, n_deleted=0, n_retired=0)


def _retire(connection: Connection, claim: Claim, n_rows: int, n_carried: int) -> tuple[PublishedDate, bool]:
    """Keep what the new leaf holds no longer; the second value says that the old leaf itself goes to score_history."""
    n_before: int = claim.execute(connection, "count_old").scalar_one()
    # A row taken from the old leaf is cheaper than one written to score_history with its index.
    is_history = 2 * n_carried < n_before
    retired = claim.execute(connection, "spare" if is_history else "retire").one()
    n_deleted = retired.n_retired - retired.n_updated
    done = PublishedDate(
        review_date=claim.review_date,
        n_inserted=n_rows - (n_before - n_deleted),
        n_updated=retired.n_updated,
        n_deleted=n_deleted,
        n_retired=retired.n_retired,
    )
    return done, is_history
