-- Roles that can do what they need and nothing else. Not run by `pgtide migrate`: roles belong to
-- the whole server, and making them takes a superuser (or a role with CREATEROLE that may pass
-- REPLICATION on). Run it after `pgtide migrate`, connected to the database to follow:
--
--     psql "$ADMIN_URL" -v reader=pgtide -v writer=pgtide_writer -v schema=public -f sql/roles.sql
--
-- Variables:
--     reader    the role that pgtide itself connects as            (pgtide if not given)
--     writer    a group role for backends that write runs          (pgtide_writer if not given)
--     schema    a schema whose tables may be followed; run the script again for another (public)
--
-- Give the reader a password afterwards, in psql, so that it is in no file and no log:
--
--     \password pgtide
--
-- The reader owns nothing: it cannot add tables to the publication. Either run pgtide with
-- PGTIDE_MANUAL_TABLE_PUBLISHING=true and publish tables with sql/publication.sql, or make the
-- reader a member of the tables' owner and give it `create` on the database.
\set ON_ERROR_STOP on
\if :{?reader} \else \set reader pgtide \endif
\if :{?writer} \else \set writer pgtide_writer \endif
\if :{?schema} \else \set schema public \endif

-- Grants that exist already are not worth a notice.
set client_min_messages = warning;

-- A managed Postgres may want something else than the attribute, e.g. Amazon RDS a membership:
-- grant rds_replication to pgtide.
select format('create role %I login replication', :'reader')
where not exists (select from pg_roles where rolname = :'reader')
\gexec

-- A group without a login: grant it to the backends' own roles.
select format('create role %I nologin', :'writer')
where not exists (select from pg_roles where rolname = :'writer')
\gexec

-- Replication begins with an ordinary connection.
grant connect on database :"DBNAME" to :"reader";

-- Snapshots are plain selects. In the followed schema: tables that are there, and those that the
-- role running this script creates later.
grant usage on schema pgtide, :"schema" to :"reader";
grant select on all tables in schema pgtide, :"schema" to :"reader";
alter default privileges in schema pgtide, :"schema" grant select on tables to :"reader";

-- Lets error messages name the state and the age of a transaction that is in the way.
grant pg_read_all_stats to :"reader";

-- What the API over HTTP writes: triggering, metadata, wait tokens, packets. Leave it out if pgtide
-- should only be read from; such requests are then refused.
grant insert, update, delete on
    pgtide.runs, pgtide.batches, pgtide.wait_tokens, pgtide.packets, pgtide.trigger_keys,
    pgtide.streams, pgtide.stream_chunks, pgtide.stream_producers, pgtide.stream_remains,
    pgtide.subscriptions, pgtide.subscription_streams, pgtide.webhook_seed
to :"reader";

-- Retention of streams: new partitions for what is appended, and old ones dropped.
grant execute on function
    pgtide.open_stream_part(), pgtide.leave_stream_part(integer, bigint, integer),
    pgtide.drop_stream_part(integer)
to :"reader";

-- What a backend does with runs and what belongs to them.
grant usage on schema pgtide to :"writer";
grant select, insert, update, delete on
    pgtide.runs, pgtide.batches, pgtide.wait_tokens, pgtide.packets
to :"writer";

-- And with streams. What was appended is never changed.
grant select, insert, update, delete on pgtide.streams, pgtide.stream_producers to :"writer";
grant select, insert on pgtide.stream_chunks, pgtide.stream_remains to :"writer";
grant select on pgtide.stream_parts to :"writer";
