-- Who reads an object right now, what a run has listed and still has to read, and when everything was listed last.

-- A lease is a token. Its holder keeps an advisory lock of the token's for as long as its session lives, so that what a
-- dead worker held is free at once; a worker that lives and does not stir loses it when the time is over, and whoever
-- took the key meanwhile has another token, by which the late one finds out before it can commit.
create table sentiment.object_leases (
    bucket text collate "C" not null,
    key text collate "C" not null,
    token bigint not null,
    run_id text not null,
    expires_at timestamptz not null,
    primary key (bucket, key)
);
create sequence sentiment.object_leases_token_seq;

create table sentiment.batch_objects (
    window_date date not null,
    run_id text not null,
    batch integer not null,
    place integer not null,
    bucket text collate "C" not null,
    key text collate "C" not null,
    etag text not null,
    size bigint not null,
    last_modified timestamptz not null,
    listed_at timestamptz not null,
    primary key (window_date, run_id, batch, place)
);
create index on sentiment.batch_objects (listed_at);

create table sentiment.sweeps (
    window_date date not null,
    run_id text not null,
    n_objects bigint not null,
    swept_at timestamptz not null,
    primary key (window_date, run_id)
);

alter table sentiment.source_objects add column is_removed boolean not null default false;

grant select, insert, update, delete on sentiment.object_leases, sentiment.batch_objects, sentiment.sweeps to sentiment_writer;
grant usage on sequence sentiment.object_leases_token_seq to sentiment_writer;
