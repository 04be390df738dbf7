-- Statements of analyst.py: what \d shows. PostgreSQL's own words are kept, so results are text.

-- name: relations
select
    c.relname as "Relation", case c.relkind when 'v' then 'view' else 'table' end as "Type",
    obj_description(c.oid, 'pg_class') as "Description"
from pg_class c
where c.relnamespace = to_regnamespace('sentiment') and c.relkind in ('r', 'p', 'v') and not c.relispartition
    and has_table_privilege(c.oid, 'select')
order by c.relkind = 'v', c.relname

-- name: columns
select
    a.attname as "Column", format_type(a.atttypid, a.atttypmod) as "Type",
    case when a.attnotnull then 'not null' end as "Nullable", col_description(a.attrelid, a.attnum) as "Description"
from pg_attribute a
where a.attrelid = to_regclass(%(relation)s) and a.attnum > 0 and not a.attisdropped
order by a.attnum
