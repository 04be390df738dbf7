-- Statements of listing.py. What a listing shows is compared with the ledger in one statement, however long it is.

-- name: make_listing
create temporary table if not exists listed_objects (
    position bigint not null, bucket text collate "C" not null, key text collate "C" not null,
    etag text not null, size bigint not null, last_modified timestamptz not null
) on commit delete rows

-- name: analyze_listing
-- A listing of a hundred thousand keys is joined at once, one of ten key by key.
analyze listed_objects

-- name: new_objects
-- Positions whose version differs from the latest recorded one of their key, or whose rows have been taken away.
select l.position
from listed_objects l
left join lateral (
    select etag, size, last_modified, is_removed from sentiment.source_objects o
    where o.bucket = l.bucket and o.key = l.key
    order by o.sequence desc limit 1
) latest on true
where (latest.etag, latest.size, latest.last_modified) is distinct from (l.etag, l.size, l.last_modified) or latest.is_removed
order by l.position

-- name: note_gone
-- Live objects that the listing lacks become gone; those that it shows again come back as what they were, unless their
-- rows have been taken away: then they are new.
with changed as (
    select o.object_id, l.key is null as is_gone
    from sentiment.source_objects o
    left join (select distinct bucket, key from listed_objects) l on l.bucket = o.bucket and l.key = o.key
    where o.bucket = :bucket and (cast(:window_dates as date[]) is null or o.window_date = any(cast(:window_dates as date[])))
        and o.status in ('staged', 'scored', 'gone') and (o.status = 'gone') = (l.key is not null) and not o.is_removed
    order by o.object_id
    for no key update of o
), updated as (
    update sentiment.source_objects o
    set status = case when c.is_gone then 'gone' when o.scored_at is null then 'staged' else 'scored' end
    from changed c
    where o.object_id = c.object_id
    returning c.is_gone
)
select count(*) filter (where is_gone) from updated

-- name: with_rows
-- Objects that are gone and whose rows are still there.
select object_id from sentiment.source_objects
where bucket = :bucket and (cast(:window_dates as date[]) is null or window_date = any(cast(:window_dates as date[])))
    and status = 'gone' and not is_removed
order by object_id

-- name: take_rows
-- Asked once more, under the lock: an object may have come back.
update sentiment.source_objects set is_removed = true
where object_id = any(cast(:object_ids as bigint[])) and status = 'gone' and not is_removed
returning object_id

-- name: empty_dates
update sentiment.object_dates set n_rows = 0, staged_at = null, is_published = false
where object_id = any(cast(:object_ids as bigint[]))

-- name: forget_batches
-- A run that is cleared lists anew; one that was cleared a month later would have to.
delete from sentiment.batch_objects
where (window_date = :window_date and run_id = :run_id) or listed_at < now() - interval '30 days'

-- name: batch
select bucket, key, etag, size, last_modified
from sentiment.batch_objects
where window_date = :window_date and run_id = :run_id and batch = :batch
order by place

-- name: is_sweep_due
-- Not before the machine has run for so long: on a bucket with years in it, the past is first a matter for backfills.
select exists (select from sentiment.scoring_runs where started_at <= now() - make_interval(days => :days))
    and not exists (
        select from sentiment.sweeps where window_date > :window_date - cast(:days as integer) and run_id <> :run_id
    )

-- name: record_sweep
insert into sentiment.sweeps (window_date, run_id, n_objects, swept_at)
values (:window_date, :run_id, :n_objects, now())
on conflict (window_date, run_id) do update set n_objects = excluded.n_objects, swept_at = excluded.swept_at

-- name: now
select now()
