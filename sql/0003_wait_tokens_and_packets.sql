-- Wait tokens, packets, and functions by which writers in plain SQL change metadata.

-- What somebody waits for: a person's approval, another service's callback. Whoever is asked completes
-- it, once; the first answer stays. Created over HTTP, or with plain SQL:
--
--     insert into pgtide.wait_tokens (timeout_at, tags)
--     values (now() + interval '10 minutes', array['order:7'])
--     returning id;
--
-- A worker waits like this, on a connection of its own:
--
--     listen pgtide_wait_tokens;
--     select * from pgtide.wait_token($1);     -- over already?
--     -- wait for a notification whose payload is the id, or until timeout_at; then ask again
--
-- Whether a token has timed out is a question of the clock: it keeps the status WAITING in the table.
-- pgtide.wait_token() and HTTP say TIMED_OUT.
create table pgtide.wait_tokens (
    id text primary key default 'waitpoint_' || replace(gen_random_uuid()::text, '-', ''),
    environment_id text not null default 'default',
    status text not null default 'WAITING' check (status in ('WAITING', 'COMPLETED', 'TIMED_OUT')),
    output text,
    output_type text not null default 'application/json',
    tags text[] not null default '{}' check (array_position(tags, null) is null),
    idempotency_key text,
    idempotency_key_expires_at timestamptz,
    timeout_at timestamptz,
    created_at timestamptz not null default now(),
    completed_at timestamptz,
    -- The same key in the same environment is the same token.
    unique (environment_id, idempotency_key)
);

-- The latest tokens of an environment.
create index wait_tokens_created_index on pgtide.wait_tokens (environment_id, created_at desc, id desc);

-- Its status in the light of the clock.
create function pgtide.wait_token_status(token pgtide.wait_tokens) returns text
language sql stable parallel safe
as $$
    select case
        when token.status = 'WAITING' and token.timeout_at <= now() then 'TIMED_OUT'
        else token.status
    end
$$;

-- A token as it is now: WAITING, COMPLETED with its output, or TIMED_OUT. No row if there is none.
create function pgtide.wait_token(token_id text)
returns table (id text, status text, output text, output_type text, timeout_at timestamptz)
language sql stable parallel safe
as $$
    select token.id, pgtide.wait_token_status(token), token.output, token.output_type, token.timeout_at
    from pgtide.wait_tokens as token
    where token.id = token_id
$$;

-- Completes a token; false if it was over already, and then nothing changes.
create function pgtide.complete_wait_token(token_id text, output jsonb default null) returns boolean
language sql
as $$
    with completed as (
        update pgtide.wait_tokens as token
        set status = 'COMPLETED', output = complete_wait_token.output::text,
            output_type = 'application/json'
        where token.id = token_id and pgtide.wait_token_status(token) = 'WAITING'
        returning 1
    )
    select exists (select from completed)
$$;

-- Notes when it was over, and keeps what the first one to complete it said.
create function pgtide.keep_wait_token() returns trigger
language plpgsql
as $$
begin
    if tg_op = 'UPDATE' and old.status <> 'WAITING' and (
        new.status <> old.status or new.output is distinct from old.output
    ) then
        raise exception 'the wait token % is % already', old.id, old.status
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Ask pgtide.wait_token() first, or use pgtide.complete_wait_token().';
    end if;
    if new.status <> 'WAITING' then
        new.completed_at := coalesce(new.completed_at, now());
    end if;
    return new;
end
$$;

-- See there.
create trigger keep_wait_token before insert or update on pgtide.wait_tokens
for each row execute function pgtide.keep_wait_token();

-- Wakes whoever waits for it.
create function pgtide.announce_wait_token() returns trigger
language plpgsql
as $$
begin
    perform pg_notify('pgtide_wait_tokens', new.id);
    return null;
end
$$;

-- Only when it is over: notifications are not for free.
create trigger announce_wait_token after update on pgtide.wait_tokens
for each row when (old.status = 'WAITING' and new.status <> 'WAITING')
execute function pgtide.announce_wait_token();

-- Whoever prefers to follow the table as a shape needs the whole old row.
alter table pgtide.wait_tokens replica identity full;

-- Payloads and outputs that are too large for a run's row. There, `payload` or `output` is the
-- packet's path and its type is application/store:
--
--     select packet.data, packet.content_type
--     from pgtide.runs as run
--     join pgtide.packets as packet using (environment_id)
--     where run.id = $1 and run.payload_type = 'application/store' and packet.path = run.payload;
--
-- Nothing deletes packets by itself: see pgtide.forget_packets.
create table pgtide.packets (
    environment_id text not null default 'default',
    path text not null,
    content_type text not null,
    data bytea not null,
    created_at timestamptz not null default now(),
    primary key (environment_id, path)
);

-- Mostly JSON, which is sent as it is: not compressing it makes reading and writing cheap.
alter table pgtide.packets alter column data set storage external;

-- For forget_packets.
create index packets_created_index on pgtide.packets (created_at);

-- Deletes packets that are older; how many. For a cron job, with what suits your runs' lifetime:
--
--     select pgtide.forget_packets('30 days');
create function pgtide.forget_packets(older_than interval, most integer default 1000)
returns integer
language sql
as $$
    with forgotten as (
        delete from pgtide.packets
        where (environment_id, path) in (
            select environment_id, path
            from pgtide.packets
            where created_at < now() - older_than
            order by created_at
            limit most
            for update skip locked
        )
        returning 1
    )
    select count(*)::integer from forgotten
$$;

-- A key of a run's metadata gets a value: pgtide.set_metadata(id, 'progress', '40'), or for a text
-- pgtide.set_metadata(id, 'step', to_jsonb('resizing'::text)).
create function pgtide.set_metadata(run_id text, key text, value jsonb) returns void
language plpgsql
as $$
begin
    update pgtide.runs
    set metadata = metadata || jsonb_build_object(key, value)
    where id = run_id;
    if not found then
        raise exception 'there is no run %', run_id using errcode = 'no_data_found';
    end if;
end
$$;

-- Adds to a number in a run's metadata; the sum. What is no number counts as 0.
create function pgtide.increment_metadata(run_id text, key text, by numeric default 1)
returns numeric
language plpgsql
as $$
declare
    total numeric;
begin
    update pgtide.runs
    set metadata = metadata || jsonb_build_object(key, trim_scale(by + case
        when jsonb_typeof(metadata -> key) = 'number' then (metadata ->> key)::numeric else 0
    end))
    where id = run_id
    returning (metadata ->> key)::numeric into total;
    if not found then
        raise exception 'there is no run %', run_id using errcode = 'no_data_found';
    end if;
    return total;
end
$$;

-- Adds a value to an array in a run's metadata. What is no array becomes the first element of one.
create function pgtide.append_metadata(run_id text, key text, value jsonb) returns void
language plpgsql
as $$
begin
    update pgtide.runs
    set metadata = metadata || jsonb_build_object(key, case
        when not metadata ? key then '[]'::jsonb
        when jsonb_typeof(metadata -> key) = 'array' then metadata -> key
        else jsonb_build_array(metadata -> key)
    end || jsonb_build_array(value))
    where id = run_id;
    if not found then
        raise exception 'there is no run %', run_id using errcode = 'no_data_found';
    end if;
end
$$;

comment on table pgtide.wait_tokens is
    'What workers wait for. Completed over HTTP or with pgtide.complete_wait_token().';
comment on column pgtide.wait_tokens.id is 'waitpoint_ and 32 random hexadecimal digits.';
comment on column pgtide.wait_tokens.environment_id is 'As in pgtide.runs.';
comment on column pgtide.wait_tokens.status is
    'WAITING or COMPLETED. TIMED_OUT, too, if you write it; pgtide.wait_token() tells by the clock.';
comment on column pgtide.wait_tokens.output is 'What it was completed with, encoded as output_type says.';
comment on column pgtide.wait_tokens.output_type is 'application/json or text/plain.';
comment on column pgtide.wait_tokens.tags is 'The backend''s to choose.';
comment on column pgtide.wait_tokens.idempotency_key is 'Unique with the environment.';
comment on column pgtide.wait_tokens.idempotency_key_expires_at is
    'From then on the key makes another token; null is never.';
comment on column pgtide.wait_tokens.timeout_at is 'From then on it cannot be completed; null is never.';
comment on column pgtide.wait_tokens.created_at is 'When it was created.';
comment on column pgtide.wait_tokens.completed_at is 'When it was over; filled in by a trigger.';
comment on table pgtide.packets is 'Payloads and outputs that are too large for a run''s row.';
comment on column pgtide.packets.environment_id is 'As in pgtide.runs.';
comment on column pgtide.packets.path is 'What runs.payload or runs.output has for it.';
comment on column pgtide.packets.content_type is 'How the data is encoded, as runs.payload_type.';
comment on column pgtide.packets.data is 'At most 10 MiB.';
comment on column pgtide.packets.created_at is 'When it was last uploaded.';
comment on function pgtide.wait_token_status(pgtide.wait_tokens) is
    'WAITING, COMPLETED or TIMED_OUT, by the clock.';
comment on function pgtide.wait_token(text) is 'A wait token as it is now.';
comment on function pgtide.complete_wait_token(text, jsonb) is
    'Completes a wait token; false if it was over already.';
comment on function pgtide.forget_packets(interval, integer) is 'Deletes old packets; how many.';
comment on function pgtide.set_metadata(text, text, jsonb) is 'Gives a key of a run''s metadata a value.';
comment on function pgtide.increment_metadata(text, text, numeric) is
    'Adds to a number in a run''s metadata; the sum.';
comment on function pgtide.append_metadata(text, text, jsonb) is
    'Adds a value to an array in a run''s metadata.';
