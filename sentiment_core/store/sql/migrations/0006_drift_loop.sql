-- Which nights have set off a retrain, and how much was known then: one at a time, and not twice from the same evidence.
-- What came of it is told by model_events, under the retrain's run.
create table sentiment.retrain_requests (
    window_date date not null,
    run_id text not null,
    retrain_run_id text not null primary key,
    model_version integer not null,
    n_labels bigint not null,
    requested_at timestamptz not null
);

grant select, insert on sentiment.retrain_requests to sentiment_writer;

-- Where a night lay on the axes of its version's reference: what the checks of later nights need of it.
alter table sentiment.drift_checks add column statistics jsonb;
