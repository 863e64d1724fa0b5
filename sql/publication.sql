-- The publication by hand, for PGTIDE_MANUAL_TABLE_PUBLISHING: with that setting pgtide only checks
-- what is there. Otherwise `pgtide migrate` and `pgtide serve` do all of this themselves.
--
-- Run it with psql, once per table, as a role that owns the table and may `create` in the database:
--
--     psql "$DATABASE_URL" -v publication=pgtide_default -v schema=public -v table=orders \
--         -f sql/publication.sql
--
-- On a partitioned table, repeat the last statement for every partition, also for new ones: they do
-- not take the replica identity over.
\set ON_ERROR_STOP on

-- All four operations, as changes of the partitions that they happen in, and the values of stored
-- generated columns where Postgres can send them.
select format(
    'create publication %I with (publish = ''insert, update, delete, truncate''%s)',
    :'publication',
    case when current_setting('server_version_num')::int >= 180000
        then ', publish_generated_columns = stored' else '' end
)
where not exists (select from pg_publication where pubname = :'publication')
\gexec

begin;

-- Waits for transactions that have written to the table, and keeps others waiting until the commit.
-- Without it, what such a transaction wrote before it ends would be missed: ALTER PUBLICATION lets
-- writers pass.
lock table :"schema".:"table" in access exclusive mode;

-- From the commit on, changes of the table are sent.
alter publication :"publication" add table only :"schema".:"table";

-- And updates and deletes carry the whole old row.
alter table only :"schema".:"table" replica identity full;

commit;
