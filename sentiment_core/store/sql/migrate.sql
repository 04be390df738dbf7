-- Statements of migrate.py.

-- name: server
-- Asked of the catalogue's tables: after waiting for another migration, to_regclass would answer from a stale cache.
select
    current_setting('server_version_num')::integer as version,
    exists (
        select from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'sentiment' and c.relname = 'schema_migrations'
    ) as is_migrated

-- name: applied
select version, name, sha256 from sentiment.schema_migrations order by version

-- name: record
insert into sentiment.schema_migrations (version, name, sha256, applied_at) values (:version, :name, :sha256, now())

-- name: lock
select pg_advisory_xact_lock(hashtextextended('sentiment.migrate', 0))

-- name: missing_roles
select name from unnest(cast(:roles as text[])) as name where not exists (select 1 from pg_roles where rolname = name)

-- name: has_temporary
select has_database_privilege(rolname, current_database(), 'TEMPORARY') from pg_roles where rolname = :role

-- name: grant_temporary
do $$ begin execute format('grant temporary on database %I to sentiment_writer', current_database()); end $$

-- name: comments
-- Relation and column (null for the relation itself) with the comment it has now.
select c.relname as relation, null as field, obj_description(c.oid, 'pg_class') as comment
from pg_class c
where c.relnamespace = to_regnamespace('sentiment') and c.relname = any(:relations)
union all
select c.relname, a.attname, col_description(c.oid, a.attnum)
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = to_regnamespace('sentiment') and c.relname = any(:relations)
