-- Publications and autovacuum keep out of each other's way.

-- Staged rows are taken as they lie, or deleted: a look at what has been inserted would go over rows that are still coming,
-- and over the same ones again once they are current. Rows that have been deleted are still cleared away.
create function sentiment.spare_staged_leaf(leaf text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format(
        'alter table sentiment.%I set (autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_threshold = 2147483647)', leaf
    );
end
$$;
comment on function sentiment.spare_staged_leaf(text) is
    'Tells autovacuum to look at a leaf of staged_reviews only for deleted rows; take_staged_leaf takes that back';

select sentiment.spare_staged_leaf(c.relname)
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'sentiment.staged_reviews'::regclass;

create or replace function sentiment.ensure_staged_leaf(day date) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '20s'
as $$
declare
    leaf text := 'staged_reviews_' || to_char(day, 'YYYYMMDD');
begin
    if exists (select from pg_class where relnamespace = 'sentiment'::regnamespace and relname = leaf) then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('sentiment.ensure_leaf', 0));
    -- Asked of the table pg_class: to_regclass would answer from a cache that does not know of the leaf yet.
    if exists (select from pg_class where relnamespace = 'sentiment'::regnamespace and relname = leaf) then
        return;
    end if;
    execute format(
        'create table sentiment.%I (like sentiment.staged_reviews including all, constraint of_date check (review_date = %L))',
        leaf, day
    );
    perform sentiment.spare_staged_leaf(leaf);
    execute format('alter table sentiment.%I inherit sentiment.staged_reviews', leaf);
    execute format('comment on table sentiment.%I is %L', leaf, 'The rows of staged_reviews of ' || day);
    execute format('grant select, insert, update, delete on sentiment.%I to sentiment_writer', leaf);
end
$$;

-- Autovacuum lets go of a table for which somebody has waited longer than deadlock_timeout (a second unless set
-- otherwise). The others here wait for less, so that nobody queues behind them; this lock, which keeps off neither those
-- who read nor those who write, is waited for long enough, and autovacuum does not come back while it is held.
create function sentiment.call_off_autovacuum(leaf text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
begin
    execute format('lock table only sentiment.%I in share update exclusive mode', leaf);
end
$$;
comment on function sentiment.call_off_autovacuum(text) is 'Keeps autovacuum off a table until the transaction ends';

-- Waits shortly for those who are staging: whoever is in the middle of an object would make it wait for minutes.
create or replace function sentiment.take_staged_leaf(day date) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
declare
    staged text := 'staged_reviews_' || to_char(day, 'YYYYMMDD');
    made text := 'scored_reviews_' || to_char(day, 'YYYYMMDD') || '_new';
begin
    perform sentiment.call_off_autovacuum(staged);
    execute format('alter table sentiment.%I no inherit sentiment.staged_reviews', staged);
    execute format('alter table sentiment.%I rename to %I', staged, made);
    execute format('alter table sentiment.%I reset (autovacuum_vacuum_insert_threshold, autovacuum_analyze_threshold)', made);
end
$$;

-- Only the leaf that goes is locked beside the parent: autovacuum may be at work in others.
create or replace function sentiment.swap_leaf(day date, is_history boolean) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '20s'
set default_statistics_target = 10 -- enough to tell that identities differ; autovacuum looks closer later
as $$
declare
    leaf text := 'scored_reviews_' || to_char(day, 'YYYYMMDD');
    made text := leaf || '_new';
begin
    execute format('analyze sentiment.%I', made);
    -- Before the parent's lock, as in ensure_leaf: in another order two of them would wait for each other.
    perform pg_advisory_xact_lock(hashtextextended('sentiment.ensure_leaf', 0));
    if exists (select from pg_class where relnamespace = 'sentiment'::regnamespace and relname = leaf) then
        perform sentiment.call_off_autovacuum(leaf);
        for attempt in 1..10 loop
            begin
                set local lock_timeout = '200ms';
                execute format('lock table only sentiment.scored_reviews, only sentiment.%I in access exclusive mode', leaf);
                exit;
            exception when lock_not_available then
                if attempt = 10 then
                    raise;
                end if;
                perform pg_sleep(0.1);
            end;
        end loop;
        set local lock_timeout = '20s';
        execute format('alter table sentiment.scored_reviews detach partition sentiment.%I', leaf);
        if is_history then
            perform sentiment.retire_leaf(day);
        else
            execute format('drop table sentiment.%I', leaf);
        end if;
    end if;
    perform sentiment.rename_leaf(made, leaf);
    execute format(
        'alter table sentiment.scored_reviews attach partition sentiment.%I for values from (%L) to (%L)', leaf, day, day + 1
    );
    execute format('alter table sentiment.%I drop constraint of_date', leaf);
    execute format('comment on table sentiment.%I is %L', leaf, 'The rows of scored_reviews of ' || day);
    execute format('grant select on sentiment.%I to sentiment_reader', leaf);
    perform sentiment.ensure_staged_leaf(day);
end
$$;

create or replace function sentiment.drop_scored_leaf(day date, may_hold_rows boolean) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    leaf text := 'scored_reviews_' || to_char(day, 'YYYYMMDD');
    is_used boolean;
begin
    perform pg_advisory_xact_lock(hashtextextended('sentiment.ensure_leaf', 0));
    perform sentiment.call_off_autovacuum(leaf);
    set local lock_timeout = '200ms';
    execute format('lock table only sentiment.scored_reviews, only sentiment.%I in access exclusive mode', leaf);
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

revoke all on function sentiment.spare_staged_leaf(text), sentiment.call_off_autovacuum(text) from public;
