// What the columns of pgtide.runs become on the SDK's run object. The database's time zone is not UTC.

import { runs } from "@trigger.dev/sdk"
import { stringifyIO } from "@trigger.dev/core/v3"
import { assert, change, ended, finish, first, follow, run, sql, test, until } from "./world.mjs"

test("the database is elsewhere", async () => {
  const [{ zone }] = await sql("select extract(timezone from timestamptz '2026-01-01Z')::int as zone")
  assert.equal(zone, -12600)
})

const WORDS = {
  DELAYED: "isQueued", QUEUED: "isQueued", PENDING_VERSION: "isQueued", DEQUEUED: "isExecuting", EXECUTING: "isExecuting",
  WAITING: "isWaiting", COMPLETED: "isSuccess", FAILED: "isFailed", CANCELED: "isCancelled", CRASHED: "isFailed",
  SYSTEM_FAILURE: "isFailed", EXPIRED: "isFailed", TIMED_OUT: "isFailed",
}

test("every status, as first answer, as change, and from runs.retrieve", async (place) => {
  await Promise.all(
    Object.entries(WORDS).map(async ([status, flag]) => {
      const changing = await run()
      const seen = follow(runs.subscribeToRun(changing, { signal: place.signal }))
      await until(() => seen.last)
      await change(changing, "status = $2", status)
      const got = await first(await run({ status }))
      assert.equal(got.status, status)
      assert(got[flag], `${status} is not ${flag}`)
      if (status !== "QUEUED") await until(() => seen.last.status === status && seen.last[flag])
      const final = got.isCompleted || got.isCancelled
      assert.equal(got.finishedAt instanceof Date, final)
      if (final) await ended(seen)
      const retrieved = await runs.retrieve(changing)
      assert.equal(retrieved.status, status)
      assert(retrieved[flag])
    }),
  )
})

const TIMES = {
  created_at: "createdAt", updated_at: "updatedAt", started_at: "startedAt", delay_until: "delayedUntil",
  queued_at: "queuedAt", completed_at: "finishedAt", expired_at: "expiredAt",
}

test("times are exact, from the snapshot and from the log", async (place) => {
  const [at] = await sql("select '2026-03-29T00:59:59.123456Z'::timestamptz as is")
  const columns = Object.fromEntries(Object.keys(TIMES).map((name) => [name, "2026-03-29T00:59:59.123456Z"]))
  const snapshot = await first(await run(columns))
  for (const name of Object.values(TIMES)) assert.equal(snapshot[name].toISOString(), at.is.toISOString(), name)
  const id = await run()
  const seen = follow(runs.subscribeToRun(id, { stopOnCompletion: false, signal: place.signal }))
  await until(() => seen.last)
  const given = Object.keys(TIMES).filter((name) => name !== "updated_at")
  await change(id, given.map((name) => `${name} = '2026-07-01 00:00:00.000001+05:45'`).join())
  await until(() => seen.rows.length === 2)
  for (const name of given) assert.equal(seen.last[TIMES[name]].toISOString(), "2026-06-30T18:15:00.000Z", name)
  const [{ now }] = await sql("select updated_at as now from pgtide.runs where id = $1", [id])
  assert.equal(seen.last.updatedAt.toISOString(), now.toISOString())
})

test("a run of which little is said", async () => {
  const got = await first(await run())
  assert.deepEqual(
    Object.fromEntries(Object.entries(got).filter(([name]) => !["id", "createdAt", "updatedAt", "queuedAt"].includes(name))),
    {
      taskIdentifier: "made-by-sql", status: "QUEUED", payload: undefined, output: undefined, durationMs: 0, costInCents: 0,
      baseCostInCents: 0, tags: [], idempotencyKey: undefined, expiredAt: undefined, finishedAt: undefined, startedAt: undefined,
      delayedUntil: undefined, error: undefined, isTest: false, metadata: {}, realtimeStreams: [], isQueued: true,
      isWaiting: false, isExecuting: false, isCompleted: false, isFailed: false, isSuccess: false, isCancelled: false,
    },
  )
})

test("numbers, flags, tags, and the rest", async () => {
  const odd = ["a,b", 'quo"te', "back\\slash", "{brace}", "", "NULL", "ünïcödé 🦊", " space "]
  const id = await run({
    usage_duration_ms: 2147483647, cost_in_cents: 0.1 + 0.2, base_cost_in_cents: 1e-7, is_test: true, number: 12,
    tags: odd, ttl: "10m", idempotency_key: "key", realtime_streams: [],
  })
  const got = await first(id)
  assert.deepEqual(got.tags, odd)
  assert.deepEqual(
    [got.durationMs, got.costInCents, got.baseCostInCents, got.isTest],
    [2147483647, 0.30000000000000004, 1e-7, true],
  )
})

const VALUES = {
  "an object": { a: [1, null, { b: "ü\u0001\"" }] },
  "null": null, "a number": 1.5, "false": false, "a text": "plain \"text\"", "an empty text": "", "a list": [],
  "dates, maps and more": {
    when: new Date("2026-01-01T10:00:00.123Z"), big: 9007199254740993n, map: new Map([["k", new Set([1, 2])]]), nothing: undefined,
    not: NaN, address: new URL("https://example.com/?a=b"), text: /ab+c/gi,
  },
}

for (const [name, value] of Object.entries(VALUES))
  test(`payload and output: ${name}`, async (place) => {
    const { data, dataType } = await stringifyIO(value)
    const id = await run({ payload: data, payload_type: dataType })
    const seen = follow(runs.subscribeToRun(id, { signal: place.signal }))
    await until(() => seen.last)
    const expected = data === undefined || data === "" ? undefined : value
    assert.deepEqual(seen.last.payload, expected)
    await change(id, "status = 'COMPLETED', output = $2, output_type = $3", data, dataType)
    await ended(seen)
    assert.deepEqual(seen.last.output, expected)
    assert.deepEqual(seen.last.payload, expected)
  })

test("as JSON, as plain text, as something else", async () => {
  const types = [["application/json", '{"a":1}', { a: 1 }], ["text/plain", '{"a":1}', '{"a":1}'], ["text/csv", "a;b", "a;b"]]
  for (const [type, text, expected] of types) {
    const got = await first(await run({ payload: text, payload_type: type, output: text, output_type: type }))
    assert.deepEqual([got.payload, got.output], [expected, expected])
  }
})

const ERRORS = {
  BUILT_IN_ERROR: [
    { type: "BUILT_IN_ERROR", name: "TypeError", message: "no", stackTrace: "at line 1", causes: [{ message: "why", stackTrace: "at 2" }] },
    { name: "TypeError", message: "no", stackTrace: "at line 1", causes: [{ message: "why", stackTrace: "at 2" }] },
  ],
  CUSTOM_ERROR: [{ type: "CUSTOM_ERROR", raw: '{"code":7}' }, { message: '{"code":7}' }],
  STRING_ERROR: [{ type: "STRING_ERROR", raw: "no such image" }, { message: "no such image" }],
  INTERNAL_ERROR: [{ type: "INTERNAL_ERROR", code: "TASK_RUN_CRASHED", message: "m", stackTrace: "s" }, undefined],
}

for (const [type, [written, expected]] of Object.entries(ERRORS))
  test(`an error: ${type}`, async (place) => {
    const id = await run()
    const seen = follow(runs.subscribeToRun(id, { signal: place.signal }))
    await until(() => seen.last)
    await change(id, "status = 'FAILED', error = $2", written)
    await ended(seen)
    if (expected) assert.deepEqual(seen.last.error, expected)
    assert.equal(typeof seen.last.error.message, "string")
    assert.deepEqual((await first(id)).error, seen.last.error)
    assert.equal(typeof (await runs.retrieve(id)).error.message, "string")
  })

// A back end writes what it has; pgtide puts it into a form that clients can read.
const FREE = { "a text": '"it broke"', "an object": '{"message": "it broke", "code": 7}', "a number": "7", "a list": "[1]", "an unknown type": '{"type": "ODD"}' }

for (const [name, written] of Object.entries(FREE))
  test(`an error of one's own: ${name}`, async (place) => {
    const id = await run()
    const seen = follow(runs.subscribeToRun(id, { signal: place.signal }))
    await until(() => seen.last)
    await change(id, "status = 'FAILED', error = $2::jsonb", written)
    await ended(seen)
    assert.equal(typeof seen.last.error.message, "string")
  })

test("metadata: nested, large, replaced", async (place) => {
  const id = await run({ metadata: { steps: [{ done: true, at: null }], text: "ü".repeat(20000) } })
  const seen = follow(runs.subscribeToRun(id, { signal: place.signal }))
  await until(() => seen.last)
  assert.equal(seen.last.metadata.text.length, 20000)
  assert.deepEqual(seen.last.metadata.steps, [{ done: true, at: null }])
  await change(id, "metadata = metadata - 'text' || '{\"progress\":0.25,\"big\":12345678901234567890}'")
  await until(() => seen.last.metadata.progress === 0.25)
  assert.equal(seen.last.metadata.text, undefined)
  await finish(id)
  await ended(seen)
})
