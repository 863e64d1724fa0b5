-- What triggering over HTTP needs. Rows that are there already keep working.

-- How a run came about, and until when its idempotency key holds.
alter table pgtide.runs
    add column depth integer not null default 0 check (depth >= 0),
    add column trigger_function text not null default 'trigger'
        check (trigger_function in (
            'trigger', 'triggerAndWait', 'batchTrigger', 'batchTriggerAndWait'
        )),
    add column idempotency_key_expires_at timestamptz;

-- What the runs of a batch have in common.
alter table pgtide.batches
    add column parent_id text,
    add column trigger_function text not null default 'batchTrigger'
        check (trigger_function in ('batchTrigger', 'batchTriggerAndWait'));

-- What workers look for: runs that are not over, the oldest first. Updates of a run under way
-- touch no column of this index, so they stay on their page.
create index runs_unfinished_index on pgtide.runs (created_at) where completed_at is null;

-- Those that may expire: few, and asked for by every worker.
create index runs_expiring_index on pgtide.runs (created_at)
where completed_at is null and ttl is not null;

-- Requests that have been answered and tokens that have been used, by a hash, so that the one that
-- comes again is recognised at every node. Swept by whoever adds to it.
create table pgtide.trigger_keys (
    key bytea primary key,
    id text not null,
    expires_at timestamptz not null
) with (fillfactor = 90);

-- For the sweep.
create index trigger_keys_expiry_index on pgtide.trigger_keys (expires_at);

-- How long a run may stay queued; null if the text is no duration ('1h30m', '2d', '90s').
create function pgtide.duration(text text) returns interval
language sql immutable strict parallel safe
as $$
    select case
        when text ~ '^(\d{1,6}w)?(\d{1,6}d)?(\d{1,6}hr?)?(\d{1,6}m)?(\d{1,9}s)?$' and text <> ''
        then make_interval(
            weeks => coalesce(substring(text from '(\d+)w')::integer, 0),
            days => coalesce(substring(text from '(\d+)d')::integer, 0),
            hours => coalesce(substring(text from '(\d+)h')::integer, 0),
            mins => coalesce(substring(text from '(\d+)m')::integer, 0),
            secs => coalesce(substring(text from '(\d+)s')::integer, 0)
        )
    end
$$;

-- Ends runs that have been queued for longer than their ttl; how many. Workers or a cron job call it.
create function pgtide.expire_runs(most integer default 1000) returns integer
language sql
as $$
    with late as (
        select id
        from pgtide.runs
        where completed_at is null and ttl is not null
            and status = 'QUEUED' and started_at is null
            and coalesce(queued_at, created_at) + pgtide.duration(ttl) < now()
        order by created_at
        limit most
        for update skip locked
    ), expired as (
        update pgtide.runs as run
        set status = 'EXPIRED', error = jsonb_build_object(
            'type', 'STRING_ERROR', 'raw', 'It was not begun within its time to live, ' || run.ttl
        )
        from late
        where run.id = late.id
        returning 1
    )
    select count(*)::integer from expired
$$;

comment on column pgtide.runs.depth is 'How many runs are above it.';
comment on column pgtide.runs.trigger_function is
    'trigger, triggerAndWait, batchTrigger or batchTriggerAndWait.';
comment on column pgtide.runs.idempotency_key_expires_at is
    'From then on the key starts another run; null is never.';
comment on column pgtide.batches.parent_id is 'The run that started it, if any.';
comment on column pgtide.batches.trigger_function is 'batchTrigger or batchTriggerAndWait.';
comment on column pgtide.batches.run_ids is
    'Ids of its runs in order; null where one is still to come.';
comment on table pgtide.trigger_keys is
    'Hashes of answered requests and used tokens. Kept by pgtide; rows past expires_at may go.';
comment on column pgtide.trigger_keys.key is 'sha256.';
comment on column pgtide.trigger_keys.id is 'The run or the batch that it led to.';
comment on column pgtide.trigger_keys.expires_at is 'When it may be forgotten.';
comment on function pgtide.duration(text) is 'An interval from a text like 1h30m; null if it is none.';
comment on function pgtide.expire_runs(integer) is
    'Gives runs that have been queued for longer than their ttl the status EXPIRED.';
