// Shapes that begin empty and are filled piece by piece: log=changes_only, requestSnapshot, fetchSnapshot.

import { FetchError, snakeCamelMapper } from "@electric-sql/client"
import {
  assert, changes, controls, inBothModes, operations, sorted, sql, test, transaction, until,
} from "./world.mjs"

const ON_DEMAND = { log: "changes_only" }
const titles = (messages) => messages.map((one) => one.value.title)

/** Both ways of asking for a subset. */
function byBothMethods(name, body) {
  for (const subsetMethod of ["GET", "POST"])
    test(`${name} (${subsetMethod})`, (place) => body(place, subsetMethod))
}

inBothModes("it begins empty and has every change", async (place, liveSse) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'one')`)
  const shape = place.shape({ table, liveSse, ...ON_DEMAND })
  assert.deepEqual(await shape.rows, [])
  assert.equal(shape.mode, "changes_only")
  const messages = []
  shape.stream.subscribe((batch) => void messages.push(...batch))
  // Of a row that the client does not have, it ignores updates and deletes.
  await sql(`update ${table} set title = 'changed'`)
  await sql(`delete from ${table}`)
  await sql(`insert into ${table} values (2, 'two')`)
  await sql(`update ${table} set title = 'second'`)
  await until(() => shape.currentRows[0]?.title === "second")
  assert.deepEqual(operations(messages), ["update", "delete", "insert", "update"])
  assert.deepEqual(shape.currentRows, [{ id: 2, title: "second", priority: 10 }])
})

test("the log's first answers are empty but for the snapshot's end", async (place) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'one')`)
  const stream = place.follow({ table, ...ON_DEMAND })
  const full = place.follow({ table })
  await until(() => stream.isUpToDate && full.isUpToDate)
  assert.deepEqual(changes(stream.messages), [])
  assert.deepEqual(controls(stream.messages).slice(0, 2), ["snapshot-end", "up-to-date"])
  assert.notEqual(stream.shapeHandle, full.shapeHandle)
})

inBothModes("requestSnapshot fills the stream and is told where it ends", async (place, liveSse) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'a'), (2, 'b')`)
  const stream = place.follow({ table, liveSse, ...ON_DEMAND })
  await until(() => stream.isUpToDate)
  const { data, metadata } = await stream.requestSnapshot({ orderBy: "title ASC", limit: 100 })
  assert.deepEqual(titles(data), ["a", "b"])
  assert.deepEqual(titles(changes(stream.messages)), ["a", "b"])
  const { xmin, xmax, xip_list: running, database_lsn: lsn, snapshot_mark: mark } = metadata
  assert(BigInt(xmin) <= BigInt(xmax) && Array.isArray(running) && BigInt(lsn) > 0n)
  assert(data.every((one) => one.headers.snapshot_mark === mark && one.headers.operation === "insert"))
  const ends = stream.messages.filter((one) => one.headers.control === "snapshot-end")
  assert.deepEqual(ends.map((one) => one.headers.snapshot_mark), [undefined, mark])
  const upToDate = controls(stream.messages).indexOf("up-to-date")
  assert(upToDate >= 0 && upToDate < controls(stream.messages).lastIndexOf("snapshot-end"))
  // The stream goes on behind the subset.
  await sql(`update ${table} set title = 'after' where id = 1`)
  await until(() => changes(stream.messages).length === 3)
  assert.deepEqual(changes(stream.messages).at(-1).value, { id: 1, title: "after" })
})

byBothMethods("filters, order, limit and offset", async (place, subsetMethod) => {
  const table = await place.table()
  await sql(`insert into ${table} select i, chr(96 + i), i % 3 from generate_series(1, 9) i`)
  const stream = place.follow({ table, subsetMethod, ...ON_DEMAND })
  await until(() => stream.isUpToDate)
  const read = async (subset) => titles((await stream.fetchSnapshot(subset)).data)
  assert.equal((await read({ orderBy: "id", limit: 100 })).join(""), "abcdefghi")
  assert.equal((await read({ orderBy: "title DESC", limit: 2 })).join(""), "ih")
  assert.equal((await read({ orderBy: '"priority" DESC, "title"', limit: 4 })).join(""), "beha")
  assert.equal((await read({ orderBy: "priority DESC NULLS LAST, id", limit: 3, offset: 2 })).join(""), "had")
  assert.deepEqual(await read({ where: "title = 'b'" }), ["b"])
  assert.deepEqual(await read({ where: "title = $1 OR title = $2", params: { 1: "c", 2: "d" }, orderBy: "id" }), ["c", "d"])
  assert.deepEqual(await read({ where: "priority = $1 AND id > $2", params: { 1: "0", 2: "3" }, orderBy: "id" }), ["f", "i"])
  assert.deepEqual(await read({ where: "id = ANY($1)", params: { 1: "{1,9}" }, orderBy: "id" }), ["a", "i"])
  assert.equal((await read({ where: "true = true", params: {} })).length, 9)
  assert.deepEqual(await read({ where: "LOWER(title) LIKE $1", params: { 1: "%A%" } }), [])
  assert.deepEqual(await read({ where: "UPPER(title) LIKE $1", params: { 1: "%A%" } }), ["a"])
  assert.deepEqual(await read({ where: "false" }), [])
  assert.deepEqual(changes(stream.messages), [])
})

byBothMethods("the shape's own filter holds in its subsets", async (place, subsetMethod) => {
  const table = await place.table()
  await sql(`insert into ${table} select i, chr(96 + i), i % 3 from generate_series(1, 9) i`)
  const params = { where: "priority = 1 OR priority = $1", params: ["2"], columns: ["id", "title"] }
  const stream = place.follow({ table, params, subsetMethod, ...ON_DEMAND })
  const { data } = await stream.requestSnapshot({ where: "id > $1 OR id = $2", params: { 1: "5", 2: "3" }, orderBy: "id" })
  assert.deepEqual(data.map((one) => one.value), [{ id: 7, title: "g" }, { id: 8, title: "h" }])
})

byBothMethods("before anything else was asked", async (place, subsetMethod) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'a')`)
  const stream = place.stream({ table, subsetMethod, offset: "now", ...ON_DEMAND })
  const { data, responseOffset, responseHandle } = await stream.fetchSnapshot({ where: "id = 1" })
  assert.deepEqual(titles(data), ["a"])
  assert(responseHandle && responseOffset)
  // A client that starts from there has what happened since, and nothing else.
  await sql(`insert into ${table} values (2, 'b')`)
  const next = place.follow({ table, offset: responseOffset, handle: responseHandle, ...ON_DEMAND })
  await until(() => changes(next.messages).length === 1)
  assert.deepEqual(titles(changes(next.messages)), ["b"])
  assert.deepEqual(next.requests.map((request) => request.status).filter((status) => status === 409), [])
})

byBothMethods("the answer's headers", async (place, subsetMethod) => {
  const table = await place.table()
  const stream = place.follow({ table, subsetMethod, ...ON_DEMAND })
  await until(() => stream.isUpToDate)
  await stream.fetchSnapshot({ where: "id = 1", orderBy: "id", limit: 1 })
  const { headers, method } = stream.requests.find((one) => one.method === "POST" || one.subset__where)
  assert.equal(method, subsetMethod)
  assert.equal(headers.get("cache-control"), "no-cache")
  assert.equal(headers.get("electric-snapshot"), "true")
  assert.equal(headers.get("electric-handle"), stream.shapeHandle)
  assert.deepEqual(Object.keys(JSON.parse(headers.get("electric-schema"))).sort(), ["id", "priority", "title"])
  assert.match(headers.get("electric-offset"), /^\d+_(\d+|inf)$/)
})

byBothMethods("refused subsets", async (place, subsetMethod) => {
  const table = await place.table()
  const stream = place.follow({ table, subsetMethod, ...ON_DEMAND })
  await until(() => stream.isUpToDate)
  const problem = async (subset) => {
    const error = await stream.fetchSnapshot(subset).then(() => assert.fail("it was answered"), (caught) => caught)
    assert(error instanceof FetchError, `${error}`)
    assert.equal(error.status, 400)
    assert.equal(error.json.message, "Invalid request")
    return error.json.errors.subset
  }
  assert.deepEqual(await problem({ limit: 5 }), { order_by: ["order_by is required when limit or offset is present"] })
  assert.deepEqual(await problem({ orderBy: "id", limit: 0 }), { limit: ["must be greater than 0"] })
  assert.deepEqual(await problem({ orderBy: "id", offset: -1 }), { offset: ["must be greater than or equal to 0"] })
  for (const where of ["nothing = 1", "id", "id = ", "id IN (SELECT 1)"])
    assert.equal(typeof (await problem({ where })).where[0], "string")
  assert.equal(typeof (await problem({ orderBy: "nothing", limit: 1 })).order_by[0], "string")
  assert.equal(typeof (await problem({ orderBy: "id; drop table x", limit: 1 })).order_by[0], "string")
  // Nothing of it disturbed the stream.
  await sql(`insert into ${table} values (1, 'a')`)
  await until(() => changes(stream.messages).length === 1)
})

test("a literal that Postgres refuses is told as it told it", async (place) => {
  await sql("do $$ begin create type weather as enum ('sun', 'rain'); exception when duplicate_object then null; end $$")
  const table = await place.table("id int primary key, sky weather")
  await sql(`insert into ${table} values (1, 'sun'), (2, 'rain')`)
  const stream = place.stream({ table, ...ON_DEMAND })
  const { data } = await stream.fetchSnapshot({ where: "sky = $1", params: { 1: "sun" } })
  assert.deepEqual(data.map((one) => one.value), [{ id: 1, sky: "sun" }])
  const error = await stream.fetchSnapshot({ where: "sky = $1", params: { 1: "snow" } }).catch((caught) => caught)
  assert.equal(error.status, 400)
  assert.match(JSON.stringify(error.json.errors.subset.where), /snow/)
})

test("hundreds of parameters go into a body", async (place) => {
  const table = await place.table()
  await sql(`insert into ${table} select i, 'x' from generate_series(1, 2000) i`)
  const stream = place.stream({ table, subsetMethod: "POST", ...ON_DEMAND })
  const ids = Array.from({ length: 1000 }, (_, at) => at * 2 + 1)
  const params = Object.fromEntries(ids.map((id, at) => [at + 1, String(id)]))
  const where = `id IN (${ids.map((_, at) => `$${at + 1}`)})`
  const { data } = await stream.fetchSnapshot({ where, params })
  assert.deepEqual(data.map((one) => one.value.id).sort((a, b) => a - b), ids)
})

test("names are mapped in subsets too", async (place) => {
  const table = await place.table("id int primary key, full_name text")
  await sql(`insert into ${table} values (1, 'Ada'), (2, 'Bob')`)
  const stream = place.stream({ table, columnMapper: snakeCamelMapper(), ...ON_DEMAND })
  const column = { type: "ref", column: "fullName" }
  const { data } = await stream.fetchSnapshot({
    whereExpr: { type: "func", name: "eq", args: [column, { type: "val", paramIndex: 1 }] },
    params: { 1: "Ada" },
    orderByExpr: [{ column: "fullName", direction: "desc", nulls: "last" }],
    limit: 5,
  })
  assert.deepEqual(data.map((one) => one.value), [{ id: 1, fullName: "Ada" }])
})

inBothModes("a change committed after the subset was read comes once", async (place, liveSse) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'base')`)
  const stream = place.follow({ table, liveSse, ...ON_DEMAND })
  await until(() => stream.isUpToDate)
  const subset = { where: "id = $1", params: { 1: "1" }, orderBy: "id", limit: 10 }
  await transaction(async (run) => {
    await run(`update ${table} set title = 'inside'`)
    const { data } = await stream.requestSnapshot(subset)
    assert.deepEqual(titles(data), ["base"])
  })
  await until(() => operations(stream.messages).includes("update"))
  // And one from before it does not come again.
  await sql(`update ${table} set title = 'seen'`)
  const { data } = await stream.requestSnapshot(subset)
  assert.deepEqual(titles(data), ["seen"])
  await sql(`update ${table} set priority = 11`)
  await until(() => changes(stream.messages).at(-1)?.value.priority === 11 && operations(stream.messages).at(-1) === "update")
  const rows = new Map()
  for (const { key, value } of changes(stream.messages)) rows.set(key, { ...rows.get(key), ...value })
  assert.deepEqual([...rows.values()], [{ id: 1, title: "seen", priority: 11 }])
})

inBothModes("writers all the while: each row is what it is in the database", async (place, liveSse) => {
  const table = await place.table()
  await sql(`insert into ${table} select i, 'start', 0 from generate_series(1, 30) i`)
  const shape = place.shape({ table, liveSse, ...ON_DEMAND })
  await shape.rows
  const statements = [
    `update ${table} set priority = priority + 1, title = $2 where id = $1`,
    `delete from ${table} where id = $1 and title <> $2`,
    `insert into ${table} values ($1, $2, 0) on conflict (id) do update set title = excluded.title`,
    `update ${table} set title = $2 where id = $1`,
  ]
  let writing = true
  const write = async (writer) => {
    for (let turn = writer; writing; turn += 7) {
      const [statement, values] = [statements[turn % 4], [1 + (turn % 30), `t${turn}`]]
      await transaction((run) => run(statement, values))
    }
  }
  const writers = [0, 1, 2, 3].map(write)
  for (let turn = 0; turn < 40; turn++) {
    const page = { where: "id > $1", params: { 1: `${turn % 30}` }, orderBy: "id", limit: 10 }
    const before = shape.lastOffset
    await shape.requestSnapshot(turn % 2 ? { where: "true = true" } : page)
    // The client takes many requests at one offset for a loop.
    await until(() => shape.lastOffset !== before)
  }
  writing = false
  await Promise.all(writers)
  const expected = await sql(`select id, title, priority from ${table} order by id`)
  await until(() => assert.deepEqual(sorted(shape.currentRows), expected) ?? true)
})

inBothModes("after a rotation the subsets are asked for again", async (place, liveSse) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'one'), (2, 'two')`)
  const shape = place.shape({ table, liveSse, ...ON_DEMAND })
  await shape.requestSnapshot({ orderBy: "title ASC", limit: 100 })
  await until(() => shape.currentRows.length === 2)
  await sql(`truncate ${table}; insert into ${table} values (1, 'one'), (3, 'three')`)
  await until(() => assert.deepEqual(titles(sorted(shape.currentRows).map((value) => ({ value }))), ["one", "three"]) ?? true)
})

byBothMethods("a subset of a shape that has ended meanwhile", async (place, subsetMethod) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'one')`)
  const stream = place.stream({ table, subsetMethod, subscribe: false, ...ON_DEMAND })
  stream.subscribe(() => {})
  await until(() => stream.isUpToDate)
  const old = stream.shapeHandle
  await sql(`truncate ${table}; insert into ${table} values (2, 'two')`)
  const read = async () => titles((await stream.fetchSnapshot({ where: "true = true" })).data)
  await until(async () => assert.deepEqual(await read(), ["two"]) ?? true)
  await until(async () => (await read(), stream.shapeHandle !== old))
  assert.deepEqual(await read(), ["two"])
  const statuses = stream.requests.map((request) => request.status)
  assert(statuses.filter((status) => status === 409).length === 1, `${statuses}`)
})
