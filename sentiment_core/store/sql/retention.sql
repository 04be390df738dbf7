-- Statements of retention.py.

-- name: today
select (now() at time zone 'UTC')::date

-- name: leaves
-- Tables below a relation, with the date in their names.
select c.relname as name, to_date(substring(c.relname from '[0-9]{8}'), 'YYYYMMDD') as leaf_date
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = cast(:relation as regclass) and c.relname ~ '_[0-9]{8}(_[0-9]+)?$'
order by c.relname

-- name: lock_date
select pg_advisory_xact_lock(hashtextextended('sentiment.publish ' || :review_date, 0))

-- name: marks
-- Leaves whose excerpts are known to be short enough, and since when.
select leaf, excerpt_chars, marked_at from sentiment.retention_marks

-- name: changed_dates
-- When rows last came into each date. A publication is stamped when it begins, which may be well before it ends.
select review_date, max(published_at) as published_at
from sentiment.object_dates
where published_at is not null
group by review_date

-- name: mark
insert into sentiment.retention_marks (leaf, excerpt_chars, marked_at)
values (:leaf, :excerpt_chars, clock_timestamp())
on conflict (leaf) do update set excerpt_chars = excluded.excerpt_chars, marked_at = excluded.marked_at

-- name: forget_marks
delete from sentiment.retention_marks m
where not exists (select from pg_class where relnamespace = 'sentiment'::regnamespace and relname = m.leaf)

-- name: cut_excerpts
-- char_length counts characters, as the policy does.
update {leaf} set text_excerpt = nullif(left(text_excerpt, :excerpt_chars), '')
where char_length(text_excerpt) > :excerpt_chars

-- name: cut_undated_excerpts
-- Of tables whose rows are of many dates: runner_ups, and what merges have put into score_history itself.
update {relation} set text_excerpt = nullif(left(text_excerpt, case when review_date < :before then 0 else :excerpt_chars end), '')
where char_length(text_excerpt) > case when review_date < :before then 0 else :excerpt_chars end

-- name: delete_history
delete from only sentiment.score_history where retired_at < :retired_before or review_date < :before

-- name: newest_retired_at
-- One moment for a whole leaf: that of the publication that retired it.
select max(retired_at) from (select retired_at from {leaf} limit 1) r

-- name: drop_history_leaf
select sentiment.drop_history_leaf(:leaf)

-- name: count_rows
select count(*) from {leaf}

-- name: has_rows
select exists (select from {leaf})

-- name: drop_scored_leaf
select sentiment.drop_scored_leaf(:review_date, :may_hold_rows)

-- name: drop_staged_leaf
select sentiment.drop_staged_leaf(:review_date)

-- name: is_unpublished
select exists (select from sentiment.object_dates where review_date = :review_date and not is_published)

-- name: delete_runner_ups
delete from sentiment.runner_ups where review_date < :before

-- name: delete_labels
delete from sentiment.labels where review_date < :before

-- name: delete_sketches
delete from sentiment.drift_sketches where review_date < :before

-- name: delete_quarantined
delete from sentiment.quarantined_reviews q
using sentiment.source_objects o
where o.object_id = q.object_id and o.window_date < :before

-- name: delete_staged
-- What waits for a publication is the latest staging of an object's date. Everything else was left by an earlier one:
-- no publication will ever look at it.
delete from {leaf} s
where s.scored_at < :before and not exists (
    select from sentiment.object_dates d
    where d.object_id = s.object_id and d.review_date = s.review_date and d.staged_at = s.scored_at and not d.is_published
)

-- name: record
insert into sentiment.removals (run_id, what, before_date, n) values (:run_id, :what, :before_date, :n)
