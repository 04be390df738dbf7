-- Statements of rescoring.py. Meant are the rows of a selection that another version has scored than the one that is to.

-- name: meant
t.model_version <> :model_version
    and (cast(:version as integer) is null or t.model_version = :version)
    and (cast(:product_id as text) is null or t.product_id = :product_id)
    and t.row_number is not null

-- name: choose_objects
-- Rows that are outranked come along: current again, they would say what the version before has said.
with meant as (
    select t.object_id, t.review_date, count(*) as n_rows, 0::bigint as n_runners_up
    from sentiment.scored_reviews t
    where t.model_version <> :model_version
        and (cast(:version as integer) is null or t.model_version = :version)
        and (cast(:product_id as text) is null or t.product_id = :product_id)
        and t.row_number is not null
        and t.review_date between coalesce(:first, '-infinity'::date) and coalesce(:last, 'infinity'::date)
    group by 1, 2
    union all
    select t.object_id, t.review_date, 0, count(*)
    from sentiment.runner_ups t
    where t.model_version <> :model_version
        and (cast(:version as integer) is null or t.model_version = :version)
        and (cast(:product_id as text) is null or t.product_id = :product_id)
        and t.row_number is not null
        and t.review_date between coalesce(:first, '-infinity'::date) and coalesce(:last, 'infinity'::date)
    group by 1, 2
)
select
    o.object_id, o.bucket, o.key, o.etag, o.size, o.last_modified, o.window_date,
    array_agg(distinct m.review_date order by m.review_date) as review_dates,
    sum(m.n_rows)::bigint as n_rows, sum(m.n_runners_up)::bigint as n_runners_up
from meant m join sentiment.source_objects o using (object_id)
where cast(:window_dates as date[]) is null or o.window_date = any(cast(:window_dates as date[]))
group by o.object_id
order by o.key, o.object_id

-- name: window_dates
select distinct o.window_date
from (
    select object_id, review_date, model_version, product_id from sentiment.scored_reviews
    union all
    select object_id, review_date, model_version, product_id from sentiment.runner_ups
) t join sentiment.source_objects o using (object_id)
where (cast(:version as integer) is null or t.model_version = :version)
    and (cast(:product_id as text) is null or t.product_id = :product_id)
    and t.review_date between coalesce(:first, '-infinity'::date) and coalesce(:last, 'infinity'::date)
order by 1

-- name: sample_labels
select t.row_number, t.label
from sentiment.scored_reviews t
where t.object_id = :object_id
    and t.model_version <> :model_version
    and (cast(:version as integer) is null or t.model_version = :version)
    and (cast(:product_id as text) is null or t.product_id = :product_id)
    and t.row_number is not null
    and t.review_date between coalesce(:first, '-infinity'::date) and coalesce(:last, 'infinity'::date)
order by hashtextextended(t.review_id, 7), t.row_number
limit :n

-- name: make_rescored
create temporary table if not exists rescored (
    row_number bigint not null, review_date date not null, review_id text collate "C" not null, label text not null,
    p_negative double precision not null, p_neutral double precision, p_positive double precision not null,
    confidence double precision not null
)

-- name: clear_rescored
truncate pg_temp.rescored

-- name: analyze_rescored
analyze pg_temp.rescored

-- name: assignments
label = r.label, p_negative = r.p_negative, p_neutral = r.p_neutral, p_positive = r.p_positive, confidence = r.confidence,
    model_name = :model_name, model_version = :model_version, scored_at = :scored_at, run_id = :run_id

-- name: replace
with updated as (
    update {scored_leaf} t set {assignments}
    from pg_temp.rescored r
    where t.object_id = :object_id and r.review_date = :review_date
        and r.review_id = t.review_id and r.row_number = t.row_number
        and {meant}
    returning old.*, old.label <> new.label as is_flipped
), retired as (
    insert into sentiment.score_history ({columns}, retired_at)
    select {columns}, now() from updated
    order by review_id -- as its index has them, which is several times quicker
)
select count(*) as n_rows, count(*) filter (where is_flipped) as n_flipped from updated

-- name: replace_runners_up
update sentiment.runner_ups t set {assignments}
from pg_temp.rescored r
where t.object_id = :object_id and t.review_date = :review_date and r.review_date = t.review_date
    and r.review_id = t.review_id and r.row_number = t.row_number
    and {meant}

-- name: keep_sketch
insert into sentiment.drift_sketches (object_id, review_date, model_version, n, moments, sample)
values (:object_id, :review_date, :model_version, :n, cast(:moments as jsonb), :sample)
on conflict (review_date, object_id, model_version) do update
set n = excluded.n, moments = excluded.moments, sample = excluded.sample
