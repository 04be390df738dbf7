-- Statements of overview.py. Dates come from runs and checks, never from a scan of all reviews; a date's reviews are
-- then counted in its own leaf.

-- name: nights
with days as (
    select window_date from sentiment.scoring_runs where window_date < :before
    union
    select window_date from sentiment.drift_checks where window_date < :before
    order by window_date desc
    limit :n_nights
)
select
    d.window_date, coalesce(r.n_reviews, 0) as n_reviews, r.positive_share, r.model_versions, c.check_id, c.verdict,
    c.sentence, c.estimated_accuracy, c.labelled_accuracy, run.status, coalesce(run.n_quarantined, 0) as n_quarantined
from days d
left join lateral (
    select
        sum(v.n)::bigint as n_reviews,
        (sum(v.n_positive) / sum(v.n))::double precision as positive_share,
        array_agg(v.model_version order by v.n desc, v.model_version desc) as model_versions
    from (
        select s.model_version, count(*) as n, count(*) filter (where s.label = 'positive') as n_positive
        from sentiment.scored_reviews s
        where s.review_date = d.window_date
        group by s.model_version
    ) v
) r on true
left join lateral (
    select * from sentiment.drift_checks k where k.window_date = d.window_date
    order by k.checked_at desc, k.check_id desc
    limit 1
) c on true
left join lateral (
    select s.status, s.n_quarantined from sentiment.scoring_runs s where s.window_date = d.window_date
    order by s.started_at desc
    limit 1
) run on true
order by d.window_date desc

-- name: check
select
    check_id, window_date, model_version, n, verdict, p_value, effect, estimated_accuracy, labelled_accuracy, columns,
    sentence, report_url, checked_at,
    (select max(l.check_id) from sentiment.drift_history l where l.window_date = k.window_date) as latest_check_id
from sentiment.drift_checks k
where check_id = :check_id

-- name: events
select
    event_id, at, model_version, event, reason, snapshot, code_version, run_id,
    coalesce(metrics -> 'test', metrics -> 'candidate' -> 'test', '{}'::jsonb) - '{per_class, confusion}'::text[] as figures,
    jsonb_array_length(coalesce(metrics -> 'gates', '[]'::jsonb)) > 0 as has_gates,
    jsonb_array_length(coalesce(metrics -> 'trials', '[]'::jsonb)) > 0 as has_trials
from sentiment.model_events
order by event_id desc
limit :n_events

-- name: event_parts
select coalesce(metrics -> :part, '[]'::jsonb)
from sentiment.model_events
where event_id = :event_id
