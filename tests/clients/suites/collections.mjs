// @tanstack/electric-db-collection: eager, on-demand and progressive collections, live queries, and
// mutations that are confirmed by the transaction's id.

import {
  BasicIndex, and, coalesce, concat, count, createCollection, createLiveQueryCollection, eq, gt, gte, ilike, inArray, isNull, length, like, lower,
  lt, lte, not, or, upper,
} from "@tanstack/db"
import { snakeCamelMapper } from "@electric-sql/client"
import { electricCollectionOptions, isChangeMessage } from "@tanstack/electric-db-collection"
import { assert, inBothModes, sorted, sql, test, transaction, until, url } from "./world.mjs"

// Otherwise what nobody subscribes to is emptied after five seconds: of waiting, too.
const NEVER = 0

const COLUMNS = `id int primary key, name text not null, age int, "isActive" bool not null default true,
  roles text[], "createdAt" timestamptz, big bigint, token uuid, rate numeric(6,2), nick text`
const NAMES = ["Ada", "bob", "Cyd", "dan", "Eve", "flo", "Gus", "hal", "Ida", "jon"]

async function people(place) {
  const table = await place.table(COLUMNS)
  for (const [at, name] of NAMES.entries())
    await sql(
      `insert into ${table} values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
      [
        at + 1, name, at === 9 ? null : 20 + at, at % 2 === 0, at % 3 ? ["user"] : ["admin", "it's"],
        `2026-01-${10 + at}T00:00:00Z`, `${9007199254740993n + BigInt(at)}`,
        `00000000-0000-4000-8000-00000000000${at}`, at / 4, name === "dan" ? "Xan" : null,
      ],
    )
  return table
}

// What queries with an order or a join need of a collection to load only what they show.
const INDEXED = { autoIndex: "eager", defaultIndexType: BasicIndex }

/** A collection over a table, its requests noted in `requests`. */
function collect(place, table, syncMode, { params = {}, shapeOptions = {}, ...options } = {}) {
  const requests = []
  const collection = createCollection(
    electricCollectionOptions({
      id: `${syncMode}-${Math.random()}`,
      syncMode,
      getKey: (row) => row.id,
      startSync: true,
      shapeOptions: {
        url,
        params: { table, ...params },
        signal: place.signal,
        fetchClient: async (input, init) => {
          const request = { ...Object.fromEntries(new URL(input).searchParams), status: 0 }
          requests.push(request)
          const response = await fetch(input, init)
          request.status = response.status
          return response
        },
        ...shapeOptions,
      },
      ...options,
    }),
  )
  collection.requests = requests
  collection.subsets = () => requests.filter((one) => one.subset__where)
  return collection
}

const ids = (rows) => [...rows].map((row) => row.id).sort((a, b) => a - b)

/** The ids that a live query has once it is ready; the query is ended then. */
async function ask(build) {
  const query = createLiveQueryCollection({ startSync: true, gcTime: NEVER, query: build })
  await query.preload()
  const found = ids(query.values())
  await query.cleanup()
  return found
}

test("eager: everything, then changes", async (place) => {
  const table = await people(place)
  const all = collect(place, table, "eager")
  await all.preload()
  assert.equal(all.size, 10)
  assert.equal(all.get(3).big, 9007199254740995n)
  assert.deepEqual(all.get(1).roles, ["admin", "it's"])
  await sql(`update ${table} set age = 99 where id = 1`)
  await sql(`delete from ${table} where id = 2; insert into ${table} (id, name) values (11, 'Kim')`)
  await until(() => all.get(11) && !all.has(2) && all.get(1).age === 99)
  assert.equal(all.get(1).name, "Ada")
  assert.deepEqual(all.subsets(), [])
})

test("on-demand: begins with nothing and loads what queries ask for", async (place) => {
  const table = await people(place)
  const some = collect(place, table, "on-demand")
  await until(() => some.isReady())
  assert.equal(some.size, 0)
  assert.deepEqual([some.requests[0].offset, some.requests[0].log], ["now", "changes_only"])
  const query = createLiveQueryCollection({
    startSync: true, gcTime: NEVER,
    query: (q) => q.from({ p: some }).where(({ p }) => gte(p.age, 27)),
  })
  await query.preload()
  assert.deepEqual(ids(query.values()), [8, 9])
  assert.deepEqual(ids(some.values()), [8, 9])
  // Rows that come and go, known and unknown ones.
  await sql(`update ${table} set age = 40 where id = 9`)
  await sql(`insert into ${table} (id, name, age) values (12, 'Lee', 50)`)
  await sql(`update ${table} set age = 41 where id = 1`)
  await sql(`delete from ${table} where id = 8`)
  await until(() => query.get(9)?.age === 40 && query.has(12) && !query.has(8))
  assert.equal(query.get(9).name, "Ida")
  await query.cleanup()
})

const WHEN = new Date("2026-01-17T00:00:00Z")
const CONDITIONS = {
  eq: [(p) => eq(p.name, "Ada"), [1]],
  "two of them": [(p) => and(gt(p.age, 21), lt(p.age, 25)), [3, 4, 5]],
  "one or the other": [(p) => or(eq(p.id, 1), lte(p.age, 21)), [1, 2]],
  "not": [(p) => not(gt(p.age, 22)), [1, 2, 3]],
  "null": [(p) => isNull(p.age), [10]],
  "not null": [(p) => not(isNull(p.age)), [1, 2, 3, 4, 5, 6, 7, 8, 9]],
  "in a list": [(p) => inArray(p.id, [2, 4, 99]), [2, 4]],
  "in a list of texts": [(p) => inArray(p.name, ["Ada", "it's", "bob", ""]), [1, 2]],
  "in an array column": [(p) => inArray("it's", p.roles), [1, 4, 7, 10]],
  like: [(p) => like(p.name, "%a%"), [1, 4, 8, 9]],
  ilike: [(p) => ilike(p.name, "%A%"), [1, 4, 8, 9]],
  lower: [(p) => like(lower(p.name), "c%"), [3]],
  "ilike and lower": [(p) => ilike(lower(p.name), "%BO%"), [2]],
  "a search in two columns": [(p) => or(like(lower(coalesce(p.nick, "")), "%x%"), like(lower(p.name), "%x%")), [4]],
  concat: [(p) => eq(concat(p.name, "-", p.nick), "dan-Xan"), [4]],
  upper: [(p) => eq(upper(p.name), "BOB"), [2]],
  length: [(p) => and(eq(length(p.name), 3), lt(p.id, 3)), [1, 2]],
  "a text's order": [(p) => gt(p.name, "flo"), [8, 10]],
  "a boolean": [(p) => eq(p.isActive, true), [1, 3, 5, 7, 9]],
  "more than false": [(p) => gt(p.isActive, false), [1, 3, 5, 7, 9]],
  "a time": [(p) => gte(p.createdAt, WHEN), [8, 9, 10]],
  "a bigint": [(p) => gt(p.big, 9007199254740999n), [8, 9, 10]],
  "a uuid": [(p) => eq(p.token, "00000000-0000-4000-8000-000000000004"), [5]],
  "a numeric": [(p) => gte(p.rate, 2), [9, 10]],
  "and, or, not": [(p) => and(or(eq(p.name, "Ada"), eq(p.name, "Eve")), not(eq(p.id, 5))), [1]],
}

for (const [name, [condition, expected]] of Object.entries(CONDITIONS))
  test(`on-demand, by condition: ${name}`, async (place) => {
    const table = await people(place)
    const parser = { timestamptz: (text) => new Date(text), numeric: Number }
    const some = collect(place, table, "on-demand", { shapeOptions: { parser } })
    assert.deepEqual(await ask((q) => q.from({ p: some }).where(({ p }) => condition(p))), expected)
    assert.deepEqual(some.subsets().map((one) => one.status), [200])
  })

test("on-demand: the first few in an order, and who comes before them later", async (place) => {
  const table = await people(place)
  const some = collect(place, table, "on-demand", INDEXED)
  const page = createLiveQueryCollection({
    startSync: true, gcTime: NEVER,
    query: (q) => q.from({ p: some }).orderBy(({ p }) => p.age, { direction: "desc", nulls: "last" }).limit(3),
  })
  await page.preload()
  assert.deepEqual([...page.values()].map((row) => row.id), [9, 8, 7])
  assert(some.subsets().some((one) => one.subset__limit && one.subset__order_by), JSON.stringify(some.subsets()))
  assert(some.subsets().every((one) => one.status === 200))
  await sql(`insert into ${table} (id, name, age) values (13, 'Max', 90)`)
  await until(() => [...page.values()][0]?.id === 13)
  assert.deepEqual([...page.values()].map((row) => row.id), [13, 9, 8])
  await page.cleanup()
})

const ORDERS = {
  "a number, then a text": [(p) => [p.age, p.name], "asc", "age, name"],
  "a boolean, then a number": [(p) => [p.isActive, p.id], "desc", '"isActive" desc, id desc'],
  "a text": [(p) => [p.name, p.id], "asc", 'name collate "C", id'],
  "a time": [(p) => [p.createdAt, p.id], "desc", '"createdAt" desc, id desc'],
}

for (const [name, [columns, direction, order]] of Object.entries(ORDERS))
  test(`on-demand, page by page, by ${name}`, async (place) => {
    const table = await place.table(COLUMNS)
    await sql(`insert into ${table} (id, name, age, "isActive", "createdAt")
      select i, chr(97 + i * 7 % 26), i % 7, i % 3 = 0, timestamptz '2026-01-01Z' + i % 11 * interval '1 h' from generate_series(1, 60) i`)
    const some = collect(place, table, "on-demand", INDEXED)
    const pages = createLiveQueryCollection({
      startSync: true, gcTime: NEVER,
      query: (q) => [0, 1].reduce((query, at) => query.orderBy(({ p }) => columns(p)[at], direction), q.from({ p: some })).limit(10),
    })
    await pages.preload()
    const expected = (await sql(`select id from ${table} order by ${order}`)).map((row) => row.id)
    for (let offset = 0; offset < 60; offset += 10) {
      await pages.utils.setWindow({ offset, limit: 10 })
      // Something happens between the pages. (Otherwise the client may take so many requests at one offset for a loop.)
      const write = transaction((run) => run(`update ${table} set nick = $1 where id % 7 = 0`, [`n${offset}`]))
      await some.utils.awaitTxId(await write, 60_000)
      const page = () => [...pages.values()].map((row) => row.id)
      await until(() => assert.deepEqual(page(), expected.slice(offset, offset + 10)) ?? true)
      const written = [...pages.values()].filter((row) => row.id % 7 === 0).map((row) => row.nick)
      assert.deepEqual([...new Set(written)].filter((nick) => nick !== `n${offset}`), [])
    }
    assert.deepEqual(some.subsets().map((one) => one.status).filter((status) => status !== 200), [])
    await pages.cleanup()
  })

test("on-demand: without a condition it is `true = true`", async (place) => {
  const table = await people(place)
  const some = collect(place, table, "on-demand")
  assert.deepEqual(await ask((q) => q.from({ p: some })), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  assert.deepEqual(some.subsets().map((one) => one.subset__where), ["true = true"])
})

test("on-demand: a join and a count over two tables", async (place) => {
  const table = await people(place)
  const orders = await place.table("id int primary key, person int not null, total int")
  await sql(`insert into ${orders} select i, 1 + i % 4, i * 10 from generate_series(1, 12) i`)
  const [some, bought] = [table, orders].map((each) => collect(place, each, "on-demand", INDEXED))
  const totals = createLiveQueryCollection({
    startSync: true, gcTime: NEVER,
    query: (q) =>
      q.from({ o: bought })
        .join({ p: some }, ({ o, p }) => eq(o.person, p.id), "inner")
        .where(({ o }) => gt(o.total, 40))
        .groupBy(({ p }) => p.name)
        .select(({ p, o }) => ({ name: p.name, orders: count(o.id) })),
  })
  await totals.preload()
  const found = () => Object.fromEntries([...totals.values()].map((row) => [row.name, row.orders]))
  await until(() => assert.deepEqual(found(), { Ada: 2, bob: 2, Cyd: 2, dan: 2 }) ?? true)
  await sql(`insert into ${orders} values (100, 2, 1000)`)
  await until(() => found().bob === 3)
  await totals.cleanup()
})

test("on-demand: the shape's own filter and columns hold", async (place) => {
  const table = await people(place)
  const params = { where: "age < $1 OR name = 'Ida'", params: ["25"], columns: ["id", "name", "age"] }
  const some = collect(place, table, "on-demand", { params })
  assert.deepEqual(await ask((q) => q.from({ p: some }).where(({ p }) => gt(p.age, 23))), [5, 9])
  await sql(`update ${table} set age = 24 where id = 8`)
  await until(() => some.has(8))
  const { id, name, age, roles } = some.get(8)
  assert.deepEqual({ id, name, age, roles }, { id: 8, name: "hal", age: 24, roles: undefined })
})

test("on-demand: with names of the program's own", async (place) => {
  const table = await place.table("id int primary key, full_name text, first_seen int")
  await sql(`insert into ${table} values (1, 'Ada', 5), (2, 'Bob', 6), (3, 'Cyd', 7)`)
  const some = collect(place, table, "on-demand", { ...INDEXED, shapeOptions: { columnMapper: snakeCamelMapper() } })
  const query = createLiveQueryCollection({
    startSync: true, gcTime: NEVER,
    query: (q) => q.from({ p: some }).where(({ p }) => gt(p.firstSeen, 5)).orderBy(({ p }) => p.fullName, "desc").limit(1),
  })
  await query.preload()
  assert.deepEqual([...query.values()].map((row) => row.fullName), ["Cyd"])
  await sql(`update ${table} set first_seen = 1 where id = 3`)
  await until(() => [...query.values()][0]?.fullName === "Bob")
  await query.cleanup()
})

test("on-demand: with replica=full a change brings rows that were never loaded", async (place) => {
  const table = await people(place)
  const some = collect(place, table, "on-demand", { params: { replica: "full" } })
  const query = createLiveQueryCollection({
    startSync: true, gcTime: NEVER,
    query: (q) => q.from({ p: some }).where(({ p }) => gt(p.age, 27)),
  })
  await query.preload()
  assert.deepEqual(ids(query.values()), [9])
  await sql(`update ${table} set age = 60 where id = 2`)
  await until(() => query.has(2))
  assert.deepEqual([query.get(2).name, query.get(2).roles], ["bob", ["user"]])
  await query.cleanup()
})

test("on-demand: a truncated table", async (place) => {
  const table = await people(place)
  const some = collect(place, table, "on-demand")
  const query = createLiveQueryCollection({
    startSync: true, gcTime: NEVER,
    query: (q) => q.from({ p: some }).where(({ p }) => gt(p.id, 0)),
  })
  await query.preload()
  assert.equal(query.size, 10)
  await sql(`truncate ${table}; insert into ${table} (id, name) values (50, 'new')`)
  await until(() => !query.has(1))
  await sql(`insert into ${table} (id, name) values (51, 'newer')`)
  await until(() => query.has(51))
  await query.cleanup()
})

test("progressive: a query is answered before everything is there", async (place) => {
  const table = await people(place)
  let release
  const held = new Promise((resolve) => (release = resolve))
  const fetchClient = async (input, init) => {
    if (!new URL(input).searchParams.has("subset__where")) await held
    return fetch(input, init)
  }
  const most = collect(place, table, "progressive", { shapeOptions: { fetchClient } })
  const query = createLiveQueryCollection({
    startSync: true, gcTime: NEVER,
    query: (q) => q.from({ p: most }).where(({ p }) => eq(p.isActive, true)),
  })
  await until(() => query.size === 5)
  assert.deepEqual(ids(most.values()), [1, 3, 5, 7, 9])
  await sql(`update ${table} set "isActive" = false where id = 1`)
  release()
  await until(() => most.isReady())
  assert.equal(most.size, 10)
  await until(() => query.size === 4)
  await sql(`insert into ${table} (id, name) values (20, 'last')`)
  await until(() => query.has(20))
  await query.cleanup()
})

/** A collection whose mutations are written to the table, each in a transaction of its own. */
function editable(place, table, syncMode, liveSse = false) {
  const write = (statement, values) => async ({ transaction: { mutations } }) => ({
    txid: await transaction(async (run) => {
      for (const mutation of mutations) await run(statement, values(mutation))
    }),
    timeout: 10_000,
  })
  return collect(place, table, syncMode, {
    shapeOptions: { liveSse },
    onInsert: write(`insert into ${table} (id, name) values ($1, $2)`, ({ modified: row }) => [row.id, row.name]),
    onUpdate: write(`update ${table} set name = $2 where id = $1`, ({ key, changes }) => [key, changes.name]),
    onDelete: write(`delete from ${table} where id = $1`, ({ key }) => [key]),
  })
}

for (const mode of ["eager", "on-demand", "progressive"])
  inBothModes(`${mode}: mutations are confirmed by the transaction's id`, async (place, liveSse) => {
    const table = await people(place)
    const mine = editable(place, table, mode, liveSse)
    const query = createLiveQueryCollection({ startSync: true, gcTime: NEVER, query: (q) => q.from({ p: mine }) })
    await query.preload()
    const insert = mine.insert({ id: 30, name: "optimistic" })
    assert.equal(query.get(30).name, "optimistic")
    await insert.isPersisted.promise
    assert.equal(query.get(30).isActive, true, "what the database adds")
    const update = mine.update(30, (draft) => void (draft.name = "renamed"))
    assert.equal(query.get(30).name, "renamed")
    await update.isPersisted.promise
    assert.deepEqual([query.get(30).name, query.get(30).isActive], ["renamed", true])
    await mine.delete([1, 30]).isPersisted.promise
    assert(!query.has(30) && !query.has(1))
    assert.deepEqual(await sql(`select count(*)::int as n from ${table}`), [{ n: 9 }])
    await query.cleanup()
  })

test("several mutations in flight, and one that the database refuses", async (place) => {
  const table = await people(place)
  const mine = editable(place, table, "eager")
  await mine.preload()
  const many = Array.from({ length: 20 }, (_, at) => mine.insert({ id: 100 + at, name: `n${at}` }))
  // Only a moment ahead of the others: the key exists, in the database and not in the collection yet.
  await sql(`insert into ${table} (id, name) values (500, 'theirs')`)
  const refused = mine.has(500) ? null : mine.insert({ id: 500, name: "mine" })
  await Promise.all(many.map((one) => one.isPersisted.promise))
  if (refused) await assert.rejects(refused.isPersisted.promise, /duplicate key/)
  await until(() => mine.get(500)?.name === "theirs")
  assert.equal(mine.size, 31)
})

test("awaitTxId: seen in the log, covered by a snapshot, or not at all", async (place) => {
  const table = await people(place)
  const before = await transaction((run) => run(`update ${table} set age = 1 where id = 1`))
  const mine = collect(place, table, "eager")
  await mine.preload()
  assert.equal(await mine.utils.awaitTxId(before), true)
  const after = transaction((run) => run(`update ${table} set age = 2 where id = 1`))
  assert.equal(await mine.utils.awaitTxId(await after, 60_000), true)
  assert.equal(mine.get(1).age, 2)
  const match = mine.utils.awaitMatch((one) => isChangeMessage(one) && one.value.age === 3, 60_000)
  await sql(`update ${table} set age = 3 where id = 2`)
  assert.equal(await match, true)
  // With savepoints it is the id of the whole transaction that counts.
  const whole = await transaction(async (run) => {
    await run("savepoint one")
    await run(`update ${table} set age = 5 where id = 3`)
    await run("release savepoint one")
  })
  assert.equal(await mine.utils.awaitTxId(whole, 60_000), true)
  const elsewhere = await transaction((run) => run("select pg_current_xact_id()"))
  await assert.rejects(mine.utils.awaitTxId(elsewhere, 200), /timeout|Timeout/i)
})

test("a transaction with the collection's table among others is confirmed once it is all there", async (place) => {
  const [one, two] = [await people(place), await people(place)]
  const [first, second] = [collect(place, one, "eager"), collect(place, two, "eager")]
  await Promise.all([first.preload(), second.preload()])
  const xid = await transaction(async (run) => {
    await run(`update ${one} set name = 'together' where id <= 5`)
    await run(`delete from ${two} where id > 5`)
  })
  await Promise.all([first, second].map((each) => each.utils.awaitTxId(xid, 60_000)))
  assert.equal([...first.values()].filter((row) => row.name === "together").length, 5)
  assert.equal(second.size, 5)
  assert.deepEqual(sorted(second.values()).map((row) => row.id), [1, 2, 3, 4, 5])
})
