-- Statements of publish.py.

-- name: lock_date
select pg_advisory_xact_lock(hashtextextended('sentiment.publish ' || :review_date, 0))

-- name: set_memory
-- Winners are sorted; at the default of 4 MB every night of size would sort on disk.
set local work_mem = '128MB'

-- name: claim
-- What this publication answers for. Locked, so that nothing staged after the merge has looked is marked as published.
select object_id from sentiment.object_dates
where review_date = :review_date and not is_published
order by object_id
for update

-- name: merge
-- Among the live objects the latest (last_modified, key, row_number) wins an identity. The leaves are named directly:
-- through the parents WHEN NOT MATCHED BY SOURCE would scan every date.
with delivered as (
    select distinct o.bucket, o.key
    from sentiment.object_dates d join sentiment.source_objects o using (object_id)
    where d.review_date = :review_date
), live as materialized (
    select distinct on (o.bucket, o.key) o.object_id, o.last_modified, o.bucket, o.key
    from sentiment.source_objects o join delivered using (bucket, key)
    where o.status in ('staged', 'scored', 'gone')
    order by o.bucket, o.key, o.sequence desc
), winners as materialized (
    select distinct on (s.review_id) s.*
    from {staged_leaf} s join live using (object_id)
    order by s.review_id, live.last_modified desc, live.bucket desc, live.key desc, s.row_number desc
), merged as (
    merge into {scored_leaf} t
    using winners w on t.review_id = w.review_id
    when matched and (t.object_id, t.scored_at, t.run_id) is distinct from (w.object_id, w.scored_at, w.run_id)
        then update set {assignments}
    when not matched by target then insert ({columns}) values ({values})
    when not matched by source then delete
    returning merge_action() as action, old.*
), retired as (
    insert into sentiment.score_history ({columns}, retired_at)
    select {columns}, now() from merged where action <> 'INSERT'
    returning 1
)
select
    count(*) filter (where action = 'INSERT') as n_inserted,
    count(*) filter (where action = 'UPDATE') as n_updated,
    count(*) filter (where action = 'DELETE') as n_deleted,
    (select count(*) from retired) as n_retired,
    (select count(*) from winners) as n_rows
from merged

-- name: mark
update sentiment.object_dates set is_published = true
where review_date = :review_date and object_id = any(cast(:object_ids as bigint[]))
