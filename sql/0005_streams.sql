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

-- The partitions of stream_chunks. Whatever is appended goes to the last one that is in use already;
-- retention drops the first ones. Transactions that had begun when a partition was opened may not see
-- it before they end, so a new one is used only by those that begin later.
create table pgtide.stream_parts (
    part integer primary key,
    used_from timestamptz not null default clock_timestamp() + interval '10 s'
);

-- Which partition to append to.
create function pgtide.current_stream_part() returns integer
language sql stable
as $$
    select coalesce(max(part) filter (where used_from <= now()), min(part))
    from pgtide.stream_parts
$$;

create table pgtide.streams (
    id bigint generated always as identity primary key,
    -- Names are compared bytewise, which is quicker than as a language has it.
    environment_id text collate "C" not null default 'default',
    -- Segments separated by slashes, as in the URL but decoded.
    path text collate "C" not null check (path <> '' and octet_length(path) <= 1024),
    content_type text not null default 'application/octet-stream',
    -- Positions count messages. What is before `head` was dropped; the next message gets `tail`.
    head bigint not null default 0,
    tail bigint not null default 0,
    -- What is before `tail`, a fork's inheritance included.
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
    -- Whoever reads it (also what it has of others, if it is a fork) need not look into older parts.
    first_part integer not null default pgtide.current_stream_part(),
    check (head <= tail and fork_position <= tail),
    -- Those that are deleted but still read by forks keep the path.
    constraint streams_path_key unique (environment_id, path)
) with (fillfactor = 50);

-- For the sweep of what has expired.
create index streams_expiry_index on pgtide.streams (expires_at) where expires_at is not null;

create index streams_parent_index on pgtide.streams (parent_id) where parent_id is not null;

-- Streams that are gone and whose messages are still to be deleted.
create table pgtide.stream_remains (
    stream_id bigint primary key
);

-- Where producers are, so that a request that comes again is appended once.
create table pgtide.stream_producers (
    stream_id bigint not null references pgtide.streams on delete cascade,
    producer text collate "C" not null,
    epoch bigint not null,
    sequence bigint not null,
    used_at timestamptz not null default now(),
    primary key (stream_id, producer)
) with (fillfactor = 70);

-- What was appended: one or more messages that came together. JSON messages are joined by commas,
-- without brackets around them; others are bytes without borders. The order of the columns leaves no
-- gaps between them: most chunks are smaller than the rest of their rows.
create table pgtide.stream_chunks (
    part integer not null,
    messages integer not null default 1 check (messages > 0),
    stream_id bigint not null,
    position bigint not null,
    -- Bytes of the stream up to the end of this chunk: where a page ends is looked up, not counted.
    bytes_upto bigint not null,
    created_at timestamptz not null default clock_timestamp(),
    data bytea not null
) partition by list (part);

-- Large chunks are mostly compressed already, or compressed again for each reader.
alter table pgtide.stream_chunks alter column data set storage external;

-- Opens the next partition; what is appended soon goes there. Attaching it, other than making it in
-- its place, waits for nobody who appends or reads.
create function pgtide.open_stream_part() returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    number integer;
begin
    -- One at a time. Appends only read this table.
    lock table pgtide.stream_parts in share row exclusive mode;
    select coalesce(max(part), 0) + 1 into number from pgtide.stream_parts;
    -- A key of the whole table would need `part` as well, in every entry of its index.
    execute format(
        'create table pgtide.stream_chunks_%s (
            like pgtide.stream_chunks including defaults including constraints including storage,
            primary key (stream_id, position)
        )', number
    );
    execute format(
        'alter table pgtide.stream_chunks attach partition pgtide.stream_chunks_%s
        for values in (%s)', number, number
    );
    insert into pgtide.stream_parts (part) values (number);
    return number;
end
$$;

select pgtide.open_stream_part();

-- Streams that have messages in a partition that is to be dropped begin later now: some of them, those
-- with the next higher ids, so that nobody who appends waits for long. The last id; null after all.
create function pgtide.leave_stream_part(
    which integer, after bigint default 0, most integer default 500
) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
declare
    last_id bigint := after;
    upto bigint;
begin
    if which is null or which not in (select part from pgtide.stream_parts)
        or which >= pgtide.current_stream_part()
    then
        raise exception 'stream part % cannot be dropped: it is not there, or in use', which
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    for turn in 1..most loop
        execute format(
            'select stream_id, position + messages from pgtide.stream_chunks_%s
             where stream_id = (
                select min(stream_id) from pgtide.stream_chunks_%s where stream_id > $1
             )
             order by position desc limit 1', which, which
        ) into last_id, upto using last_id;
        exit when last_id is null;
        update pgtide.streams as one set head = upto
        where one.id = last_id and one.head < upto;
    end loop;
    return last_id;
end
$$;

-- Drops a partition that is before the one in use. Streams that had messages in it begin later now;
-- if there are many, let them leave it first (leave_stream_part). For its last step nobody may be
-- appending or reading: it gives up after half a second (55P03), before anybody is taken for part of
-- a deadlock. Try it again.
create function pgtide.drop_stream_part(which integer) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
begin
    lock table pgtide.stream_parts in share row exclusive mode;
    if which is null or which not in (select part from pgtide.stream_parts)
        or which >= pgtide.current_stream_part()
    then
        raise exception 'stream part % cannot be dropped: it is not there, or in use', which
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    -- Whoever has appended to it has come to his end.
    execute format('lock table pgtide.stream_chunks_%s in share mode', which);
    execute format(
        'update pgtide.streams as stream set head = gone.upto
         from (
            select stream_id, max(position + messages) as upto
            from pgtide.stream_chunks_%s group by stream_id
         ) as gone
         where stream.id = gone.stream_id and stream.head < gone.upto', which
    );
    -- And forks that have some of these messages.
    execute format(
        'update pgtide.streams as fork set head = gone.upto
         from (
            select heir.id, max(least(chunk.position + chunk.messages, (step->>1)::bigint)) as upto
            from pgtide.streams as heir
            cross join jsonb_array_elements(heir.lineage) as step
            cross join lateral (
                select one.position, one.messages from pgtide.stream_chunks_%s as one
                where one.stream_id = (step->>0)::bigint and one.position < (step->>1)::bigint
                order by one.position desc limit 1
            ) as chunk
            where heir.parent_id is not null
            group by heir.id
         ) as gone
         where fork.id = gone.id and fork.head < gone.upto', which
    );
    execute format('drop table pgtide.stream_chunks_%s', which);
    delete from pgtide.stream_parts where part = which;
end
$$;

revoke execute on function
    pgtide.open_stream_part(), pgtide.leave_stream_part(integer, bigint, integer),
    pgtide.drop_stream_part(integer)
from public;

-- Tells pgtide what was appended, or what else became of a stream, as a part of the transaction.
-- `flags`: 1 it is closed, 2 it is gone, 4 it was made with what its source has. Small chunks go
-- along. The layout is that of shapes/streams/notice.py.
create function pgtide.stream_notice(
    stream_id bigint, at bigint, messages integer, flags integer, created_at timestamptz, data bytea
) returns void
language plpgsql
as $$
begin
    perform pg_logical_emit_message(
        true,
        'pgtide:streams',
        int8send(stream_id) || int8send(at) || int4send(messages) || int4send(flags)
            || int8send((extract(epoch from created_at) * 1000000)::bigint)
            || case when octet_length(data) <= 8192
                then int4send(octet_length(data)) || data
                else int4send(-1)
            end
    );
end
$$;

-- Whether a stream of this type holds JSON.
create function pgtide.is_json_type(content_type text) returns boolean
language sql immutable strict parallel safe
as $$
    select content_type = 'application/json'
        or lower(trim(split_part(content_type, ';', 1))) = 'application/json'
$$;

-- When a stream expires that was used at this moment. It moves in steps, because whoever moves it has
-- an index to change.
create function pgtide.later_expiry(
    expires_at timestamptz, ttl_seconds bigint, moment timestamptz
) returns timestamptz
language sql stable
as $$
    select case
        when ttl_seconds is null
            or expires_at > moment + make_interval(secs => ttl_seconds * 0.95)
        then expires_at
        else moment + make_interval(secs => ttl_seconds)
    end
$$;

-- Makes a stream; false if it is there already (as whatever it is). With `ttl` it is gone when it was
-- neither read nor appended to for so long.
create function pgtide.create_stream(
    stream text,
    content_type text default 'application/octet-stream',
    ttl interval default null,
    environment text default 'default'
) returns boolean
language plpgsql
as $$
declare
    seconds bigint := ceil(extract(epoch from ttl));
    target record;
begin
    if stream is null or octet_length(stream) not between 1 and 1024
        or stream ~ '(^|/)\.{0,2}(/|$)' or stream ~ '[\x01-\x1f\x7f]'
    then
        raise exception 'a stream cannot be called %: 1 to 1024 bytes, no control characters, and '
            'between slashes neither nothing nor . or ..', coalesce(quote_literal(stream), 'null')
            using errcode = 'invalid_parameter_value';
    end if;
    if content_type is null or content_type !~ '^[!-~]([ -~]*[!-~])?$' then
        raise exception 'no content type: %', coalesce(quote_literal(content_type), 'null')
            using errcode = 'invalid_parameter_value';
    end if;
    if seconds < 0 then
        raise exception 'a stream cannot be kept for %', ttl using errcode = 'invalid_parameter_value';
    end if;
    loop
        -- Waits for whoever is making it right now.
        insert into pgtide.streams (environment_id, path, content_type, ttl_seconds, expires_at)
        values (
            environment, stream, create_stream.content_type,
            seconds, clock_timestamp() + make_interval(secs => seconds)
        )
        on conflict on constraint streams_path_key do nothing;
        if found then
            return true;
        end if;
        select one.id, one.deleted_at is null and one.forks = 0
            and one.expires_at <= clock_timestamp() as expired
        into target
        from pgtide.streams as one
        where one.environment_id = environment and one.path = stream for update;
        if found then
            if not target.expired or target.expired is null then
                return false;
            end if;
            perform pgtide.remove_stream(target.id);
        end if;
    end loop;
end
$$;

-- Removes a stream that the caller has locked. While forks read from it, only its name is gone;
-- with the last fork of a removed stream it goes, too.
create function pgtide.remove_stream(which bigint) returns void
language plpgsql
as $$
declare
    moment timestamptz := clock_timestamp();
    next_one bigint := which;
    gone record;
begin
    while next_one is not null loop
        update pgtide.streams as one set deleted_at = coalesce(one.deleted_at, moment)
        where one.id = next_one
        returning one.id, one.tail, one.forks, one.parent_id into gone;
        perform pgtide.stream_notice(gone.id, gone.tail, 0, 2, moment, '');
        exit when gone.forks > 0;
        delete from pgtide.streams as one where one.id = gone.id;
        insert into pgtide.stream_remains (stream_id) values (gone.id);
        next_one := null;
        update pgtide.streams as one set forks = one.forks - 1
        where one.id = gone.parent_id and one.forks > 0
        returning case
            when one.forks = 0 and (one.deleted_at is not null or one.expires_at <= moment)
            then one.id
        end into next_one;
    end loop;
end
$$;

-- Locks a stream until the end of the transaction. If there is none, or it has expired, it is made
-- with this content type; without one, the answer is null.
create function pgtide.lock_stream(stream text, environment text, new_type text default null)
returns pgtide.streams
language plpgsql
as $$
declare
    target pgtide.streams;
begin
    loop
        select one.* into target from pgtide.streams as one
        where one.environment_id = environment and one.path = stream for update;
        if target.id is not null then
            if target.deleted_at is null
                and (target.expires_at is null or target.expires_at > clock_timestamp())
            then
                return target;
            elsif target.forks > 0 then
                raise exception 'stream % is gone, but forks of it are left: append to another path',
                    stream using errcode = 'object_not_in_prerequisite_state';
            end if;
            perform pgtide.remove_stream(target.id);
        end if;
        if new_type is null then
            return null;
        end if;
        perform pgtide.create_stream(stream, new_type, null, environment);
    end loop;
end
$$;

-- Appends one chunk of `messages` messages, and makes the stream if there is none. Returns the
-- position behind it. With a producer, a chunk whose sequence has been appended before is left out;
-- sequences begin at 0 and have no gaps, and begin again with a higher epoch. `new_type` says what
-- the data is: that of application/json has to be JSON already, messages joined by commas.
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
    last pgtide.stream_producers;
    moment timestamptz;
begin
    if data is null or octet_length(data) = 0 or octet_length(data) > 16777216 then
        raise exception 'cannot append % bytes to stream %: 1 to 16777216', octet_length(data), stream
            using errcode = 'invalid_parameter_value';
    end if;
    target := pgtide.lock_stream(stream, environment, new_type);
    if producer is not null then
        if sequence is null or sequence < 0 or epoch is null or epoch < 0 or producer = '' then
            raise exception 'a producer needs a name, an epoch and a sequence that are not negative'
                using errcode = 'invalid_parameter_value';
        end if;
        select had.* into last from pgtide.stream_producers as had
        where had.stream_id = target.id and had.producer = append_chunk.producer;
        if append_chunk.epoch < last.epoch then
            raise exception 'producer % of stream % goes on elsewhere, with epoch %',
                producer, stream, last.epoch using errcode = 'object_not_in_prerequisite_state';
        end if;
        if append_chunk.epoch = last.epoch and append_chunk.sequence <= last.sequence then
            return target.tail;
        end if;
        if append_chunk.sequence <> (
            case when append_chunk.epoch = last.epoch then last.sequence + 1 else 0 end
        ) then
            raise exception 'a sequence of producer % of stream % is missing before %',
                producer, stream, sequence using errcode = 'object_not_in_prerequisite_state';
        end if;
    end if;
    if target.closed then
        raise exception 'stream % is closed', stream
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if pgtide.is_json_type(target.content_type) then
        if new_type <> 'application/json' then
            perform convert_from(data, 'UTF8')::json;
        end if;
    elsif new_type = 'application/json' then
        raise exception 'stream % is %, not JSON: append text or bytes', stream, target.content_type
            using errcode = 'datatype_mismatch';
    end if;
    moment := clock_timestamp();
    insert into pgtide.stream_chunks (
        part, messages, stream_id, position, bytes_upto, created_at, data
    )
    values (
        -- As pgtide.current_stream_part() has it, without the price of a call.
        (
            select coalesce(max(part) filter (where used_from <= now()), min(part))
            from pgtide.stream_parts
        ),
        append_chunk.messages, target.id, target.tail,
        target.bytes + octet_length(append_chunk.data), moment, append_chunk.data
    );
    update pgtide.streams as one
    set tail = one.tail + append_chunk.messages,
        bytes = one.bytes + octet_length(append_chunk.data),
        expires_at = pgtide.later_expiry(one.expires_at, one.ttl_seconds, moment)
    where one.id = target.id;
    if producer is not null then
        insert into pgtide.stream_producers as had (stream_id, producer, epoch, sequence)
        values (target.id, append_chunk.producer, append_chunk.epoch, append_chunk.sequence)
        on conflict on constraint stream_producers_pkey do update
        set epoch = excluded.epoch, sequence = excluded.sequence, used_at = now();
    end if;
    perform pgtide.stream_notice(target.id, target.tail, messages, 0, moment, data);
    return target.tail + messages;
end
$$;

-- Text. In a stream of JSON it has to be JSON and is one message.
create function pgtide.append(
    stream text,
    data text,
    producer text default null,
    epoch bigint default 0,
    sequence bigint default null,
    environment text default 'default'
) returns bigint
language sql
as $$
    select pgtide.append_chunk(
        stream, convert_to(data, 'UTF8'), 'text/plain', 1, producer, epoch, sequence, environment
    )
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
        stream, convert_to(data::text, 'UTF8'), 'application/json', 1, producer, epoch, sequence,
        environment
    )
$$;

-- One JSON message, in the very spelling of the value.
create function pgtide.append(
    stream text,
    data json,
    producer text default null,
    epoch bigint default 0,
    sequence bigint default null,
    environment text default 'default'
) returns bigint
language sql
as $$
    select pgtide.append_chunk(
        stream, convert_to(data::text, 'UTF8'), 'application/json', 1, producer, epoch, sequence,
        environment
    )
$$;

-- Appends one JSON message to a stream of a run, which is at runs/<run>/<key>. The run's
-- realtime_streams gets the key when it is used first, so that followers of the run hear of it.
create function pgtide.append_to_run(
    run_id text,
    key text,
    data jsonb,
    producer text default null,
    epoch bigint default 0,
    sequence bigint default null
) returns bigint
language plpgsql
as $$
declare
    run record;
begin
    select one.environment_id, key = any(one.realtime_streams) as known into run
    from pgtide.runs as one where one.id = run_id;
    if not found then
        raise exception 'there is no run %', run_id using errcode = 'no_data_found';
    end if;
    if not run.known then
        update pgtide.runs as one set realtime_streams = one.realtime_streams || key
        where one.id = run_id and key <> all(one.realtime_streams);
    end if;
    return pgtide.append_chunk(
        -- The id is one segment of the path.
        'runs/' || replace(replace(run_id, '%', '%25'), '/', '%2F') || '/' || key,
        convert_to(data::text, 'UTF8'), 'application/json', 1,
        producer, epoch, sequence, run.environment_id
    );
end
$$;

-- Ends a stream: readers get what there is, and then its end. False if it was closed before.
create function pgtide.close(stream text, environment text default 'default') returns boolean
language plpgsql
as $$
declare
    target pgtide.streams := pgtide.lock_stream(stream, environment);
    moment timestamptz := clock_timestamp();
begin
    if target.id is null then
        raise exception 'there is no stream %', stream using errcode = 'no_data_found';
    end if;
    if target.closed then
        return false;
    end if;
    update pgtide.streams as one
    set closed = true,
        expires_at = pgtide.later_expiry(one.expires_at, one.ttl_seconds, moment)
    where one.id = target.id;
    perform pgtide.stream_notice(target.id, target.tail, 0, 1, moment, '');
    return true;
end
$$;

-- Deletes a stream; false if there is none. Forks of it keep what they have.
create function pgtide.delete_stream(stream text, environment text default 'default') returns boolean
language plpgsql
as $$
declare
    target record;
begin
    select one.id,
        one.deleted_at is null and (one.expires_at is null or one.expires_at > clock_timestamp())
            as living
    into target
    from pgtide.streams as one
    where one.environment_id = environment and one.path = stream for update;
    if not found then
        return false;
    end if;
    perform pgtide.remove_stream(target.id);
    return target.living;
end
$$;

comment on table pgtide.streams is
    'Append-only sequences of messages. Write them with pgtide.append() and pgtide.close().';
comment on column pgtide.streams.environment_id is 'As in pgtide.runs.';
comment on column pgtide.streams.path is 'Its name: segments with slashes between them.';
comment on column pgtide.streams.content_type is 'Of application/json, each message is a value.';
comment on column pgtide.streams.head is 'The position of the first message that was not dropped yet.';
comment on column pgtide.streams.tail is 'The position that the next message gets.';
comment on column pgtide.streams.bytes is 'How many bytes are before its tail, dropped ones as well.';
comment on column pgtide.streams.closed is 'Whether nothing more may be appended.';
comment on column pgtide.streams.ttl_seconds is 'It expires when it was not used for so long.';
comment on column pgtide.streams.expires_at is 'From then on there is no such stream.';
comment on column pgtide.streams.forks is 'How many forks read from it.';
comment on column pgtide.streams.deleted_at is 'Set while a deleted stream is kept for its forks.';
comment on column pgtide.streams.created_at is 'When it was created.';
comment on column pgtide.streams.first_part is 'The oldest part that can have messages of it.';
comment on table pgtide.stream_remains is 'Streams whose messages are still to be deleted.';
comment on table pgtide.stream_producers is 'Which request of each producer was appended last.';
comment on table pgtide.stream_parts is 'The partitions of pgtide.stream_chunks.';
comment on table pgtide.stream_chunks is 'What was appended to streams.';
comment on function pgtide.open_stream_part() is
    'Opens the next partition of pgtide.stream_chunks; its number.';
comment on function pgtide.current_stream_part() is 'The partition that is appended to.';
comment on function pgtide.drop_stream_part(integer) is
    'Drops a partition of pgtide.stream_chunks with all messages in it.';
comment on function pgtide.leave_stream_part(integer, bigint, integer) is
    'Lets streams begin behind a partition; the last of them, null after all.';
comment on function pgtide.stream_notice(bigint, bigint, integer, integer, timestamptz, bytea) is
    'Used by pgtide.append() and others: tells pgtide what became of a stream.';
comment on function pgtide.is_json_type(text) is 'Whether a content type is application/json.';
comment on function pgtide.later_expiry(timestamptz, bigint, timestamptz) is
    'When a stream with this TTL expires that was used at this moment.';
comment on function pgtide.create_stream(text, text, interval, text) is
    'Makes a stream; false if it is there already.';
comment on function pgtide.remove_stream(bigint) is 'Used by pgtide.delete_stream() and others.';
comment on function pgtide.lock_stream(text, text, text) is 'Used by pgtide.append() and others.';
comment on function pgtide.append_chunk(text, bytea, text, integer, text, bigint, bigint, text) is
    'Appends several messages at once; the position behind them.';
comment on function pgtide.append(text, text, text, bigint, bigint, text) is
    'Appends text to a stream, which is made if there is none; the position behind it.';
comment on function pgtide.append(text, bytea, text, bigint, bigint, text) is
    'Appends bytes to a stream, which is made if there is none; the position behind them.';
comment on function pgtide.append(text, jsonb, text, bigint, bigint, text) is
    'Appends a JSON value to a stream, which is made if there is none; the position behind it.';
comment on function pgtide.append(text, json, text, bigint, bigint, text) is
    'Appends a JSON value as it is spelled; otherwise as with jsonb.';
comment on function pgtide.append_to_run(text, text, jsonb, text, bigint, bigint) is
    'Appends a JSON value to a stream of a run; the position behind it.';
comment on function pgtide.close(text, text) is 'Ends a stream; false if it was closed before.';
comment on function pgtide.delete_stream(text, text) is 'Deletes a stream; false if there is none.';
