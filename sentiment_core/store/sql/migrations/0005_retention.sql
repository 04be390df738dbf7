-- What may be forgotten, and a record of what has been. The leaves that nobody needs any more go through functions: the
-- writer has no right to drop tables.

-- To how many characters the excerpts of a table have been cut, so that a night looks only at what has changed.
create table sentiment.retention_marks (
    leaf text primary key,
    excerpt_chars integer not null,
    marked_at timestamptz not null
);

create table sentiment.removals (
    removal_id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    run_id text not null,
    what text not null,
    before_date date,
    n bigint not null
);

grant select, insert, update, delete on sentiment.retention_marks to sentiment_writer;
grant select, insert on sentiment.removals to sentiment_writer;

-- Only while no run is under way: a run makes sure of its leaves in one transaction and fills them in another. The lock
-- on scoring_runs keeps new runs from beginning until the caller's transaction ends. A run that was killed stays
-- `running` for good, so that one counts for a day.
create function sentiment.drop_staged_leaf(day date) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
declare
    leaf text := 'staged_reviews_' || to_char(day, 'YYYYMMDD');
    is_used boolean;
begin
    lock table sentiment.scoring_runs in share mode;
    if exists (select from sentiment.scoring_runs where status = 'running' and started_at > now() - interval '1 day') then
        return false;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('sentiment.ensure_leaf', 0));
    execute format('lock table sentiment.%I in access exclusive mode', leaf);
    execute format('select exists (select from sentiment.%I)', leaf) into is_used;
    if not is_used then
        execute format('drop table sentiment.%I', leaf);
    end if;
    return not is_used;
exception when lock_not_available or undefined_table then
    return false; -- somebody is at work there, or was quicker
end
$$;
comment on function sentiment.drop_staged_leaf(date) is
    'Drops the leaf of staged_reviews of a date if it is empty and no run is under way; says whether it did';

-- The caller holds the lock on the date's publication. As in swap_leaf: short waits, or readers would queue behind it.
create function sentiment.drop_scored_leaf(day date, may_hold_rows boolean) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    leaf text := 'scored_reviews_' || to_char(day, 'YYYYMMDD');
    is_used boolean;
begin
    perform pg_advisory_xact_lock(hashtextextended('sentiment.ensure_leaf', 0));
    set local lock_timeout = '200ms';
    lock table sentiment.scored_reviews in access exclusive mode;
    execute format('select exists (select from sentiment.%I)', leaf) into is_used;
    if is_used and not may_hold_rows then
        return false;
    end if;
    execute format('alter table sentiment.scored_reviews detach partition sentiment.%I', leaf);
    execute format('drop table sentiment.%I', leaf);
    return true;
exception when lock_not_available or undefined_table then
    return false;
end
$$;
comment on function sentiment.drop_scored_leaf(date, boolean) is
    'Drops the leaf of scored_reviews of a date, with its rows only where that is asked for; says whether it did';

create function sentiment.drop_history_leaf(leaf text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
begin
    if not exists (
        select from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'sentiment.score_history'::regclass and c.relname = leaf
            and c.relnamespace = 'sentiment'::regnamespace
    ) then
        raise exception '% is no leaf of score_history', leaf using errcode = 'undefined_table';
    end if;
    execute format('drop table sentiment.%I', leaf);
    return true;
exception when lock_not_available then
    return false;
end
$$;
comment on function sentiment.drop_history_leaf(text) is
    'Drops a leaf of score_history with its rows; says whether it did';

revoke all on function
    sentiment.drop_staged_leaf(date), sentiment.drop_scored_leaf(date, boolean), sentiment.drop_history_leaf(text)
from public;
grant execute on function
    sentiment.drop_staged_leaf(date), sentiment.drop_scored_leaf(date, boolean), sentiment.drop_history_leaf(text)
to sentiment_writer;
