-- Statements of requests.py.

-- name: lock
select pg_advisory_xact_lock(hashtextextended('sentiment.retrain', 0))

-- name: requests
-- A retrain that is run again writes a second outcome: the latest counts.
select
    q.window_date, q.run_id, q.retrain_run_id, q.n_labels,
    (
        select e.event from sentiment.model_events e
        where e.run_id = q.retrain_run_id and e.event in ('promoted', 'held')
        order by e.event_id desc limit 1
    ) as outcome,
    exists (
        select from sentiment.model_events e where e.run_id = q.retrain_run_id and e.event = 'registered'
    ) as has_trained
from sentiment.retrain_requests q
order by q.requested_at, q.retrain_run_id

-- name: count_labels
select count(*) from sentiment.labels

-- name: insert
insert into sentiment.retrain_requests (window_date, run_id, retrain_run_id, model_version, n_labels, requested_at)
values (:window_date, :run_id, :retrain_run_id, :model_version, :n_labels, now())
