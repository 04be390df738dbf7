-- Statements of ledger.py and publish.py about object versions; of listings in listing.sql, of leases in lease.sql.
-- Live is, for each key, the newest version among staged, scored and gone: a failed version leaves the one before it
-- live, and an object that is no longer listed keeps its rows.
-- Row locks are taken in one order everywhere: object_dates, then source_objects, each by its primary key.

-- name: lock_key
select pg_advisory_xact_lock(hashtextextended(:bucket || '/' || :key, 1))

-- name: latest_version
select object_id, sequence, etag, size, last_modified, status, is_removed, model_version, n_rows, n_scored, n_quarantined
from sentiment.source_objects
where bucket = :bucket and key = :key
order by sequence desc limit 1

-- name: draw_object_id
-- Before the version is recorded: its rows carry the number, and two that read the same object do not wait for each other.
select nextval('sentiment.source_objects_object_id_seq')

-- name: insert_version
insert into sentiment.source_objects (
    object_id, bucket, key, sequence, etag, size, last_modified, window_date, status, reason, run_id
)
overriding system value
values (:object_id, :bucket, :key, :sequence, :etag, :size, :last_modified, :window_date, :status, :reason, :run_id)

-- name: older_versions
-- Versions that a new one of their key takes the place of.
select object_id from sentiment.source_objects
where bucket = :bucket and key = :key and object_id <> :object_id and status in ('staged', 'scored', 'gone')

-- name: fail_again
update sentiment.source_objects set reason = :reason, run_id = :run_id where object_id = :object_id and status = 'failed'

-- name: dates_of
select review_date from sentiment.object_dates where object_id = :object_id order by review_date

-- name: delete_sketches
delete from sentiment.drift_sketches where object_id = any(cast(:object_ids as bigint[]))

-- name: delete_quarantined
delete from sentiment.quarantined_reviews where object_id = :object_id

-- name: ensure_staged_leaf
select sentiment.ensure_staged_leaf(:review_date)

-- name: ensure_leaf
select sentiment.ensure_leaf(:review_date)

-- name: clock
select clock_timestamp()

-- name: make_rejects
create temporary table if not exists staged_rejects (
    row_number bigint not null, review_id text, reason text not null
) on commit delete rows

-- name: insert_rejects
insert into sentiment.quarantined_reviews (object_id, row_number, review_id, reason)
select :object_id, row_number, review_id, reason from staged_rejects

-- name: make_ratings
create temporary table if not exists staged_ratings (
    review_date date not null, review_id text collate "C" not null, row_number bigint not null,
    rating smallint not null, labelled_at timestamptz not null
) on commit delete rows

-- name: upsert_ratings
-- In the order of the key, so that two objects with the same reviews wait for each other instead of deadlocking.
insert into sentiment.labels as l (review_date, review_id, label, rating, labelled_at)
select distinct on (review_id, review_date)
    review_date, review_id,
    case when rating <= 2 then 'negative' when rating = 3 then 'neutral' else 'positive' end,
    rating, labelled_at
from staged_ratings
order by review_id, review_date, labelled_at desc, row_number desc
on conflict (review_id, review_date) do update
set label = excluded.label, rating = excluded.rating, labelled_at = excluded.labelled_at
where excluded.labelled_at >= l.labelled_at
    and (l.label, l.rating, l.labelled_at) is distinct from (excluded.label, excluded.rating, excluded.labelled_at)

-- name: lock_dates
select 1 from sentiment.object_dates
where object_id = any(cast(:object_ids as bigint[]))
order by object_id, review_date
for update

-- name: unpublish
-- The rows of these versions are about to stop being what they were.
update sentiment.object_dates set is_published = false
where object_id = any(cast(:object_ids as bigint[])) and is_published

-- name: clear_counts
update sentiment.object_dates set n_rows = 0, staged_at = null where object_id = :object_id

-- name: count_date
insert into sentiment.object_dates (object_id, review_date, n_rows, is_published, staged_at)
values (:object_id, :review_date, :n_rows, false, :staged_at)
on conflict (object_id, review_date) do update
set n_rows = excluded.n_rows, is_published = false, staged_at = excluded.staged_at

-- name: lock_objects
select 1 from sentiment.source_objects
where object_id = any(cast(:object_ids as bigint[]))
order by object_id
for no key update

-- name: finish_staging
update sentiment.source_objects
set status = 'staged', n_rows = :n_rows, n_scored = :n_scored, n_quarantined = :n_quarantined, reason = null,
    model_version = :model_version, run_id = :run_id, window_date = :window_date, scored_at = null,
    is_removed = false
where object_id = :object_id

-- name: settle_scored
-- Objects without an unpublished date have been published.
update sentiment.source_objects o
set status = case status when 'staged' then 'scored' else status end, scored_at = now()
where object_id = any(cast(:object_ids as bigint[])) and scored_at is null and status in ('staged', 'gone')
    and not exists (select 1 from sentiment.object_dates d where d.object_id = o.object_id and not d.is_published)

-- name: settle_superseded
-- Versions that are no longer live, once every date of theirs has been published without them.
update sentiment.source_objects o
set status = 'superseded'
where object_id = any(cast(:object_ids as bigint[])) and status in ('staged', 'scored', 'gone')
    and exists (
        select 1 from sentiment.source_objects newer
        where newer.bucket = o.bucket and newer.key = o.key and newer.sequence > o.sequence
            and newer.status in ('staged', 'scored', 'gone')
    )
    and not exists (select 1 from sentiment.object_dates d where d.object_id = o.object_id and not d.is_published)
returning object_id

-- name: unpublished_dates
select distinct review_date from sentiment.object_dates where not is_published order by review_date
