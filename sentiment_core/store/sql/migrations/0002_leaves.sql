-- What waits, what is current and what has lost lie apart: staged_reviews holds rows until they are published,
-- scored_reviews the winners, runner_ups what a later delivery outranks. So a whole date can become current without
-- being written a second time, and a late trickle looks at its own identities alone.

alter table sentiment.scored_reviews add column row_number bigint;
alter table sentiment.score_history add column row_number bigint;
create index on sentiment.scored_reviews (object_id);

-- staged_at tells the rows of an object's latest staging from what an earlier one left; published_at, whether rows of
-- the object may be current.
alter table sentiment.object_dates add column staged_at timestamptz, add column published_at timestamptz;
update sentiment.object_dates set published_at = now();
update sentiment.object_dates d
set staged_at = s.scored_at
from (select object_id, review_date, max(scored_at) as scored_at from sentiment.staged_reviews group by 1, 2) s
where s.object_id = d.object_id and s.review_date = d.review_date;

create table sentiment.runner_ups (like sentiment.scored_reviews including constraints);
create index on sentiment.runner_ups (review_id, review_date);
create index on sentiment.runner_ups (object_id);

update sentiment.scored_reviews t
set row_number = s.row_number
from (
    select review_date, review_id, object_id, scored_at, max(row_number) as row_number
    from sentiment.staged_reviews group by 1, 2, 3, 4
) s
where t.review_date = s.review_date and t.review_id = s.review_id and t.object_id = s.object_id
    and t.scored_at = s.scored_at;

-- Only the last row of an identity in an object can ever win.
insert into sentiment.runner_ups
select distinct on (s.review_date, s.review_id, s.object_id) s.*
from sentiment.staged_reviews s
join sentiment.object_dates d on d.object_id = s.object_id and d.review_date = s.review_date and d.is_published
join sentiment.source_objects o on o.object_id = s.object_id and o.status in ('staged', 'scored', 'gone')
where not exists (
        select from sentiment.source_objects newer
        where newer.bucket = o.bucket and newer.key = o.key and newer.sequence > o.sequence
            and newer.status in ('staged', 'scored', 'gone')
    )
    and not exists (
        select from sentiment.scored_reviews t
        where t.review_date = s.review_date and t.review_id = s.review_id and t.object_id = s.object_id
    )
order by s.review_date, s.review_id, s.object_id, s.row_number desc;

delete from sentiment.staged_reviews s
using sentiment.object_dates d
where d.object_id = s.object_id and d.review_date = s.review_date and d.is_published;

-- The leaves of staged_reviews become tables that inherit: they can leave their parent without keeping anybody off it,
-- and without an index they take rows as fast as PostgreSQL writes them.
alter table sentiment.staged_reviews rename to staged_reviews_0001;
create table sentiment.staged_reviews (like sentiment.scored_reviews including constraints);
do $$
declare
    leaf text;
begin
    for leaf in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'sentiment.staged_reviews_0001'::regclass
    loop
        execute format('alter table sentiment.staged_reviews_0001 detach partition sentiment.%I', leaf);
        execute format('alter table sentiment.%I drop constraint %I', leaf, leaf || '_pkey');
        execute format(
            'alter table sentiment.%I alter row_number drop not null, add constraint of_date check (review_date = %L)',
            leaf, to_date(right(leaf, 8), 'YYYYMMDD')
        );
        execute format('alter table sentiment.%I inherit sentiment.staged_reviews', leaf);
    end loop;
end
$$;
drop table sentiment.staged_reviews_0001;

grant select, insert, update, delete on sentiment.staged_reviews, sentiment.runner_ups to sentiment_writer;

-- The writer has no right to make tables; what follows it calls. All of it runs inside the caller's transaction.
create function sentiment.ensure_staged_leaf(day date) returns void
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
    execute format('alter table sentiment.%I inherit sentiment.staged_reviews', leaf);
    execute format('comment on table sentiment.%I is %L', leaf, 'The rows of staged_reviews of ' || day);
    execute format('grant select, insert, update, delete on sentiment.%I to sentiment_writer', leaf);
end
$$;
comment on function sentiment.ensure_staged_leaf(date) is
    'Makes the leaf of staged_reviews for a date, if it is not there yet';

create or replace function sentiment.ensure_leaf(day date) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '20s'
as $$
declare
    leaf text := 'scored_reviews_' || to_char(day, 'YYYYMMDD');
begin
    perform sentiment.ensure_staged_leaf(day);
    if exists (select from pg_class where relnamespace = 'sentiment'::regnamespace and relname = leaf) then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('sentiment.ensure_leaf', 0));
    if exists (select from pg_class where relnamespace = 'sentiment'::regnamespace and relname = leaf) then
        return;
    end if;
    execute format('create table sentiment.%I (like sentiment.scored_reviews including all)', leaf);
    execute format(
        'alter table sentiment.scored_reviews attach partition sentiment.%I for values from (%L) to (%L)', leaf, day, day + 1
    );
    execute format('comment on table sentiment.%I is %L', leaf, 'The rows of scored_reviews of ' || day);
    execute format('grant select, insert, update, delete on sentiment.%I to sentiment_writer', leaf);
    execute format('grant select on sentiment.%I to sentiment_reader', leaf);
end
$$;

-- A leaf in the making is called scored_reviews_YYYYMMDD_new. It carries a constraint that spares ATTACH a scan.
create function sentiment.new_leaf(day date) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    made text := 'scored_reviews_' || to_char(day, 'YYYYMMDD') || '_new';
begin
    execute format(
        'create table sentiment.%I (like sentiment.scored_reviews including all excluding indexes,'
        ' constraint of_date check (review_date = %L))',
        made, day
    );
    execute format('grant select, insert, update, delete on sentiment.%I to sentiment_writer', made);
end
$$;
comment on function sentiment.new_leaf(date) is 'Makes an empty leaf of scored_reviews beside the one that is read';

-- Waits shortly for those who are staging: whoever is in the middle of an object would make it wait for minutes.
create function sentiment.take_staged_leaf(day date) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
declare
    staged text := 'staged_reviews_' || to_char(day, 'YYYYMMDD');
begin
    execute format('alter table sentiment.%I no inherit sentiment.staged_reviews', staged);
    execute format('alter table sentiment.%I rename to %I', staged, 'scored_reviews_' || to_char(day, 'YYYYMMDD') || '_new');
end
$$;
comment on function sentiment.take_staged_leaf(date) is
    'Makes the leaf of staged_reviews the new leaf of scored_reviews of its date; swap_leaf puts an empty one in its place';

create function sentiment.index_new_leaf(day date) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    made text := 'scored_reviews_' || to_char(day, 'YYYYMMDD') || '_new';
begin
    execute format('alter table sentiment.%I add primary key (review_id, review_date)', made);
    execute format('create index on sentiment.%I (product_id)', made);
    execute format('create index on sentiment.%I (object_id)', made);
end
$$;
comment on function sentiment.index_new_leaf(date) is
    'Builds what indexes scored_reviews has; fails with a unique violation while an identity has two rows';

-- A date that nobody reads yet is attached beside the readers. Taking an old leaf away keeps them off the parent for a
-- moment, and would queue them behind the slowest of themselves: hence short waits, and pauses between. With is_history
-- the old leaf joins score_history as it lies.
create function sentiment.swap_leaf(day date, is_history boolean) returns void
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
        for attempt in 1..10 loop
            begin
                set local lock_timeout = '200ms';
                lock table sentiment.scored_reviews in access exclusive mode;
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
comment on function sentiment.swap_leaf(date, boolean) is 'Puts the new leaf in the place of the one that is read';

create function sentiment.rename_leaf(old_name text, new_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    index text;
begin
    for index in
        select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
        where i.indrelid = format('sentiment.%I', old_name)::regclass
    loop
        execute format('alter index sentiment.%I rename to %I', index, replace(index, old_name, new_name));
    end loop;
    execute format('alter table sentiment.%I rename to %I', old_name, new_name);
end
$$;

create function sentiment.retire_leaf(day date) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    leaf text := 'scored_reviews_' || to_char(day, 'YYYYMMDD');
    retired text := 'score_history_' || to_char(day, 'YYYYMMDD') || '_' || format('sentiment.%I', leaf)::regclass::oid;
begin
    perform sentiment.rename_leaf(leaf, retired);
    -- A default of the moment is kept in the catalogue: no row is written.
    execute format('alter table sentiment.%I add column retired_at timestamptz not null default now()', retired);
    execute format('alter table sentiment.%I alter column retired_at drop default', retired);
    execute format('drop index sentiment.%I, sentiment.%I', retired || '_product_id_idx', retired || '_object_id_idx');
    execute format('alter table sentiment.%I inherit sentiment.score_history', retired);
    execute format('comment on table sentiment.%I is %L', retired, 'Rows of score_history: the scores of ' || day || ' that one publication replaced');
    execute format('comment on column sentiment.%I.retired_at is %L', retired, 'When the score stopped being current');
end
$$;

revoke all on function
    sentiment.ensure_staged_leaf(date), sentiment.new_leaf(date), sentiment.take_staged_leaf(date),
    sentiment.index_new_leaf(date), sentiment.swap_leaf(date, boolean), sentiment.rename_leaf(text, text),
    sentiment.retire_leaf(date)
from public;
grant execute on function
    sentiment.ensure_staged_leaf(date), sentiment.new_leaf(date), sentiment.take_staged_leaf(date),
    sentiment.index_new_leaf(date), sentiment.swap_leaf(date, boolean)
to sentiment_writer;
