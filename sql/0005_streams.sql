-- Streams: append-only sequences of messages (AI tokens, log lines, parts of files), written in the
-- application's own transactions and read over HTTP as they come.
--
--     select pgtide.append('logs/build-7', E'compiling…\n');
--     select pgtide.append('chats/42', '{"token": "Hel"}'::jsonb);
--     select pgtide.close('logs/build-7');
--
-- The first append makes the stream: text/plain, application/json or application/octet-stream, by the
-- type of what is appended. Nobody sees an append before its transaction has committed, and nobody
-- ever sees one that was rolled back. Appends to the same stream wait for each other until the end of
-- the transaction; those to different ones do not.
--
-- The streams of a run are those below runs/<id of the run>/, with JSON messages.

create table pgtide.streams (
    id bigint generated always as identity primary key,
    environment_id text not null default 'default',
    -- Segments separated by slashes, as in the URL but decoded.
    path text not null check (path <> '' and octet_length(path) <= 1024),
    content_type text not null default 'application/octet-stream',
    -- Positions count messages. What is before `head` was dropped; the next message gets `tail`.
    head bigint not null default 0,
    tail bigint not null default 0,
    bytes bigint not null default 0,
    closed boolean not null default false,
    -- The request of a producer that closed it: its repetition is none.
    closed_producer text,
    closed_epoch bigint,
    closed_sequence bigint,
    -- The last `Stream-Seq`, compared bytewise.
    last_sequence bytea,
    ttl_seconds bigint check (ttl_seconds >= 0),
    -- With a TTL, moved by reads and appends; otherwise fixed. `expires_text` is what was asked for.
    expires_at timestamptz,
    expires_text text,
    -- Where a fork's messages up to `fork_position` are: [[stream id, up to which position], …], the
    -- oldest first. Its own begin there.
    parent_id bigint,
    fork_position bigint not null default 0,
    lineage jsonb not null default '[]',
    -- What was asked for when it was created, to recognise a repetition.
    request jsonb not null default '{}',
    -- Forks that still read from it. Deleted while there are some, it stays for them.
    forks integer not null default 0,
    deleted_at timestamptz,
    created_at timestamptz not null default now(),
    check (head <= tail and fork_position <= tail)
) with (fillfactor = 50);

-- One living stream per path. Those that are deleted but still read by forks keep the path.
create unique index streams_path_index on pgtide.streams (environment_id, path);

-- For the sweep of what has expired.
create index streams_expiry_index on pgtide.streams (expires_at) where expires_at is not null;

-- Streams that are gone and whose messages are still to be deleted.
create table pgtide.stream_remains (
    stream_id bigint primary key
);

-- Where producers are, so that a request that comes again is appended once.
create table pgtide.stream_producers (
    stream_id bigint not null references pgtide.streams on delete cascade,
    producer text not null,
    epoch bigint not null,
    sequence bigint not null,
    primary key (stream_id, producer)
) with (fillfactor = 70);

-- The partitions of stream_chunks. Whatever is appended goes to the last one; retention drops the
-- first ones.
create table pgtide.stream_parts (
    part integer primary key,
    opened_at timestamptz not null default clock_timestamp()
);

-- What was appended: one or more messages that came together. JSON messages are joined by commas,
-- without brackets around them; others are bytes without borders.
create table pgtide.stream_chunks (
    part integer not null,
    stream_id bigint not null,
    position bigint not null,
    messages integer not null default 1 check (messages > 0),
    created_at timestamptz not null default clock_timestamp(),
    data bytea not null,
    primary key (stream_id, position, part)
) partition by list (part);

-- Large chunks are mostly compressed already, or compressed again for each reader.
alter table pgtide.stream_chunks alter column data set storage external;

-- Opens the next partition; what is appended from now on goes there.
create function pgtide.open_stream_part() returns integer
language plpgsql security definer set search_path = pg_catalog
as $$
declare
    number integer;
begin
    -- One at a time. Appends only read this table.
    lock table pgtide.stream_parts in share row exclusive mode;
    select coalesce(max(part), 0) + 1 into number from pgtide.stream_parts;
    execute format(
        'create table pgtide.stream_chunks_%s partition of pgtide.stream_chunks for values in (%s)',
        number, number
    );
    execute format(
        'alter table pgtide.stream_chunks_%s alter column data set storage external', number
    );
    insert into pgtide.stream_parts (part) values (number);
    return number;
end
$$;

select pgtide.open_stream_part();

-- Drops a partition that is not the last one. Streams that had messages in it begin later now.
create function pgtide.drop_stream_part(which integer) returns void
language plpgsql security definer set search_path = pg_catalog
as $$
begin
    lock table pgtide.stream_parts in share row exclusive mode;
    if which is null or which not in (select part from pgtide.stream_parts)
        or which = (select max(part) from pgtide.stream_parts)
    then
        raise exception 'stream part % cannot be dropped: it is not there, or in use', which;
    end if;
    execute format(
        'update pgtide.streams as stream set head = greatest(stream.head, gone.upto)
         from (
            select stream_id, max(position + messages) as upto
            from pgtide.stream_chunks_%s group by stream_id
         ) as gone
         where stream.id = gone.stream_id', which
    );
    execute format('drop table pgtide.stream_chunks_%s', which);
    delete from pgtide.stream_parts where part = which;
end
$$;

revoke execute on function pgtide.open_stream_part(), pgtide.drop_stream_part(integer) from public;

-- Tells pgtide what was appended, or what else became of a stream, as a part of the transaction. `flags`: 1 it is
-- closed, 2 it is gone. Small chunks go along. The layout is that of shapes/streams/notice.py.
create function pgtide.stream_notice(
    stream_id bigint, at bigint, messages integer, flags integer, created_at timestamptz, data bytea
) returns void
language sql
as $$
    select pg_logical_emit_message(
        true,
        'pgtide:streams',
        int8send(stream_id) || int8send(at) || int4send(messages) || int4send(flags)
            || int8send((extract(epoch from created_at) * 1000000)::bigint)
            || case when octet_length(data) <= 8192
                then int4send(octet_length(data)) || data
                else int4send(-1)
            end
    )
$$;

-- Makes a stream; false if it is there already (as whatever it is).
create function pgtide.create_stream(
    stream text,
    content_type text default 'application/octet-stream',
    ttl interval default null,
    environment text default 'default'
) returns boolean
language plpgsql
as $$
begin
    insert into pgtide.streams (environment_id, path, content_type, ttl_seconds, expires_at)
    values (
        environment, stream, create_stream.content_type,
        ceil(extract(epoch from ttl))::bigint, clock_timestamp() + ttl
    )
    on conflict (environment_id, path) do nothing;
    return found;
end
$$;

-- Appends one chunk of `messages` messages, and makes the stream if there is none. Returns the
-- position behind it. With a producer, a chunk whose sequence has been appended before is left out; sequences begin at 0
-- and have no gaps, and begin again with a higher epoch.
create function pgtide.append_chunk(
    stream text,
    data bytea,
    new_type text,
    messages integer default 1,
    producer text default null,
    epoch bigint default 0,
    sequence bigint default null,
    environment text default 'default'
) returns bigint
language plpgsql
as $$
declare
    target pgtide.streams;
    last record;
    moment timestamptz := clock_timestamp();
begin
    if data is null or octet_length(data) = 0 then
        raise exception 'nothing to append to stream %', stream using errcode = '22023';
    end if;
    select * into target from pgtide.streams as one
    where one.environment_id = environment and one.path = stream for update;
    if not found then
        perform pgtide.create_stream(stream, new_type, null, environment);
        select * into strict target from pgtide.streams as one
        where one.environment_id = environment and one.path = stream for update;
    end if;
    if target.deleted_at is not null or target.expires_at <= moment then
        raise exception 'stream % is gone: append to another path', stream using errcode = '55000';
    end if;
    if producer is not null then
        select had.epoch, had.sequence into last from pgtide.stream_producers as had
        where had.stream_id = target.id and had.producer = append_chunk.producer;
        if found and (append_chunk.epoch < last.epoch) then
            raise exception 'producer % of stream % goes on elsewhere, with epoch %',
                producer, stream, last.epoch using errcode = '55000';
        end if;
        if found and append_chunk.epoch = last.epoch and append_chunk.sequence <= last.sequence then
            return target.tail;
        end if;
        if sequence is distinct from (
            case when found and append_chunk.epoch = last.epoch then last.sequence + 1 else 0 end
        ) then
            raise exception 'a sequence of producer % of stream % is missing before %',
                producer, stream, sequence using errcode = '55000';
        end if;
        insert into pgtide.stream_producers (stream_id, producer, epoch, sequence)
        values (target.id, append_chunk.producer, append_chunk.epoch, append_chunk.sequence)
        on conflict (stream_id, producer) do update
        set epoch = excluded.epoch, sequence = excluded.sequence;
    end if;
    if target.closed then
        raise exception 'stream % is closed', stream using errcode = '55000';
    end if;
    insert into pgtide.stream_chunks (part, stream_id, position, messages, created_at, data)
    values (
        (select max(part) from pgtide.stream_parts), target.id, target.tail,
        append_chunk.messages, moment, append_chunk.data
    );
    update pgtide.streams as one
    set tail = one.tail + append_chunk.messages,
        bytes = one.bytes + octet_length(append_chunk.data),
        expires_at = case
            when one.ttl_seconds is null then one.expires_at
            else moment + make_interval(secs => one.ttl_seconds)
        end
    where one.id = target.id;
    perform pgtide.stream_notice(target.id, target.tail, messages, 0, moment, data);
    return target.tail + messages;
end
$$;

-- Text, to a stream of text; to one of JSON, if it is JSON: one message.
create function pgtide.append(
    stream text,
    data text,
    producer text default null,
    epoch bigint default 0,
    sequence bigint default null,
    environment text default 'default'
) returns bigint
language plpgsql
as $$
begin
    if exists (
        select from pgtide.streams as one
        where one.environment_id = environment and one.path = stream
            and lower(trim(split_part(one.content_type, ';', 1))) = 'application/json'
    ) then
        perform data::json;
    end if;
    return pgtide.append_chunk(
        stream, convert_to(data, 'UTF8'), 'text/plain', 1, producer, epoch, sequence, environment
    );
end
$$;

-- Bytes, as they are.
create function pgtide.append(
    stream text,
    data bytea,
    producer text default null,
    epoch bigint default 0,
    sequence bigint default null,
    environment text default 'default'
) returns bigint
language sql
as $$
    select pgtide.append_chunk(
        stream, data, 'application/octet-stream', 1, producer, epoch, sequence, environment
    )
$$;

-- One JSON message, also if it is an array.
create function pgtide.append(
    stream text,
    data jsonb,
    producer text default null,
    epoch bigint default 0,
    sequence bigint default null,
    environment text default 'default'
) returns bigint
language sql
as $$
    select pgtide.append_chunk(
        stream, convert_to(data::text, 'UTF8'), 'application/json', 1, producer, epoch, sequence, environment
    )
$$;

-- Ends a stream: readers get what there is, and then its end. False if it was closed before.
create function pgtide.close(stream text, environment text default 'default') returns boolean
language plpgsql
as $$
declare
    target record;
begin
    update pgtide.streams as one set closed = true
    where one.environment_id = environment and one.path = stream and not one.closed
        and one.deleted_at is null
    returning one.id, one.tail into target;
    if not found then
        if exists (
            select from pgtide.streams as one
            where one.environment_id = environment and one.path = stream
        ) then
            return false;
        end if;
        raise exception 'there is no stream %', stream using errcode = '02000';
    end if;
    perform pgtide.stream_notice(target.id, target.tail, 0, 1, clock_timestamp(), '');
    return true;
end
$$;
