-- Statements of publish.py and bulk.py. A claimed object is one whose rows of the date have changed since they were
-- last published: rows of it that are current or runners-up are stale, those of all other objects hold.
-- Among the live objects the latest (last_modified, bucket, key, row_number) wins an identity.

-- name: lock_date
select pg_advisory_xact_lock(hashtextextended('sentiment.publish ' || :review_date, 0))

-- name: set_memory
-- At the defaults (4 MB, 64 MB) the sort of every night of size, and every index of half a million rows, would go
-- through the disk. Two workers: publishing is the end of a night, when its other cores have nothing left to do.
set local work_mem = '128MB';
set local maintenance_work_mem = '256MB';
set local max_parallel_maintenance_workers = 2;
-- Statement follows statement here, and readers may wait for the last of them: a publisher that falls asleep in between
-- (a machine that is suspended) is put out by the server, and whoever comes by publishes.
set local idle_in_transaction_session_timeout = '60s'

-- name: claim
-- What this publication answers for. Locked, so that nobody stages these objects anew before it is done.
select object_id from sentiment.object_dates
where review_date = :review_date and not is_published
order by object_id
for update

-- name: claimed
-- Asked after the lock: a newer version that takes an object's place needs the same lock.
select
    d.object_id, d.n_rows, d.published_at is not null as was_published,
    o.status in ('staged', 'scored', 'gone') and not exists (
        select from sentiment.source_objects newer
        where newer.bucket = o.bucket and newer.key = o.key and newer.sequence > o.sequence
            and newer.status in ('staged', 'scored', 'gone')
    ) as is_live
from sentiment.object_dates d join sentiment.source_objects o using (object_id)
where d.review_date = :review_date and d.object_id = any(cast(:object_ids as bigint[]))

-- name: count_kept
-- Rows of the date that earlier publications answer for.
select coalesce(sum(d.n_rows), 0)::bigint
from sentiment.object_dates d join sentiment.source_objects o using (object_id)
where d.review_date = :review_date and d.is_published and o.status in ('staged', 'scored', 'gone')

-- name: forget_runners_up
delete from sentiment.runner_ups
where review_date = :review_date and object_id = any(cast(:object_ids as bigint[]))

-- name: mark
update sentiment.object_dates set is_published = true, published_at = now()
where review_date = :review_date and object_id = any(cast(:object_ids as bigint[]))

-- name: make_contenders
create temporary table contenders on commit drop as
select {columns}, false as is_current, false as is_runner_up
from {staged_leaf} s
where exists (
    select from sentiment.object_dates d
    where d.object_id = s.object_id and d.review_date = s.review_date and d.staged_at = s.scored_at
        and d.object_id = any(cast(:live_ids as bigint[]))
)

-- name: add_stale
-- Identities that lose their row, whatever else is said of them.
insert into contenders ({columns}, is_current, is_runner_up)
select {columns}, true, false from {scored_leaf}
where object_id = any(cast(:object_ids as bigint[]))

-- name: analyze_contenders
-- So that few identities are looked up and many are hashed.
analyze contenders

-- name: add_current
insert into contenders ({columns}, is_current, is_runner_up)
select {columns}, true, false from {scored_leaf}
where (review_id, review_date) in (select review_id, review_date from contenders)
    and object_id <> all(cast(:object_ids as bigint[]))

-- name: add_runners_up
insert into contenders ({columns}, is_current, is_runner_up)
select {columns}, false, true from sentiment.runner_ups
where (review_id, review_date) in (select review_id, review_date from contenders)

-- name: rank_contenders
-- place 1 wins; a runner-up is the last row of its identity in an object that does not win.
create temporary table ranked on commit drop as
select
    c.*,
    row_number() over (
        partition by review_id order by o.last_modified desc, o.bucket desc, o.key desc, c.row_number desc
    ) as place,
    row_number() over (partition by review_id, c.object_id order by c.row_number desc) as own_place
from contenders c join sentiment.source_objects o using (object_id)
where not (c.is_current and c.object_id = any(cast(:object_ids as bigint[])))

-- name: merge
with merged as (
    merge into {scored_leaf} t
    using (
        select touched.review_id as touched_id, r.*
        from (select distinct review_id from contenders) touched
        left join ranked r on r.review_id = touched.review_id and r.place = 1
    ) w on t.review_id = w.touched_id and t.review_date = :review_date
    when matched and w.review_id is null then delete
    when matched and (t.object_id, t.scored_at, t.run_id) is distinct from (w.object_id, w.scored_at, w.run_id)
        then update set {assignments}
    when not matched and w.review_id is not null then insert ({columns}) values ({values})
    returning merge_action() as action, old.*
), retired as (
    insert into sentiment.score_history ({columns}, retired_at)
    select {columns}, now() from merged where action <> 'INSERT'
)
select
    count(*) filter (where action = 'INSERT') as n_inserted,
    count(*) filter (where action = 'UPDATE') as n_updated,
    count(*) filter (where action = 'DELETE') as n_deleted
from merged

-- name: promote_runners_up
delete from sentiment.runner_ups u
using ranked r
where r.is_runner_up and r.place = 1
    and u.review_date = :review_date and u.review_id = r.review_id and u.object_id = r.object_id

-- name: keep_runners_up
insert into sentiment.runner_ups ({columns})
select {columns} from ranked where place > 1 and own_place = 1 and not is_runner_up

-- name: clear_staged
delete from {staged_leaf} where object_id = any(cast(:object_ids as bigint[]))

-- name: take_staged
select sentiment.take_staged_leaf(:review_date)

-- name: count_new
select count(*) from {new_leaf}

-- name: make_new
select sentiment.new_leaf(:review_date)

-- name: copy_staged
insert into {new_leaf} ({columns})
select {columns} from {staged_leaf} s
where exists (
    select from sentiment.object_dates d
    where d.object_id = s.object_id and d.review_date = s.review_date and d.staged_at = s.scored_at
        and d.object_id = any(cast(:live_ids as bigint[]))
)

-- name: has_leaf
select exists (
    select from pg_class where relnamespace = 'sentiment'::regnamespace and relname = :leaf
)

-- name: lock_swap
-- Two publications that look into old leaves would keep each other from taking theirs away.
select pg_advisory_xact_lock(hashtextextended('sentiment.swap_leaf', 0))

-- name: carry_over
insert into {new_leaf} ({columns})
select {columns} from {scored_leaf} where object_id <> all(cast(:object_ids as bigint[]))

-- name: bring_back_runners_up
with back as (
    delete from sentiment.runner_ups where review_date = :review_date returning *
)
insert into {new_leaf} ({columns}) select {columns} from back

-- name: index_new
select sentiment.index_new_leaf(:review_date)

-- name: make_losers
create temporary table losers (review_id text collate "C", review_date date, object_id bigint) on commit drop

-- name: part_rivals
-- Identities with several rows keep the winner; the best row of every other object becomes a runner-up.
with rivals as (
    select
        n.ctid as address, n.object_id,
        row_number() over w as place,
        row_number() over (partition by review_id, n.object_id order by n.row_number desc) as own_place
    from {new_leaf} n join sentiment.source_objects o using (object_id)
    where review_id in (select review_id from {new_leaf} group by review_id having count(*) > 1)
    window w as (partition by review_id order by o.last_modified desc, o.bucket desc, o.key desc, n.row_number desc)
), gone as (
    delete from {new_leaf} n using rivals r where n.ctid = r.address and r.place > 1
    returning n.*, r.own_place
), kept as (
    insert into sentiment.runner_ups ({columns})
    select {columns} from gone where own_place = 1
)
insert into losers select review_id, review_date, object_id from gone

-- name: analyze_losers
analyze losers

-- name: count_old
select count(*) from {scored_leaf}

-- name: retire
-- Of the old leaf, the rows of claimed objects and those that have been outranked. In the order of the index of
-- score_history, which is several times quicker than in any other.
with retired as (
    insert into sentiment.score_history ({columns}, retired_at)
    select {columns}, now() from (
        select {columns} from {scored_leaf} where object_id = any(cast(:object_ids as bigint[]))
        union all
        select {columns} from {scored_leaf}
        where (review_id, review_date, object_id) in (select review_id, review_date, object_id from losers)
            and object_id <> all(cast(:object_ids as bigint[]))
    ) t
    order by review_id
    returning review_id, review_date
)
select count(*) as n_retired, count(n.review_id) as n_updated
from retired left join {new_leaf} n using (review_id, review_date)

-- name: spare
-- Leaves what is to be retired alone in the old leaf, and says what becomes of its identities.
with spared as (
    delete from {scored_leaf}
    where object_id <> all(cast(:object_ids as bigint[]))
        and (review_id, review_date, object_id) not in (select review_id, review_date, object_id from losers)
    returning 1
)
select
    (select count(*) from {scored_leaf}) - (select count(*) from spared) as n_retired,
    (select count(*) from {scored_leaf} join {new_leaf} using (review_id, review_date)) - (select count(*) from spared)
        as n_updated

-- name: swap
select sentiment.swap_leaf(:review_date, :is_history)
