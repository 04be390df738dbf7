-- All relations, views, rights, and the function that makes leaves. Comments on relations and columns come from
-- sentiment_core/schema.py and are applied after the migrations.

create schema if not exists sentiment;

create table sentiment.schema_migrations (
    version integer primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null
);

-- Identities are compared byte by byte: collation "C" is what readers of keys and ids expect, and sorts fastest.
create table sentiment.scored_reviews (
    review_date date not null,
    review_id text collate "C" not null,
    product_id text,
    source text,
    label text not null check (label in ('negative', 'neutral', 'positive')),
    p_negative double precision not null,
    p_neutral double precision,
    p_positive double precision not null,
    confidence double precision not null,
    model_name text not null,
    model_version integer not null,
    scored_at timestamptz not null,
    run_id text not null,
    object_id bigint not null,
    text_excerpt text,
    primary key (review_id, review_date)
) partition by range (review_date);
create index on sentiment.scored_reviews (product_id);

create table sentiment.score_history (
    like sentiment.scored_reviews including constraints,
    retired_at timestamptz not null
);
create index on sentiment.score_history (review_id, review_date);

create table sentiment.staged_reviews (
    like sentiment.scored_reviews including constraints,
    row_number bigint not null,
    primary key (object_id, row_number, review_date)
) partition by range (review_date);

create table sentiment.source_objects (
    object_id bigint generated always as identity primary key,
    bucket text collate "C" not null,
    key text collate "C" not null,
    sequence integer not null check (sequence >= 1),
    etag text not null,
    size bigint not null,
    last_modified timestamptz not null,
    window_date date not null,
    status text not null check (status in ('staged', 'scored', 'failed', 'superseded', 'gone')),
    n_rows bigint,
    n_scored bigint,
    n_quarantined bigint,
    reason text,
    model_version integer,
    run_id text,
    scored_at timestamptz,
    unique (bucket, key, sequence)
);
create index on sentiment.source_objects (window_date);

create table sentiment.object_dates (
    object_id bigint not null references sentiment.source_objects,
    review_date date not null,
    n_rows bigint not null,
    is_published boolean not null,
    primary key (object_id, review_date)
);
create index on sentiment.object_dates (review_date);
create index on sentiment.object_dates (review_date) where not is_published;

create table sentiment.quarantined_reviews (
    object_id bigint not null references sentiment.source_objects,
    row_number bigint not null,
    review_id text,
    reason text not null,
    primary key (object_id, row_number)
);

create table sentiment.scoring_runs (
    window_date date not null,
    run_id text not null,
    model_version integer not null,
    n_objects integer not null default 0,
    n_scored bigint not null default 0,
    n_quarantined bigint not null default 0,
    started_at timestamptz not null,
    finished_at timestamptz,
    status text not null check (status in ('running', 'succeeded', 'degraded', 'failed')),
    primary key (window_date, run_id)
);

create sequence sentiment.drift_checks_check_id_seq;
create table sentiment.drift_checks (
    check_id bigint primary key default nextval('sentiment.drift_checks_check_id_seq'),
    window_date date not null,
    model_version integer not null,
    n bigint not null,
    verdict text not null check (verdict in ('quiet', 'warn', 'retrain', 'quarantine', 'too_few')),
    p_value double precision,
    effect double precision,
    estimated_accuracy double precision,
    labelled_accuracy double precision,
    columns jsonb not null,
    sentence text not null,
    report_url text,
    run_id text,
    checked_at timestamptz not null
);
alter sequence sentiment.drift_checks_check_id_seq owned by sentiment.drift_checks.check_id;
create index on sentiment.drift_checks (window_date, checked_at desc);

create table sentiment.drift_sketches (
    object_id bigint not null references sentiment.source_objects,
    review_date date not null,
    model_version integer not null,
    n bigint not null,
    moments jsonb not null,
    sample bytea not null,
    primary key (review_date, object_id, model_version)
);
create index on sentiment.drift_sketches (object_id);

create table sentiment.labels (
    review_date date not null,
    review_id text collate "C" not null,
    label text not null check (label in ('negative', 'neutral', 'positive')),
    rating smallint check (rating between 1 and 5),
    labelled_at timestamptz not null,
    primary key (review_id, review_date)
);
create index on sentiment.labels (labelled_at);

create table sentiment.model_events (
    event_id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    model_version integer not null,
    event text not null check (event in ('registered', 'promoted', 'held', 'rolled_back')),
    reason text not null,
    metrics jsonb,
    snapshot text,
    code_version text,
    run_id text,
    unique nulls distinct (run_id, model_version, event)
);

create view sentiment.daily_sentiment as
select
    review_date,
    count(*) as n_reviews,
    avg((label = 'positive')::integer)::double precision as positive_share,
    avg((label = 'neutral')::integer)::double precision as neutral_share,
    avg((label = 'negative')::integer)::double precision as negative_share,
    avg(confidence) as mean_confidence,
    count(distinct product_id) as n_products,
    array_agg(distinct model_version order by model_version) as model_versions
from sentiment.scored_reviews
group by review_date;

create view sentiment.product_sentiment as
select
    product_id,
    count(*) as n_reviews,
    avg((label = 'positive')::integer)::double precision as positive_share,
    avg(confidence) as mean_confidence,
    min(review_date) as first_review_date,
    max(review_date) as last_review_date
from sentiment.scored_reviews
where product_id is not null
group by product_id;

-- A binary model knows no neutral: there 3 stars count as positive, as in its training set.
create view sentiment.model_scorecard as
with scored as (
    select
        s.model_version,
        count(*) as n_scored,
        avg((s.label = 'positive')::integer)::double precision as positive_share,
        avg(s.confidence) as mean_confidence,
        count(l.label) as n_labelled,
        avg((s.label = case when s.p_neutral is null and l.label = 'neutral' then 'positive' else l.label end)::integer)
            ::double precision as accuracy
    from sentiment.scored_reviews s
    left join sentiment.labels l on l.review_date = s.review_date and l.review_id = s.review_id
    group by s.model_version
), events as (
    select model_version, max(at) filter (where event in ('promoted', 'rolled_back')) as promoted_at
    from sentiment.model_events
    group by model_version
)
select
    model_version,
    coalesce(scored.n_scored, 0) as n_scored,
    scored.positive_share,
    scored.mean_confidence,
    coalesce(scored.n_labelled, 0) as n_labelled,
    scored.accuracy,
    events.promoted_at
from scored full join events using (model_version);

create view sentiment.drift_history as
select distinct on (window_date)
    check_id, window_date, model_version, n, verdict, p_value, effect, estimated_accuracy, labelled_accuracy,
    columns, sentence, report_url, checked_at
from sentiment.drift_checks
order by window_date, checked_at desc, check_id desc;

-- The leaves of a date. The writer has no right to make tables, so it calls this; CREATE and ATTACH together take
-- only SHARE UPDATE EXCLUSIVE on the parent, which stalls neither readers nor writers.
create function sentiment.ensure_leaf(day date) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '20s'
as $$
declare
    parent text;
    leaf text;
begin
    foreach parent in array array['scored_reviews', 'staged_reviews'] loop
        leaf := parent || '_' || to_char(day, 'YYYYMMDD');
        if exists (select from pg_class where relnamespace = 'sentiment'::regnamespace and relname = leaf) then
            continue;
        end if;
        perform pg_advisory_xact_lock(hashtextextended('sentiment.ensure_leaf', 0));
        -- Asked of the table pg_class: to_regclass would answer from a cache that does not know of the leaf yet.
        if exists (select from pg_class where relnamespace = 'sentiment'::regnamespace and relname = leaf) then
            continue;
        end if;
        execute format('create table sentiment.%I (like sentiment.%I including all)', leaf, parent);
        execute format(
            'alter table sentiment.%I attach partition sentiment.%I for values from (%L) to (%L)',
            parent, leaf, day, day + 1
        );
        execute format('comment on table sentiment.%I is %L', leaf, 'The rows of ' || parent || ' of ' || day);
        execute format('grant select, insert, update, delete on sentiment.%I to sentiment_writer', leaf);
        if parent = 'scored_reviews' then
            execute format('grant select on sentiment.%I to sentiment_reader', leaf);
        end if;
    end loop;
end
$$;
comment on function sentiment.ensure_leaf(date) is
    'Makes the leaves of scored_reviews and staged_reviews for a date, if they are not there yet';

revoke all on function sentiment.ensure_leaf(date) from public;
grant execute on function sentiment.ensure_leaf(date) to sentiment_writer;
grant usage on schema sentiment to sentiment_writer, sentiment_reader;
grant select, insert, update, delete on all tables in schema sentiment to sentiment_writer;
revoke insert, update, delete on sentiment.schema_migrations from sentiment_writer;
grant usage on all sequences in schema sentiment to sentiment_writer;
grant select on
    sentiment.scored_reviews, sentiment.score_history, sentiment.source_objects, sentiment.quarantined_reviews,
    sentiment.scoring_runs, sentiment.drift_checks, sentiment.drift_sketches, sentiment.labels, sentiment.model_events,
    sentiment.daily_sentiment, sentiment.product_sentiment, sentiment.model_scorecard, sentiment.drift_history
to sentiment_reader;
