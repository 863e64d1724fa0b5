// @electric-sql/experimental: several shapes at once, and their transactions whole and in order.

import { MultiShapeStream, TransactionalMultiShapeStream, matchBy, matchStream } from "@electric-sql/experimental"
import { assert, changes, inBothModes, sleep, sql, test, transaction, until } from "./world.mjs"

/** Two filters of one table, and another table. */
async function shapes(place, options = {}) {
  const [items, notes] = [await place.table(), await place.table("id int primary key, text text")]
  const of = (table, params = {}) => place.stream({ table, params, ...options })
  return {
    items,
    notes,
    shapes: {
      low: of(items, { where: "priority <= 10" }),
      high: of(items, { where: "priority > 10" }),
      notes: of(notes),
    },
  }
}

const told = (messages) => changes(messages).map((one) => `${one.shape} ${one.headers.operation} ${one.value.id}`)

/** A subscriber of a multi-shape stream: its batches, once it is up to date. */
async function subscribe(multi) {
  const batches = []
  multi.subscribe((messages) => void batches.push(messages))
  await until(() => multi.isUpToDate)
  return batches
}

inBothModes("shapes without rows", async (place, liveSse) => {
  const begin = Date.now()
  const { shapes: followed } = await shapes(place, { liveSse })
  const multi = new MultiShapeStream({ shapes: followed })
  await subscribe(multi)
  assert(multi.isConnected() && !multi.isLoading())
  assert(multi.lastSyncedAt() >= begin && multi.lastSyncedAt() <= Date.now())
})

inBothModes("rows of all, then those that move from one to another", async (place, liveSse) => {
  const { items, notes, shapes: followed } = await shapes(place, { liveSse })
  await sql(`insert into ${items} values (1, 'a', 5), (2, 'b', 15); insert into ${notes} values (3, 'c')`)
  const multi = new MultiShapeStream({ shapes: followed })
  const batches = await subscribe(multi)
  await until(() => batches.flatMap(told).length === 3)
  assert.deepEqual(batches.flatMap(told).sort(), ["high insert 2", "low insert 1", "notes insert 3"])
  batches.length = 0
  await sql(`update ${items} set priority = 20 where id = 1`)
  await sql(`update ${items} set priority = 5 where id = 2`)
  await until(() => batches.flatMap(told).length >= 4)
  const moves = ["high delete 2", "high insert 1", "low delete 1", "low insert 2"]
  assert.deepEqual(batches.flatMap(told).sort(), moves)
})

inBothModes("a transaction over three shapes is one batch, in the order of its statements", async (place, liveSse) => {
  const { items, notes, shapes: followed } = await shapes(place, { liveSse })
  await sql(`insert into ${items} values (1, 'a', 5), (2, 'b', 15)`)
  const multi = new TransactionalMultiShapeStream({ shapes: followed })
  const batches = await subscribe(multi)
  await until(() => batches.length === 1)
  assert.deepEqual(told(batches[0]).sort(), ["high insert 2", "low insert 1"])
  batches.length = 0
  await transaction(async (run) => {
    await run(`update ${items} set priority = 20 where id = 1`)
    await run(`insert into ${notes} values (7, 'x')`)
    await run(`update ${items} set priority = 5 where id = 2`)
    await run(`insert into ${items} values (3, 'c', 20)`)
  })
  await until(() => batches.length > 0)
  await sleep(300)
  assert.equal(batches.length, 1)
  const places = batches[0].map((one) => one.headers.op_position)
  assert.deepEqual(places, [...places].sort((a, b) => a - b))
  assert.equal(new Set(batches[0].map((one) => one.headers.lsn)).size, 1)
  const known = ["high insert 1", "low delete 1", "notes insert 7", "high delete 2", "low insert 2", "high insert 3"]
  assert.deepEqual(told(batches[0]).sort(), known.sort())
  assert.equal(told(batches[0])[2], "notes insert 7")
})

inBothModes("many transactions at once: none is torn, none is lost, all in commit order", async (place, liveSse) => {
  const { items, notes, shapes: followed } = await shapes(place, { liveSse })
  const multi = new TransactionalMultiShapeStream({ shapes: followed, checkForUpdatesAfterMs: 20 })
  const batches = await subscribe(multi)
  const total = 40
  const write = async (id) =>
    transaction(async (run) => {
      await run(`insert into ${items} values ($1, 'a', 5)`, [id])
      await run(`insert into ${notes} values ($1, 'n')`, [id])
      await run(`insert into ${items} values ($1, 'b', 15)`, [id + 1000])
    })
  const ids = Array.from({ length: total }, (_, at) => at + 1)
  // Four writers, so that commits follow each other closely.
  await Promise.all([0, 1, 2, 3].map(async (writer) => {
    for (const id of ids.filter((one) => one % 4 === writer)) await write(id)
  }))
  await until(() => batches.flat().length >= total * 3)
  const messages = batches.flat()
  assert.equal(messages.length, total * 3)
  const lsns = messages.map((one) => BigInt(one.headers.lsn))
  assert(lsns.every((lsn, at) => at === 0 || lsn >= lsns[at - 1]), "not in commit order")
  for (const batch of batches) {
    const parts = new Map()
    for (const { headers } of batch) parts.set(headers.lsn, (parts.get(headers.lsn) ?? 0) + 1)
    assert.deepEqual([...new Set(parts.values())], [3], "a torn transaction")
  }
})

test("a shape that nothing happens to learns how far the others are", async (place) => {
  const { items, shapes: followed } = await shapes(place)
  const multi = new MultiShapeStream({ shapes: followed, checkForUpdatesAfterMs: 50 })
  const batches = await subscribe(multi)
  await sql(`insert into ${items} values (1, 'a', 5)`)
  await until(() => batches.flatMap(told).length === 1)
  const lsn = BigInt(changes(batches.flat())[0].headers.lsn)
  const seen = (shape) => batches.flat()
    .filter((one) => one.shape === shape && one.headers.control === "up-to-date")
    .some((one) => BigInt(one.headers.global_last_seen_lsn) >= lsn)
  await until(() => ["low", "high", "notes"].every(seen))
  // Long polls were cut short for it: asked again, without waiting.
  const probes = followed.notes.requests.filter((one) => one.live === undefined).length
  assert(probes >= 3, `${probes}`)
})

test("after unsubscribeAll nobody is called", async (place) => {
  const { items, shapes: followed } = await shapes(place)
  const multi = new MultiShapeStream({ shapes: followed })
  const batches = await subscribe(multi)
  multi.unsubscribeAll()
  const count = batches.length
  await sql(`insert into ${items} values (1, 'a', 5)`)
  await until(() => followed.low.requests.some((one) => one.live === "true" && one.status))
  await sleep(100)
  assert.equal(batches.length, count)
})

test("matchStream finds what matchBy describes", async (place) => {
  const table = await place.table()
  const stream = place.stream({ table })
  const found = matchStream(stream, ["update"], matchBy("title", "wanted"), 10_000)
  await until(() => stream.isUpToDate)
  await sql(`insert into ${table} values (1, 'wanted'), (2, 'other')`)
  await sql(`update ${table} set title = 'wanted' where id = 2`)
  const message = await found
  assert.deepEqual([message.headers.operation, message.value], ["update", { id: 2, title: "wanted" }])
})
