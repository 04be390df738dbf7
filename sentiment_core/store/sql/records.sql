-- Statements of records.py.

-- name: start_run
-- A run that is tried again keeps when it began: the first successful run decides what as-of means.
insert into sentiment.scoring_runs (window_date, run_id, model_version, started_at, status)
values (:window_date, :run_id, :model_version, now(), 'running')
on conflict (window_date, run_id) do update
set model_version = excluded.model_version, finished_at = null, status = 'running'

-- name: finish_run
update sentiment.scoring_runs
set status = :status, n_objects = :n_objects, n_scored = :n_scored, n_quarantined = :n_quarantined, finished_at = now()
where window_date = :window_date and run_id = :run_id

-- name: scoring_run
select window_date, run_id, model_version, n_objects, n_scored, n_quarantined, started_at, finished_at, status
from sentiment.scoring_runs
where window_date = :window_date and run_id = :run_id

-- name: finished_before
select exists (
    select 1 from sentiment.scoring_runs
    where window_date = :window_date and run_id <> :run_id and status in ('succeeded', 'degraded')
)

-- name: as_of_version
select coalesce(
    (
        select model_version from sentiment.scoring_runs
        where window_date = :window_date and status in ('succeeded', 'degraded')
        order by started_at limit 1
    ),
    (
        select model_version from sentiment.model_events
        where event in ('promoted', 'rolled_back') and at <= :scheduled_at
        order by at desc, event_id desc limit 1
    )
)

-- name: count_current
select model_version, count(*) from sentiment.scored_reviews
where review_date = :review_date
group by model_version
order by model_version

-- name: count_scored
select count(*), count(distinct (review_date, review_id)) from sentiment.scored_reviews
where review_date between :first and :last

-- name: sketches
select k.object_id, k.n, k.moments, k.sample
from sentiment.drift_sketches k
join sentiment.source_objects o using (object_id)
where k.review_date = :review_date and k.model_version = :model_version and o.status in ('staged', 'scored', 'gone')
order by k.object_id

-- name: current_rows
select review_id, object_id from sentiment.scored_reviews
where review_date = :review_date and model_version = :model_version and review_id = any(cast(:review_ids as text[]))

-- name: next_check_id
select nextval('sentiment.drift_checks_check_id_seq')

-- name: insert_check
insert into sentiment.drift_checks (
    check_id, window_date, model_version, n, verdict, p_value, effect, estimated_accuracy, labelled_accuracy, columns,
    sentence, report_url, run_id, checked_at, statistics
) values (
    :check_id, :window_date, :model_version, :n, :verdict, :p_value, :effect, :estimated_accuracy, :labelled_accuracy,
    cast(:columns as jsonb), :sentence, :report_url, :run_id, now(), cast(:statistics as jsonb)
)

-- name: past_checks
-- Of every date the check that counts, if it judged this version: what was another version's says nothing of this one.
-- A binary model knows no neutral: there 3 stars count as positive, as in its training set.
with checked as (
    select distinct on (window_date) *
    from sentiment.drift_checks
    where window_date >= :first and window_date < :before
    order by window_date, checked_at desc, check_id desc
), labelled as (
    select
        l.review_date,
        count(*) as n,
        count(*) filter (
            where s.label = case when s.p_neutral is null and l.label = 'neutral' then 'positive' else l.label end
        ) as n_right
    from sentiment.labels l
    join sentiment.scored_reviews s on s.review_date = l.review_date and s.review_id = l.review_id
    where l.review_date >= :first and l.review_date < :before and s.model_version = :model_version
    group by l.review_date
)
select
    c.window_date, c.n, c.verdict, c.p_value, c.effect, c.estimated_accuracy, c.statistics,
    coalesce(a.n, 0) as n_labelled, coalesce(a.n_right, 0) as n_right
from checked c
left join labelled a on a.review_date = c.window_date
where c.model_version = :model_version
order by c.window_date

-- name: nights_of_version
-- Dates come from the checks, never from a scan of all reviews; a date's reviews are then counted in its own leaf.
select d.window_date, r.n
from (
    select distinct window_date from sentiment.drift_checks where window_date between :first and :last
) d
cross join lateral (
    select count(*) as n from sentiment.scored_reviews s
    where s.review_date = d.window_date and s.model_version = :model_version
) r
where r.n > 0
order by d.window_date

-- name: count_scored_labels
select count(*) from sentiment.labels l
join sentiment.scored_reviews s on s.review_date = l.review_date and s.review_id = l.review_id

-- name: labels_of
-- A binary model knows no neutral: there 3 stars count as positive, as in its training set.
select s.review_id, case when s.p_neutral is null and l.label = 'neutral' then 'positive' else l.label end as label
from sentiment.scored_reviews s
join sentiment.labels l on l.review_date = s.review_date and l.review_id = s.review_id
where s.review_date = :review_date and s.model_version = :model_version

-- name: labelled
-- A binary model knows no neutral: there 3 stars count as positive, as in its training set.
select
    count(*) as n,
    count(*) filter (
        where s.label = case when s.p_neutral is null and l.label = 'neutral' then 'positive' else l.label end
    ) as n_right
from sentiment.scored_reviews s
join sentiment.labels l on l.review_date = s.review_date and l.review_id = s.review_id
where s.review_date = :review_date and s.model_version = :model_version

-- name: make_delivered
create temporary table if not exists delivered_labels (
    row_number bigint not null, review_date date, review_id text collate "C" not null, label text, rating smallint,
    labelled_at timestamptz not null
) on commit delete rows

-- name: find_dates
-- A label without a date means the review's latest.
update pg_temp.delivered_labels d
set review_date = latest.review_date
from (
    select s.review_id, max(s.review_date) as review_date
    from sentiment.scored_reviews s
    where s.review_id in (select review_id from pg_temp.delivered_labels where review_date is null)
    group by s.review_id
) latest
where d.review_id = latest.review_id and d.review_date is null

-- name: unmatched
select row_number from pg_temp.delivered_labels where review_date is null order by row_number

-- name: count_waiting
select count(*) from (select distinct review_date, review_id from pg_temp.delivered_labels where review_date is not null) d
where not exists (
    select 1 from sentiment.scored_reviews s where s.review_date = d.review_date and s.review_id = d.review_id
)

-- name: upsert_labels
-- In the order of the key, so that two deliveries of the same reviews wait for each other instead of deadlocking.
insert into sentiment.labels as l (review_date, review_id, label, rating, labelled_at)
select distinct on (review_id, review_date)
    review_date, review_id,
    coalesce(label, case when rating <= 2 then 'negative' when rating = 3 then 'neutral' else 'positive' end),
    rating, labelled_at
from pg_temp.delivered_labels
where review_date is not null
order by review_id, review_date, labelled_at desc, row_number desc
on conflict (review_id, review_date) do update
set label = excluded.label, rating = excluded.rating, labelled_at = excluded.labelled_at
where excluded.labelled_at >= l.labelled_at
    and (l.label, l.rating, l.labelled_at) is distinct from (excluded.label, excluded.rating, excluded.labelled_at)

-- name: fresh_labels
-- An object that is gone has no text to fetch.
select
    s.review_date, s.review_id, s.product_id, s.source, l.label, l.rating, l.labelled_at,
    o.bucket, o.key, o.etag, o.size, o.last_modified, s.row_number
from sentiment.labels l
join sentiment.scored_reviews s on s.review_date = l.review_date and s.review_id = l.review_id
join sentiment.source_objects o on o.object_id = s.object_id and o.status <> 'gone'
where l.labelled_at > :since and s.row_number is not null
order by o.bucket, o.key, s.row_number

-- name: insert_event
insert into sentiment.model_events (model_version, event, reason, metrics, snapshot, code_version, run_id)
values (:model_version, :event, :reason, cast(:metrics as jsonb), :snapshot, :code_version, :run_id)
on conflict (run_id, model_version, event) do nothing

-- name: lock_champion
select pg_advisory_xact_lock(hashtextextended('sentiment.champion', 0))

-- name: registration
select model_version, metrics - 'trials' as metrics
from sentiment.model_events
where event = 'registered' and run_id = :run_id and snapshot = :snapshot

-- name: decisions
select model_version, event, reason, run_id
from sentiment.model_events
where event <> 'registered'
order by event_id

-- name: events
select event_id, at, model_version, event, reason, metrics, snapshot, code_version, run_id
from sentiment.model_events
order by event_id
