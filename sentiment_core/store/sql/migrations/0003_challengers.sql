-- A search for a model keeps its trials in tables of its own (Optuna makes them), so that a killed one goes on.
create schema if not exists sentiment_search;

-- Which objects a challenger has scored beside the champion. Its scores lie in score_history; this says without looking
-- through that what has been done, and on how many nights.

create table sentiment.shadow_objects (
    object_id bigint not null references sentiment.source_objects,
    model_version integer not null,
    window_date date not null,
    n_scored bigint not null,
    n_agreed bigint not null,
    run_id text not null,
    scored_at timestamptz not null,
    primary key (model_version, object_id)
);

grant select, insert on sentiment.shadow_objects to sentiment_writer;
