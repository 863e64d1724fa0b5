// ShapeStream and Shape of @electric-sql/client: what a program that follows a table relies on.

import { FetchError, createColumnMapper, snakeCamelMapper } from "@electric-sql/client"
import {
  assert, ask, changes, controls, inBothModes, operations, sleep, sorted, sql, test, until, url,
} from "./world.mjs"

inBothModes("an empty table: two requests, then one that waits", async (place, liveSse) => {
  const table = await place.table()
  const stream = place.follow({ table, liveSse })
  await until(() => stream.requests.length >= 3)
  await sleep(1000)
  const [first, second, third, ...more] = stream.requests
  assert.deepEqual([first.offset, first.live, second.offset, second.live], ["-1", undefined, "0_0", undefined])
  assert.equal(third.live, "true")
  assert.equal(third.cursor, "")
  assert.deepEqual(more, [])
  assert.deepEqual(controls(stream.messages), ["snapshot-end", "up-to-date"])
  assert(stream.isConnected() && !stream.isLoading())
})

inBothModes("rows, then changes", async (place, liveSse) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'one'), (2, 'two')`)
  const shape = place.shape({ table, liveSse })
  const one = { id: 1, title: "one", priority: 10 }
  assert.deepEqual(sorted(await shape.rows), [one, { id: 2, title: "two", priority: 10 }])
  await sql(`update ${table} set title = 'changed' where id = 1`)
  await sql(`insert into ${table} values (3, 'three'); delete from ${table} where id = 2`)
  const expected = [{ ...one, title: "changed" }, { id: 3, title: "three", priority: 10 }]
  await until(() => assert.deepEqual(sorted(shape.currentRows), expected) ?? true)
  assert.equal(shape.error, false)
})

inBothModes("an update has the key and what changed", async (place, liveSse) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'one')`)
  const stream = place.follow({ table, liveSse })
  await until(() => stream.isUpToDate)
  await sql(`update ${table} set title = 'changed'`)
  await sql(`delete from ${table}`)
  await until(() => changes(stream.messages).length === 3)
  const [, update, gone] = changes(stream.messages)
  assert.deepEqual(update.value, { id: 1, title: "changed" })
  assert.deepEqual(gone.value, { id: 1 })
  assert.equal(update.key, `${table}/"1"`)
  assert.equal(update.headers.last, true)
})

inBothModes("replica=full has whole rows and what they were", async (place, liveSse) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'one')`)
  const stream = place.follow({ table, liveSse, params: { replica: "full" } })
  await until(() => stream.isUpToDate)
  await sql(`update ${table} set title = 'changed'`)
  await sql(`delete from ${table}`)
  await until(() => changes(stream.messages).length === 3)
  const [, update, gone] = changes(stream.messages)
  const row = { id: 1, title: "changed", priority: 10 }
  assert.deepEqual([update.value, gone.value], [row, row])
  assert.deepEqual(update.old_value, { title: "one" })
})

inBothModes("a filter with parameters, rows moving in and out", async (place, liveSse) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'foo', 1), (2, 'bar', 1), (3, 'food', 9)`)
  const where = "title LIKE 'foo%' AND priority < $1"
  const stream = place.follow({ table, liveSse, params: { where, params: ["5"] } })
  await until(() => stream.isUpToDate)
  await sql(`update ${table} set title = 'foo2' where id = 2`)
  await sql(`update ${table} set priority = 5 where id = 1`)
  await sql(`update ${table} set title = 'fool' where id = 3`)
  await sql(`update ${table} set title = 'food2' where id = 2`)
  await until(() => changes(stream.messages).length === 4)
  assert.deepEqual(
    changes(stream.messages).map((one) => [one.headers.operation, one.value.id]),
    [["insert", 1], ["insert", 2], ["delete", 1], ["update", 2]],
  )
})

inBothModes("columns with names that need quotes", async (place, liveSse) => {
  const table = await place.table(`id int primary key, "Na, me" text, "say ""it""" int, other int`)
  await sql(`insert into ${table} values (1, 'a', 2, 3)`)
  const columns = ["id", "Na, me", 'say "it"']
  const shape = place.shape({ table, liveSse, params: { columns } })
  const row = { id: 1, "Na, me": "a", 'say "it"': 2 }
  assert.deepEqual(await shape.rows, [row])
  await sql(`update ${table} set other = 4`)
  await sql(`update ${table} set "Na, me" = 'b', other = 5`)
  await until(() => shape.currentRows[0]["Na, me"] === "b")
  assert.deepEqual(shape.currentRows, [{ ...row, "Na, me": "b" }])
})

inBothModes("a client that was away gets what it missed, once", async (place, liveSse) => {
  const table = await place.table()
  await sql(`insert into ${table} select i, 'old' from generate_series(1, 3) i`)
  const before = place.follow({ table, subscribe: false })
  await until(() => before.isUpToDate)
  await sql(`insert into ${table} select i, 'new' from generate_series(4, 12) i`)
  const { lastOffset: offset, shapeHandle: handle } = before
  assert.equal(before.requests.length, 2)
  const after = place.follow({ table, liveSse, offset, handle })
  await until(() => after.isUpToDate)
  await until(() => changes(after.messages).length >= 9)
  assert.deepEqual(changes(after.messages).map((one) => one.value.id), [4, 5, 6, 7, 8, 9, 10, 11, 12])
  assert.equal(after.shapeHandle, handle)
})

inBothModes("offset=now skips what there is", async (place, liveSse) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'old')`)
  const shape = place.shape({ table, liveSse, offset: "now" })
  assert.deepEqual(await shape.rows, [])
  await sql(`insert into ${table} values (2, 'new')`)
  await until(() => shape.currentRows.length === 1)
  assert.deepEqual(shape.currentRows, [{ id: 2, title: "new", priority: 10 }])
})

inBothModes("nothing is asked for while a subscriber is busy", async (place, liveSse) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'one')`)
  const stream = place.stream({ table, liveSse })
  let release
  const busy = new Promise((resolve) => (release = resolve))
  const seen = []
  stream.subscribe(async (messages) => {
    seen.push(...changes(messages))
    if (seen.length === 1) await busy
  })
  await until(() => seen.length === 1)
  const asked = stream.requests.length
  await sql(`insert into ${table} values (2, 'two')`)
  const other = place.shape({ table })
  await until(() => other.currentRows.length === 2)
  assert.equal(stream.requests.length, asked)
  release()
  await until(() => seen.length === 2)
})

inBothModes("a deleted shape: 200, 200, 409 and from the start", async (place, liveSse) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'one')`)
  let left = false
  const fetchClient = async (input, init) => {
    if (stream.requests.length === 3 && !left) {
      left = true
      await sql(`insert into ${table} values (2, 'two')`)
      assert.equal(await place.forget(table, stream.shapeHandle), 202)
    }
    return fetch(input, init)
  }
  const stream = place.stream({ table, liveSse, fetchClient })
  const handles = []
  stream.subscribe((messages) => {
    stream.messages.push(...messages)
    if (changes(messages).length) handles.push(stream.shapeHandle)
  })
  await until(() => controls(stream.messages).filter((one) => one === "up-to-date").length === 2)
  const [one, two, refused, anew] = stream.requests.map((request) => request.status)
  assert.deepEqual([one, two, refused, anew], [200, 200, 409, 200])
  assert.equal(stream.requests[3].offset, "-1")
  assert.notEqual(handles[0], handles[1])
  assert(controls(stream.messages).includes("must-refetch"))
  assert.deepEqual(sorted(changes(stream.messages).slice(1).map((one) => one.value)).map((row) => row.id), [1, 2])
})

inBothModes("a shape deleted while a client waits", async (place, liveSse) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'one')`)
  const shape = place.shape({ table, liveSse })
  await shape.rows
  const old = shape.handle
  await sql(`delete from ${table}; insert into ${table} values (2, 'two')`)
  await until(() => shape.currentRows[0]?.id === 2)
  assert.equal(await place.forget(table, old), 202)
  await until(() => shape.handle && shape.handle !== old)
  await until(() => shape.currentRows.length === 1)
  await sql(`insert into ${table} values (3, 'three')`)
  await until(() => assert.deepEqual(sorted(shape.currentRows).map((row) => row.id), [2, 3]) ?? true)
})

inBothModes("a forced refresh is not live and brings the news", async (place, liveSse) => {
  const table = await place.table()
  const stream = place.follow({ table, liveSse })
  await until(() => stream.requests.at(-1)?.live === "true")
  await sql(`insert into ${table} values (1, 'one')`)
  const before = stream.requests.length
  await stream.forceDisconnectAndRefresh()
  await until(() => changes(stream.messages).length === 1)
  const refreshes = stream.requests.slice(before).filter((request) => request.live === undefined)
  assert.equal(refreshes.length, 1)
  assert.equal(refreshes[0].status, 200)
  await until(() => stream.requests.at(-1).live === "true")
  assert.deepEqual(operations(stream.messages), ["insert"])
})

/** The body without the first event that says up-to-date; then `cut` is called. */
function withoutItsEnd(body, cut) {
  let rest = ""
  let done = false
  const events = new TransformStream({
    transform(text, controller) {
      const parts = (rest + text).split("\n\n")
      rest = parts.pop()
      for (const event of parts)
        if (done || !event.includes("up-to-date")) controller.enqueue(`${event}\n\n`)
        else (done = true), cut()
    },
  })
  return body.pipeThrough(new TextDecoderStream()).pipeThrough(events).pipeThrough(new TextEncoderStream())
}

test("an event stream that is cut before a batch's end loses nothing and repeats nothing", async (place) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'one')`)
  let refreshed
  const fetchClient = async (input, init) => {
    const answer = await fetch(input, init)
    if (!String(input).includes("live_sse") || refreshed) return answer
    const body = withoutItsEnd(answer.body, () => (refreshed = stream.forceDisconnectAndRefresh()))
    return new Response(body, answer)
  }
  const stream = place.follow({ table, liveSse: true, fetchClient })
  await until(() => stream.requests.at(-1)?.live_sse === "true")
  await sql(`insert into ${table} values (2, 'two')`)
  await until(() => refreshed !== undefined)
  await refreshed
  await sql(`insert into ${table} values (3, 'three')`)
  await until(() => changes(stream.messages).length >= 3)
  assert.deepEqual(changes(stream.messages).map((one) => one.value.id), [1, 2, 3])
  await until(() => stream.isConnected() && stream.isUpToDate)
})

inBothModes("a filter that is not SQL ends the stream with the server's words", async (place, liveSse) => {
  const table = await place.table()
  let told
  const onError = (error) => void (told = error)
  const stream = place.stream({ table, liveSse, params: { where: "1 x 1" }, onError })
  const error = await new Promise((_, reject) => stream.subscribe(() => {}, reject)).catch((e) => e)
  assert(error instanceof FetchError && error === told && stream.error === told)
  assert.equal(error.status, 400)
  assert.deepEqual(error.json, {
    message: "Invalid request",
    errors: { where: ['At location 17: syntax error at or near "x"'] },
  })
  assert(!stream.isConnected())
})

inBothModes("onError puts the parameters right", async (place, liveSse) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'one')`)
  const problems = []
  const onError = (error) => {
    problems.push(error.json.errors)
    return { params: { where: "id = 1" } }
  }
  const shape = place.shape({ table, liveSse, params: { where: "nothing = 1" }, onError })
  assert.deepEqual((await shape.rows).map((row) => row.id), [1])
  assert.equal(problems.length, 1)
  assert.equal(typeof problems[0].where[0], "string")
})

test("a table that does not exist", async (place) => {
  const stream = place.stream({ table: "nowhere", onError: () => {} })
  const error = await new Promise((_, reject) => stream.subscribe(() => {}, reject)).catch((e) => e)
  assert.equal(error.status, 400)
  assert.match(error.json.errors.table[0], /^Table "public"."nowhere" does not exist/)
})

test("parameters and headers of one's own change nothing", async (place) => {
  const table = await place.table()
  const params = { mine: async () => "a b", more: ["c", "d"] }
  const headers = { "X-Mine": async () => "1", authorization: "Bearer nothing" }
  const one = place.follow({ table, params, headers })
  const two = place.follow({ table })
  await until(() => one.isUpToDate && two.isUpToDate)
  assert.equal(one.shapeHandle, two.shapeHandle)
  assert.equal(one.requests[0].mine, "a b")
})

/** Fails unless all bodies but the smallest, which ends a batch, have about the size of a chunk. */
function aboutAChunk(sizes) {
  assert(sizes.length >= 3, `${sizes}`)
  const [last, ...others] = [...sizes].sort((a, b) => a - b)
  assert(last < 11_000, `${sizes}`)
  for (const size of others) assert(Math.abs(size - 10_000) < 2_000, `${sizes}`)
}

/** A fetch that notes the sizes of the bodies that have changes in them. */
function measured() {
  const sizes = []
  const fetchClient = async (input, init) => {
    const response = await fetch(input, init)
    const text = await response.clone().text()
    if (response.status === 200 && changes(JSON.parse(text)).length) sizes.push(text.length)
    return response
  }
  return { sizes, fetchClient }
}

const INSERT = "select i, repeat('x', 1000) from generate_series($1::int, $2) i"

test("chunks of a snapshot and of the log are asked for ahead of time", async (place) => {
  const table = await place.table()
  await sql(`insert into ${table} ${INSERT}`, [1, 35])
  const { sizes, fetchClient } = measured()
  const first = place.follow({ table, subscribe: false, fetchClient })
  await until(() => first.isUpToDate)
  assert.equal(changes(first.messages).length, 35)
  aboutAChunk(sizes)
  const state = { offset: first.lastOffset, handle: first.shapeHandle }
  // Once somebody else has read it all, it is there for the one who comes back.
  const other = place.shape({ table })
  await sql(`insert into ${table} ${INSERT}`, [36, 70])
  await until(() => other.currentRows.length === 70)
  const again = measured()
  const second = place.follow({ table, subscribe: false, fetchClient: again.fetchClient, ...state })
  await until(() => second.isUpToDate)
  assert.deepEqual(changes(second.messages).map((one) => one.value.id), Array.from({ length: 35 }, (_, at) => at + 36))
  aboutAChunk(again.sizes)
})

test("a live answer is no larger than a chunk", async (place) => {
  const table = await place.table()
  const { sizes, fetchClient } = measured()
  const stream = place.follow({ table, fetchClient })
  await until(() => stream.requests.at(-1)?.live === "true")
  await sql(`insert into ${table} ${INSERT}`, [1, 35])
  await until(() => changes(stream.messages).length === 35)
  assert.deepEqual(changes(stream.messages).map((one) => one.value.id), Array.from({ length: 35 }, (_, at) => at + 1))
  aboutAChunk(sizes)
})

test("a column mapper, a transformer and parsers of one's own", async (place) => {
  const table = await place.table("id int primary key, full_name text, paid_in numeric(8,2), seen_at timestamptz")
  await sql(`insert into ${table} values (1, 'Ada', 12.5, '2026-03-01 10:00+00'), (2, 'Bob', 1, null)`)
  const shape = place.shape({
    table,
    params: { where: "fullName = 'Ada' OR paidIn > 100", columns: ["id", "fullName", "paidIn", "seenAt"] },
    columnMapper: snakeCamelMapper(),
    parser: { numeric: Number, timestamptz: (text) => new Date(text) },
    transformer: (row) => ({ ...row, greeting: `hi ${row.fullName}` }),
  })
  const row = { id: 1, fullName: "Ada", paidIn: 12.5, seenAt: new Date("2026-03-01T10:00:00Z"), greeting: "hi Ada" }
  assert.deepEqual(await shape.rows, [row])
  const mapped = place.shape({
    table,
    params: { where: "who = 'Ada'" },
    columnMapper: createColumnMapper({ full_name: "who" }),
  })
  assert.equal((await mapped.rows)[0].who, "Ada")
})

test("bodies that were read already end the stream, not the server", async (place) => {
  const table = await place.table()
  const fetchClient = async (input, init) => {
    const response = await fetch(input, init)
    await response.text()
    return response
  }
  const stream = place.stream({ table, params: { where: "1=1" }, fetchClient, onError: () => {} })
  const error = await new Promise((_, reject) => stream.subscribe(() => {}, reject)).catch((e) => e)
  assert.match(error.message, /Body has already been read|unusable/)
  assert.equal((await ask({ table, where: "1=1", offset: "-1" })).status, 200)
})

test("a client that pauses goes on from where it was", async (place) => {
  const table = await place.table()
  let look
  const runtimeVisibility = { getCurrentState: () => "visible", subscribe: (tell) => ((look = tell), () => {}) }
  const stream = place.follow({ table, runtimeVisibility })
  await until(() => stream.requests.at(-1)?.live === "true")
  look("hidden")
  await until(() => stream.isPaused())
  await sql(`insert into ${table} values (1, 'one')`)
  const asked = stream.requests.length
  const other = place.shape({ table })
  await until(() => other.currentRows.length === 1)
  assert.equal(stream.requests.length, asked)
  look("visible")
  await until(() => changes(stream.messages).length === 1)
  assert.equal(stream.requests[asked].live, undefined)
})

test("the same address for the same state", async (place) => {
  const table = await place.table()
  const asked = []
  const fetchClient = (input, init) => (asked.push(String(input)), fetch(input, init))
  const one = place.follow({ table, fetchClient, subscribe: false })
  await until(() => one.isUpToDate)
  const two = place.follow({ table, fetchClient, subscribe: false })
  await until(() => two.isUpToDate)
  assert.deepEqual(asked.slice(0, 2), asked.slice(2))
  assert(asked.every((address) => address.startsWith(url)))
})
