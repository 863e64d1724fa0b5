// runs.subscribeToRunsWithTag and runs.subscribeToBatch.

import { runs } from "@trigger.dev/sdk"
import { assert, change, client, ended, finish, follow, keys, proxy, run, sleep, sql, test, unique, until } from "./world.mjs"

const tagged = (place, tags, filters) => follow(runs.subscribeToRunsWithTag(tags, filters, { signal: place.signal }))

test("the runs with a tag, those of now and those to come", async (place) => {
  const tag = unique("user")
  const [old, other] = [await run({ tags: [tag] }), await run({ tags: [unique("user")] })]
  const seen = tagged(place, tag)
  await until(() => seen.latest(old))
  const young = await run({ tags: ["more", tag] })
  await until(() => seen.latest(young))
  await finish(young)
  await until(() => seen.latest(young).status === "COMPLETED")
  await change(old, "status = 'EXECUTING'")
  await until(() => seen.latest(old).isExecuting)
  await finish(other)
  assert.deepEqual(seen.ids(), [old, young])
  assert.equal(seen.ended, false)
})

test("several tags: runs that have all of them", async (place) => {
  const [one, two] = [unique("a b"), unique("ü:'%&+/")]
  const both = await run({ tags: [two, "x", one] })
  await run({ tags: [one] })
  await run({ tags: [two] })
  const seen = tagged(place, [one, two])
  await until(() => seen.latest(both))
  const later = await run({ tags: [one, two] })
  await run({ tags: [one] })
  await until(() => seen.latest(later))
  assert.deepEqual(seen.ids(), [both, later])
})

test("a run that gets the tag later comes whole", async (place) => {
  const tag = unique("late")
  const id = await run({ payload: '{"a":1}', metadata: { b: 2 }, tags: ["else"] })
  const seen = tagged(place, tag)
  const other = await run({ tags: [tag] })
  await until(() => seen.latest(other))
  await change(id, "tags = tags || array[$2]", tag)
  await until(() => seen.latest(id))
  const { payload, metadata, tags, status } = seen.latest(id)
  assert.deepEqual({ payload, metadata, tags, status }, { payload: { a: 1 }, metadata: { b: 2 }, tags: ["else", tag], status: "QUEUED" })
  // Without the tag it is no news any more; with the tag again it is.
  await change(id, "tags = '{}', metadata = '{\"b\":3}'")
  await change(id, "tags = array[$2], metadata = '{\"b\":4}'", tag)
  await until(() => seen.latest(id).metadata.b === 4)
  assert.deepEqual(seen.rows.filter((row) => row.metadata.b === 3), [])
})

test("createdAt: only what is young enough", async (place) => {
  const tag = unique("window")
  const aged = async (interval) => {
    const [{ id }] = await sql(
      "insert into pgtide.runs (task, tags, created_at) values ('t', array[$1], now() - $2::interval) returning id", [tag, interval])
    return id
  }
  const [old, hours, now] = [await aged("3 days"), await aged("3 hours"), await aged("0 s")]
  const day = tagged(place, tag)
  const hour = tagged(place, tag, { createdAt: "1h" })
  const four = tagged(place, tag, { createdAt: "3h30m" })
  await until(() => hour.ids().length === 1 && day.ids().length === 2 && four.ids().length === 2)
  assert.deepEqual(hour.ids(), [now])
  assert.deepEqual(new Set(day.ids()), new Set([hours, now]))
  // Old ones that change are no news; young ones are.
  await change(old, "status = 'EXECUTING'")
  await change(hours, "status = 'EXECUTING'")
  await change(now, "status = 'EXECUTING'")
  await until(() => [day, hour, four].every((seen) => seen.latest(now).isExecuting) && day.latest(hours).isExecuting)
  assert.deepEqual([hour.latest(hours), day.latest(old)], [undefined, undefined])
})

test("skipColumns", async (place) => {
  const tag = unique("skip")
  const id = await run({ tags: [tag], payload: '"much"', metadata: { a: 1 } })
  const seen = tagged(place, tag, { skipColumns: ["payload", "output"] })
  await until(() => seen.latest(id))
  assert.deepEqual([seen.last.payload, seen.last.metadata], [undefined, { a: 1 }])
  await finish(id)
  await until(() => seen.last.isCompleted)
  assert.equal(seen.last.output, undefined)
})

test("without tags: the runs of the whole environment", async (place) => {
  const seen = tagged(place, undefined, { createdAt: "1m" })
  const id = await run()
  await until(() => seen.latest(id))
})

test("leaving the loop ends the request", async (place) => {
  const passing = await proxy(place)
  const tag = unique("leave")
  await run({ tags: [tag] })
  for await (const row of client(keys.root, passing.url).runs.subscribeToRunsWithTag(tag)) {
    assert.deepEqual(row.tags, [tag])
    await until(() => passing.polls().length === 1)
    break
  }
  await until(() => passing.open === 0)
  const { tags, createdAt, log, offset } = passing.requests[0].query
  assert.deepEqual({ tags, createdAt, log, offset }, { tags: tag, createdAt: undefined, log: "full", offset: "-1" })
})

test("a batch: its runs and no others", async (place) => {
  const [{ id: batch }] = await sql("insert into pgtide.batches (run_count) values (3) returning id")
  const [one, two] = [await run({ batch_id: batch }), await run({ batch_id: batch })]
  await run({ batch_id: unique("batch") })
  const subscription = runs.subscribeToBatch(batch)
  place.signal.addEventListener("abort", () => subscription.unsubscribe())
  const seen = follow(subscription)
  await until(() => seen.ids().length === 2)
  const three = await run({ batch_id: batch })
  await until(() => seen.latest(three))
  for (const id of [one, two, three]) await finish(id)
  await until(() => [one, two, three].every((id) => seen.latest(id).isCompleted))
  assert.deepEqual(new Set(seen.ids()), new Set([one, two, three]))
  assert.equal(seen.ended, false)
  subscription.unsubscribe()
  await ended(seen)
})

test("hundreds of runs of a tag, all of them", async (place) => {
  const tag = unique("many")
  await sql("insert into pgtide.runs (task, tags, metadata) select 'many', array[$1], jsonb_build_object('n', n) from generate_series(1, 500) n", [tag])
  const seen = tagged(place, tag)
  await until(() => seen.ids().length === 500)
  await sql("update pgtide.runs set status = 'COMPLETED' where tags @> array[$1]", [tag])
  await until(() => seen.ids().every((id) => seen.latest(id).isCompleted))
  await sleep(100)
  assert.equal(seen.rows.length, 1000)
})
