-- Runs and batches: what a backend writes with plain SQL and subscribers follow live.
--
-- A backend needs nothing but these two tables. Create a run; its id comes back:
--
--     insert into pgtide.runs (task, tags, payload)
--     values ('resize-image', array['user:42', 'album:7'], '{"width": 800}')
--     returning id;
--
-- Move it along. The triggers below keep the timestamps:
--
--     update pgtide.runs set status = 'EXECUTING' where id = $1;
--     update pgtide.runs set metadata = metadata || '{"progress": 40}' where id = $1;
--     update pgtide.runs set status = 'COMPLETED', output = '{"ok": true}' where id = $1;
--
-- Or let it fail:
--
--     update pgtide.runs
--     set status = 'FAILED', error = '{"type": "STRING_ERROR", "raw": "no such image"}'
--     where id = $1;
--
-- Many runs in a batch:
--
--     with batch as (insert into pgtide.batches (run_count) values (100) returning id)
--     insert into pgtide.runs (task, batch_id, payload)
--     select 'resize-image', batch.id, jsonb_build_object('page', page)::text
--     from batch, generate_series(1, 100) as page;
--
-- A value in a large column (payload, output) is written to the WAL again with every update of its
-- row, because followers need the whole old row: keep what is large elsewhere and store its address.

-- The words for a run's status, so that a backend may write them in lower case or use the older
-- names of the same states. Unknown words stay as they are, for the table's check to refuse.
create function pgtide.run_status(word text) returns text
language sql immutable strict parallel safe
as $$
    select case upper(word)
        when 'PENDING' then 'QUEUED'
        when 'WAITING_FOR_DEPLOY' then 'PENDING_VERSION'
        when 'RUNNING' then 'EXECUTING'
        when 'RETRYING_AFTER_FAILURE' then 'EXECUTING'
        when 'WAITING_TO_RESUME' then 'WAITING'
        when 'PAUSED' then 'WAITING'
        when 'COMPLETED_SUCCESSFULLY' then 'COMPLETED'
        when 'SUCCEEDED' then 'COMPLETED'
        when 'COMPLETED_WITH_ERRORS' then 'FAILED'
        when 'INTERRUPTED' then 'FAILED'
        when 'CANCELLED' then 'CANCELED'
        else upper(word)
    end
$$;

-- Whether a run in this status is over. Used by the trigger; handy in a backend's queries, too.
create function pgtide.is_final(status text) returns boolean
language sql immutable strict parallel safe
as $$
    select status in (
        'COMPLETED', 'FAILED', 'CANCELED', 'CRASHED', 'SYSTEM_FAILURE', 'EXPIRED', 'TIMED_OUT'
    )
$$;

-- A group of runs that were started together. Followers of a batch follow its runs; this row is for
-- the backend's own accounting.
create table pgtide.batches (
    id text primary key default 'batch_' || replace(gen_random_uuid()::text, '-', ''),
    environment_id text not null default 'default',
    status text not null default 'PENDING'
        check (status in ('PENDING', 'PROCESSING', 'COMPLETED', 'PARTIAL_FAILED', 'ABORTED')),
    run_ids text[] not null default '{}',
    run_count integer not null default 0 check (run_count >= 0),
    expected_count integer not null default 0 check (expected_count >= 0),
    sealed boolean not null default false,
    sealed_at timestamptz,
    processing_completed_at timestamptz,
    completed_at timestamptz,
    idempotency_key text,
    one_time_use_token text unique,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- The same key in the same environment is the same batch.
    unique (environment_id, idempotency_key)
);

-- One execution of a task. Room is left on each page (fillfactor), because runs are updated often
-- and only columns without an index change: such an update stays on its page and touches no index.
-- batch_id, parent_id and root_id are not foreign keys: the check would lock the one batch row in
-- the way of every run that is added to it, and a backend may name batches of its own.
create table pgtide.runs (
    id text primary key default 'run_' || replace(gen_random_uuid()::text, '-', ''),
    environment_id text not null default 'default',
    task text not null,
    status text not null default 'QUEUED'
        check (status in (
            'DELAYED', 'QUEUED', 'PENDING_VERSION', 'DEQUEUED', 'EXECUTING', 'WAITING',
            'COMPLETED', 'FAILED', 'CANCELED', 'CRASHED', 'SYSTEM_FAILURE', 'EXPIRED', 'TIMED_OUT'
        )),
    tags text[] not null default '{}' check (array_position(tags, null) is null),
    batch_id text,
    parent_id text,
    root_id text,
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    metadata_version integer not null default 0,
    payload text,
    payload_type text not null default 'application/json',
    output text,
    output_type text not null default 'application/json',
    error jsonb,
    number integer not null default 0,
    attempt_number integer not null default 0,
    is_test boolean not null default false,
    usage_duration_ms integer not null default 0,
    cost_in_cents double precision not null default 0,
    base_cost_in_cents double precision not null default 0,
    ttl text,
    realtime_streams text[] not null default '{}',
    idempotency_key text,
    one_time_use_token text unique,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    delay_until timestamptz,
    queued_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    expired_at timestamptz,
    -- The same key for the same task is the same run.
    unique (environment_id, task, idempotency_key)
) with (fillfactor = 80);

-- "Runs with this tag" and "with all of these tags" for the first answer to a follower.
create index runs_tags_index on pgtide.runs using gin (tags);

-- The runs of a batch; partial, because most runs have none.
create index runs_batch_index on pgtide.runs (batch_id) where batch_id is not null;

-- The latest runs of an environment, and those of a time window.
create index runs_created_index on pgtide.runs (environment_id, created_at desc);

-- A time that the writer sets himself is kept: only an empty one is filled in. A run that leaves a
-- final status (a retry) is not over any more, which subscribers judge by completed_at.
create function pgtide.keep_run() returns trigger
language plpgsql
as $$
begin
    new.status := pgtide.run_status(new.status);
    if tg_op = 'UPDATE' then
        new.updated_at := now();
        if new.metadata_version = old.metadata_version
            and new.metadata is distinct from old.metadata
        then
            new.metadata_version := old.metadata_version + 1;
        end if;
        if new.status = old.status then
            return new;
        end if;
        if pgtide.is_final(old.status) and not pgtide.is_final(new.status)
            and new.completed_at is not distinct from old.completed_at
        then
            new.completed_at := null;
        end if;
    end if;
    if new.status = 'QUEUED' then
        new.queued_at := coalesce(new.queued_at, now());
    elsif new.status = 'EXECUTING' then
        new.started_at := coalesce(new.started_at, now());
    elsif pgtide.is_final(new.status) then
        new.completed_at := coalesce(new.completed_at, now());
        if new.status = 'EXPIRED' then
            new.expired_at := coalesce(new.expired_at, now());
        end if;
    end if;
    return new;
end
$$;

-- Before the row is written, so that one change of the row carries both the status and its time.
create trigger keep_run before insert or update on pgtide.runs
for each row execute function pgtide.keep_run();

-- The same for batches.
create function pgtide.keep_batch() returns trigger
language plpgsql
as $$
begin
    if tg_op = 'UPDATE' then
        new.updated_at := now();
    end if;
    if new.sealed then
        new.sealed_at := coalesce(new.sealed_at, now());
    end if;
    if new.status in ('COMPLETED', 'PARTIAL_FAILED', 'ABORTED') then
        new.completed_at := coalesce(new.completed_at, now());
    end if;
    return new;
end
$$;

-- See keep_run.
create trigger keep_batch before insert or update on pgtide.batches
for each row execute function pgtide.keep_batch();

-- Followers of a tag must learn that a run lost it, and unchanged large values must be in the WAL:
-- both need the whole old row.
alter table pgtide.runs replica identity full;
alter table pgtide.batches replica identity full;

-- What the tables and columns mean, for \d+ and for tools.
comment on table pgtide.runs is
    'One execution of a task. Written by the backend with plain SQL, followed live through pgtide.';
comment on column pgtide.runs.id is 'Given by the backend, or run_ and 32 random hexadecimal digits.';
comment on column pgtide.runs.environment_id is 'Tenant or stage; the backend''s to choose.';
comment on column pgtide.runs.task is 'Which task this is an execution of.';
comment on column pgtide.runs.status is
    'DELAYED, QUEUED, PENDING_VERSION, DEQUEUED: not begun. EXECUTING, WAITING: under way. COMPLETED, FAILED, CANCELED, CRASHED, SYSTEM_FAILURE, EXPIRED, TIMED_OUT: over. Lower case and older names are translated.';
comment on column pgtide.runs.tags is 'Followers may ask for one tag or for several at once.';
comment on column pgtide.runs.batch_id is 'The batch it was started in, if any.';
comment on column pgtide.runs.parent_id is 'The run that started it, if any.';
comment on column pgtide.runs.root_id is 'The first run of the tree it belongs to, if it is not that itself.';
comment on column pgtide.runs.metadata is
    'A JSON object for whoever follows the run, e.g. {"progress": 40}. Change keys with metadata || ''{…}''.';
comment on column pgtide.runs.metadata_version is
    'Counts the changes of metadata: update … where metadata_version = $1 notices a concurrent change.';
comment on column pgtide.runs.payload is 'What the task works on, encoded as payload_type says.';
comment on column pgtide.runs.payload_type is
    'application/json, application/super+json, text/plain or application/store.';
comment on column pgtide.runs.output is 'What the task returned, encoded as output_type says.';
comment on column pgtide.runs.output_type is 'As payload_type.';
comment on column pgtide.runs.error is
    'Why it failed: {"type": "STRING_ERROR", "raw": "…"} or {"type": "BUILT_IN_ERROR", "name": "…", "message": "…", "stackTrace": "…"}.';
comment on column pgtide.runs.number is 'The backend''s own count of the task''s runs.';
comment on column pgtide.runs.attempt_number is 'Which attempt is under way; 0 before the first.';
comment on column pgtide.runs.is_test is 'Whether it is a trial.';
comment on column pgtide.runs.usage_duration_ms is 'Milliseconds of computing so far.';
comment on column pgtide.runs.cost_in_cents is 'Cost of that computing.';
comment on column pgtide.runs.base_cost_in_cents is 'Cost of the run apart from computing.';
comment on column pgtide.runs.ttl is 'How long it may stay queued, e.g. 10m; the backend expires it.';
comment on column pgtide.runs.realtime_streams is 'Keys of the streams that belong to it.';
comment on column pgtide.runs.idempotency_key is 'Unique with environment and task.';
comment on column pgtide.runs.one_time_use_token is 'The token that started it, so that it cannot start another.';
comment on column pgtide.runs.created_at is 'When it was created.';
comment on column pgtide.runs.updated_at is 'When it last changed; kept by a trigger.';
comment on column pgtide.runs.delay_until is 'Not to begin before this time.';
comment on column pgtide.runs.queued_at is 'First time with status QUEUED; filled in by a trigger.';
comment on column pgtide.runs.started_at is 'First time with status EXECUTING; filled in by a trigger.';
comment on column pgtide.runs.completed_at is
    'When it was over, however it ended; filled in by a trigger. Its presence ends a subscription.';
comment on column pgtide.runs.expired_at is 'When it got the status EXPIRED; filled in by a trigger.';
comment on table pgtide.batches is 'Runs that were started together: runs.batch_id points here.';
comment on column pgtide.batches.id is 'Given by the backend, or batch_ and 32 random hexadecimal digits.';
comment on column pgtide.batches.environment_id is 'Tenant or stage; the backend''s to choose.';
comment on column pgtide.batches.status is 'PENDING, PROCESSING, COMPLETED, PARTIAL_FAILED or ABORTED.';
comment on column pgtide.batches.run_ids is 'Ids of its runs in order, as far as the backend notes them.';
comment on column pgtide.batches.run_count is 'How many runs it has.';
comment on column pgtide.batches.expected_count is 'How many runs it will have once it is sealed.';
comment on column pgtide.batches.sealed is 'Whether no more runs will be added.';
comment on column pgtide.batches.sealed_at is 'When it was sealed; filled in by a trigger.';
comment on column pgtide.batches.processing_completed_at is 'When all its runs had been created.';
comment on column pgtide.batches.completed_at is 'When it was over; filled in by a trigger.';
comment on column pgtide.batches.idempotency_key is 'Unique with the environment.';
comment on column pgtide.batches.one_time_use_token is 'The token that started it.';
comment on column pgtide.batches.created_at is 'When it was created.';
comment on column pgtide.batches.updated_at is 'When it last changed; kept by a trigger.';
comment on function pgtide.run_status(text) is 'The present name of a run''s status.';
comment on function pgtide.is_final(text) is 'Whether a run in this status is over.';
