-- Statements of shadow.py.

-- name: n_nights
-- Nights before or after this one on which the version has scored in the shadow.
select count(distinct window_date) from sentiment.shadow_objects
where model_version = :model_version and window_date <> :window_date

-- name: waiting_objects
-- What the night's run has scored, and what of its folder an earlier one has, as far as this version has not.
select object_id, bucket, key, etag, size, last_modified
from sentiment.source_objects o
where o.status = 'scored' and (o.run_id = :run_id or o.window_date = :window_date)
    and not exists (
        select from sentiment.shadow_objects d where d.object_id = o.object_id and d.model_version = :model_version
    )
order by object_id

-- name: lock
-- Two runs that score the same object in the shadow would write its rows twice.
select pg_advisory_xact_lock(hashtextextended('sentiment.shadow ' || :model_version || ' ' || :object_id, 0))

-- name: is_done
select exists (
    select from sentiment.shadow_objects where object_id = :object_id and model_version = :model_version
)

-- name: clock
select clock_timestamp()

-- name: n_agreed
-- Reviews of the object on which the version says what their current score says.
select count(distinct (h.review_date, h.review_id))
from sentiment.scored_reviews s
join sentiment.score_history h on h.review_id = s.review_id and h.review_date = s.review_date
where s.object_id = :object_id and h.object_id = :object_id and h.model_version = :model_version and h.run_id = :run_id
    and h.label = s.label

-- name: record
insert into sentiment.shadow_objects (object_id, model_version, window_date, n_scored, n_agreed, run_id, scored_at)
values (:object_id, :model_version, :window_date, :n_scored, :n_agreed, :run_id, :scored_at)
