-- Statements of lookup.py: by id, which is how the leaves are keyed.

-- name: review
select
    s.review_date, s.review_id, s.product_id, s.source, s.label, s.p_negative, s.p_neutral, s.p_positive, s.confidence,
    s.model_name, s.model_version, s.scored_at, s.run_id, s.object_id, s.row_number,
    o.bucket, o.key, o.etag, o.size, o.last_modified, coalesce(o.status, 'gone') as object_status
from sentiment.scored_reviews s
left join sentiment.source_objects o on o.object_id = s.object_id
where s.review_id = :review_id and (cast(:review_date as date) is null or s.review_date = :review_date)
order by s.review_date desc
limit :n_most
