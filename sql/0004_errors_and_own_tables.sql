-- Errors in the form that clients parse, and the run triggers for tables of your own.

-- The codes that clients know of an error of the type INTERNAL_ERROR.
create function pgtide.is_error_code(code text) returns boolean
language sql immutable parallel safe
as $$
    select coalesce(code in (
        'COULD_NOT_FIND_EXECUTOR', 'COULD_NOT_FIND_TASK', 'COULD_NOT_IMPORT_TASK',
        'CONFIGURED_INCORRECTLY', 'TASK_ALREADY_RUNNING', 'TASK_EXECUTION_FAILED',
        'TASK_EXECUTION_ABORTED', 'TASK_PROCESS_EXITED_WITH_NON_ZERO_CODE',
        'TASK_PROCESS_SIGKILL_TIMEOUT', 'TASK_PROCESS_SIGSEGV', 'TASK_PROCESS_SIGTERM',
        'TASK_PROCESS_OOM_KILLED', 'TASK_PROCESS_MAYBE_OOM_KILLED', 'TASK_RUN_CANCELLED',
        'TASK_INPUT_ERROR', 'TASK_OUTPUT_ERROR', 'TASK_MIDDLEWARE_ERROR', 'HANDLE_ERROR_ERROR',
        'GRACEFUL_EXIT_TIMEOUT', 'TASK_RUN_HEARTBEAT_TIMEOUT', 'TASK_RUN_CRASHED',
        'TASK_RUN_UNCAUGHT_EXCEPTION', 'MAX_DURATION_EXCEEDED', 'DISK_SPACE_EXCEEDED',
        'POD_EVICTED', 'POD_UNKNOWN_ERROR', 'TASK_HAS_N0_EXECUTION_SNAPSHOT',
        'TASK_DEQUEUED_INVALID_STATE', 'TASK_DEQUEUED_QUEUE_NOT_FOUND',
        'TASK_RUN_DEQUEUED_MAX_RETRIES', 'TASK_RUN_STALLED_EXECUTING',
        'TASK_RUN_STALLED_EXECUTING_WITH_WAITPOINTS', 'OUTDATED_SDK_VERSION',
        'TASK_DID_CONCURRENT_WAIT', 'RECURSIVE_WAIT_DEADLOCK', 'BATCH_ITEM_COULD_NOT_TRIGGER',
        'PAYLOAD_TOO_LARGE', 'UNSPECIFIED_ERROR'
    ), false)
$$;

-- A JSON value as a text: texts as they are, others as JSON; null stays null.
create function pgtide.json_text(value jsonb) returns text
language sql immutable parallel safe
as $$
    select value #>> '{}'
$$;

-- Why a run failed, in one of the forms that clients can parse. They take nothing else: a text
-- becomes {"type": "STRING_ERROR", "raw": …}, an object with a name or a message
-- {"type": "BUILT_IN_ERROR", …}, and what is in one of the forms already only gets what it lacks.
create function pgtide.run_error(error jsonb) returns jsonb
language plpgsql immutable parallel safe
as $$
declare
    kind text := error ->> 'type';
    message text := pgtide.json_text(error -> 'message');
    stack text := coalesce(
        pgtide.json_text(error -> 'stackTrace'), pgtide.json_text(error -> 'stack'),
        pgtide.json_text(error -> 'stack_trace'), pgtide.json_text(error -> 'traceback')
    );
    causes jsonb;
begin
    if error is null or jsonb_typeof(error) = 'null' then
        return null;
    elsif jsonb_typeof(error) <> 'object' then
        return jsonb_build_object('type', 'STRING_ERROR', 'raw', pgtide.json_text(error));
    elsif kind in ('STRING_ERROR', 'CUSTOM_ERROR') then
        return jsonb_build_object(
            'type', kind, 'raw', coalesce(pgtide.json_text(error -> 'raw'), message, (error - 'type')::text)
        );
    elsif kind = 'INTERNAL_ERROR' then
        if not pgtide.is_error_code(error ->> 'code') then
            message := concat_ws(': ', pgtide.json_text(error -> 'code'), message);
            error := error || '{"code": "UNSPECIFIED_ERROR"}';
        end if;
        return jsonb_strip_nulls(jsonb_build_object(
            'type', kind, 'code', error -> 'code', 'message', message, 'stackTrace', stack
        ));
    elsif kind = 'BUILT_IN_ERROR' or error ? 'message' or error ? 'name' then
        if jsonb_typeof(error -> 'causes') = 'array' then
            select jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                'name', pgtide.json_text(cause -> 'name'),
                'message', coalesce(pgtide.json_text(cause -> 'message'), pgtide.json_text(cause)),
                'stackTrace', pgtide.json_text(cause -> 'stackTrace')
            )) order by place)
            into causes
            from jsonb_array_elements(error -> 'causes') with ordinality as found (cause, place)
            where jsonb_typeof(cause) <> 'null';
        end if;
        return jsonb_strip_nulls(jsonb_build_object(
            'type', 'BUILT_IN_ERROR',
            'name', coalesce(pgtide.json_text(error -> 'name'), 'Error'),
            'message', coalesce(message, ''),
            'stackTrace', coalesce(stack, ''),
            'causes', causes
        ));
    end if;
    return jsonb_build_object('type', 'STRING_ERROR', 'raw', error::text);
end
$$;

-- As in 0001, and errors get the form that clients parse.
create or replace function pgtide.keep_run() returns trigger
language plpgsql
as $$
begin
    new.status := pgtide.run_status(new.status);
    if new.error is not null and (tg_op = 'INSERT' or new.error is distinct from old.error) then
        new.error := pgtide.run_error(new.error);
    end if;
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

-- The same for a table of your own that serves as runs: keeps the columns that it is told of.
--
--     create trigger keep before insert or update on jobs for each row
--     execute function pgtide.keep(
--         'status=state', 'updated_at=changed_at', 'completed_at=finished_at', 'error=failure',
--         'over=done,broken,stopped'
--     );
--
-- Each argument is a field and the table's column for it, or one word for both. `over` lists the
-- words of `status` that mean that a run is over; without it they are those of pgtide.is_final(),
-- in any spelling that pgtide.run_status() knows.
--
-- With every update: updated_at. When the status begins to mean that the run is over, and the writer
-- sets no time himself: completed_at; when it means that no more: null. And error as
-- pgtide.run_error() says; in a column of texts a text that is no JSON is taken for the message.
-- Columns may be timestamptz, or timestamp, which is then in UTC.
create function pgtide.keep() returns trigger
language plpgsql
as $$
declare
    argument text;
    field text;
    columns jsonb := '{}';
    over text[];
    present jsonb;
    before jsonb;
    changes jsonb := '{}';
    moment text := to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
    is_over boolean;
    was_over boolean := false;
    problem jsonb;
begin
    foreach argument in array tg_argv loop
        field := split_part(argument, '=', 1);
        if field = 'over' then
            over := string_to_array(substr(argument, 6), ',');
        elsif field in ('status', 'updated_at', 'completed_at', 'error') then
            columns := columns || jsonb_build_object(
                field, coalesce(nullif(substr(argument, length(field) + 2), ''), field)
            );
        else
            raise exception 'pgtide.keep() does not know "%"', argument
                using hint = 'Arguments are status, updated_at, completed_at, error and over.';
        end if;
    end loop;
    -- Only the columns in question: others may be large.
    execute pgtide.kept_columns(columns) using new into present;
    if tg_op = 'UPDATE' then
        execute pgtide.kept_columns(columns) using old into before;
        if columns ? 'updated_at' then
            changes := changes || jsonb_build_object(columns ->> 'updated_at', moment);
        end if;
    end if;
    if columns ? 'error' and present -> 'error' is distinct from before -> 'error' then
        problem := present -> 'error';
        if jsonb_typeof(problem) = 'string' then
            -- Of a column of texts: its JSON, if it is any.
            begin
                problem := (problem #>> '{}')::jsonb;
            exception when invalid_text_representation or untranslatable_character then
                null;
            end;
        end if;
        changes := changes || jsonb_build_object(columns ->> 'error', pgtide.run_error(problem));
    end if;
    if columns ? 'status' and columns ? 'completed_at'
        and present -> 'status' is distinct from before -> 'status'
    then
        is_over := coalesce(pgtide.is_over(present ->> 'status', over), false);
        was_over := coalesce(pgtide.is_over(before ->> 'status', over), false);
        if is_over and present ->> 'completed_at' is null then
            changes := changes || jsonb_build_object(columns ->> 'completed_at', moment);
        elsif was_over and not is_over
            and present -> 'completed_at' is not distinct from before -> 'completed_at'
        then
            changes := changes || jsonb_build_object(columns ->> 'completed_at', null);
        end if;
    end if;
    if changes <> '{}' then
        new := jsonb_populate_record(new, changes);
    end if;
    return new;
end
$$;

-- Whether a table's own word means that a run is over. Used by keep().
create function pgtide.is_over(word text, words text[]) returns boolean
language sql immutable parallel safe
as $$
    select case
        when words is null then pgtide.is_final(pgtide.run_status(word))
        else word = any (words)
    end
$$;

-- The query that reads the kept columns of a row. Used by keep().
create function pgtide.kept_columns(columns jsonb) returns text
language sql immutable parallel safe
as $$
    select 'select jsonb_build_object(' || coalesce(
        string_agg(format('%L, ($1).%I', field, name), ', '), ''
    ) || ')'
    from jsonb_each_text(columns) as kept (field, name)
$$;

comment on function pgtide.is_error_code(text) is 'Whether clients know this code of an INTERNAL_ERROR.';
comment on function pgtide.json_text(jsonb) is 'A JSON value as a text.';
comment on function pgtide.run_error(jsonb) is 'An error in the form that clients parse.';
comment on function pgtide.keep() is
    'Trigger for tables that serve as runs: keeps updated_at and completed_at, and the form of errors.';
comment on function pgtide.is_over(text, text[]) is 'Used by pgtide.keep().';
comment on function pgtide.kept_columns(jsonb) is 'Used by pgtide.keep().';
