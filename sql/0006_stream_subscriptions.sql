-- Subscriptions to streams: durable cursors that wake workers, by a webhook or by a message in a
-- stream of their own. They are made over HTTP (/v1/stream/__ds/subscriptions/…).
--
-- A subscription is idle, or woken: then it has a `wake_id`, and `generation` is the number of that
-- wake, by which workers of earlier ones are recognised. Woken, it waits for the next attempt to tell a
-- worker (`next_attempt_at`), or for the worker until `lease_until`.

create table pgtide.subscriptions (
    environment_id text not null default 'default',
    id text not null,
    type text not null check (type in ('webhook', 'pull-wake')),
    -- Streams by their paths: `*` is one segment, `**` any number of them.
    pattern text,
    -- The same as a regular expression, for paths with a slash at their end.
    expression text,
    webhook_url text check ((webhook_url is not null) = (type = 'webhook')),
    wake_stream text check ((wake_stream is not null) = (type = 'pull-wake')),
    lease_ttl_ms integer not null check (lease_ttl_ms between 1000 and 600000),
    description text,
    -- What was asked for, to recognise a repetition.
    identity bytea not null,
    -- Where clients reach pgtide: for addresses in webhooks.
    base_url text not null,
    created_at timestamptz not null default now(),
    status text not null default 'active' check (status in ('active', 'failed')),
    -- Since when it is to be looked for what came while its streams were linked; null once that is done.
    changed_at timestamptz default clock_timestamp(),
    generation bigint not null default 0,
    wake_id text,
    holder text,
    lease_until timestamptz,
    -- Attempts that have failed one after the other.
    failures integer not null default 0,
    next_attempt_at timestamptz,
    -- Who makes an attempt right now.
    sender uuid,
    primary key (environment_id, id)
) with (fillfactor = 70);

create index subscriptions_attempt_index on pgtide.subscriptions (next_attempt_at)
    where next_attempt_at is not null;
create index subscriptions_lease_index on pgtide.subscriptions (lease_until)
    where lease_until is not null;

-- The streams of subscriptions, and how far each has got.
create table pgtide.subscription_streams (
    environment_id text not null,
    subscription_id text not null,
    path text not null check (path <> '' and octet_length(path) <= 1024),
    -- It was named, or matches the pattern, or both.
    explicit boolean not null,
    matched boolean not null,
    -- Which stream the positions are of: under the same path there may be another one by now, and then
    -- they count no more.
    stream_id bigint,
    -- What comes before this position is done; -1 before anything is.
    acked bigint not null default -1 check (acked >= -1),
    -- Where it ends, as far as the log has told; the table may tell later.
    seen bigint not null default 0,
    -- Where it ended when a worker was told last.
    told bigint,
    primary key (environment_id, subscription_id, path),
    foreign key (environment_id, subscription_id)
        references pgtide.subscriptions on delete cascade
) with (fillfactor = 70);

-- Together with what only the server knows, what webhooks are signed with. Of one row.
create table pgtide.webhook_seed (
    one boolean primary key default true check (one),
    seed text not null
);

-- The streams of a subscription that there are, or that were named: how far it has got, and where they
-- end. `stream_id` is null for those that are not there (any more).
create function pgtide.subscription_links(environment text, subscription text)
returns table (path text, explicit boolean, stream_id bigint, acked bigint, tail bigint, told bigint)
language sql stable
as $$
    select link.path, link.explicit, stream.id,
        case when link.stream_id = stream.id then link.acked else -1 end,
        case when link.stream_id = stream.id then greatest(stream.tail, link.seen) else stream.tail end,
        case when link.stream_id = stream.id then link.told end
    from pgtide.subscription_streams as link
    left join pgtide.streams as stream
        on stream.environment_id = link.environment_id and stream.path = link.path
        and stream.deleted_at is null
        and (stream.expires_at is null or stream.expires_at > clock_timestamp())
    where link.environment_id = environment and link.subscription_id = subscription
        and (link.explicit or stream.id is not null)
$$;

-- Tells all nodes that subscriptions have changed (`what` 0), or when they are due (-1): no stream has
-- these ids.
create function pgtide.subscription_notice(what integer) returns void
language sql
as $$
    select pgtide.stream_notice(what, 0, 0, 0, clock_timestamp(), '')
$$;

comment on function pgtide.subscription_links(text, text) is 'Used by the nodes.';
comment on function pgtide.subscription_notice(integer) is 'Used by the nodes.';
