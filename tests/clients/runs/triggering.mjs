// What back ends start and ask for through pgtide: triggers, batches, retrieve, cancel, tags, metadata,
// wait tokens. Workers take the rows with plain SQL.

import { auth, batch, idempotencyKeys, runs, tasks, wait } from "@trigger.dev/sdk"
import {
  api, assert, change, client, ended, finish, follow, keys, proxy, rejection, rowOf, run, sql, test, unique, until,
} from "./world.mjs"

test("trigger, follow, finish", async (place) => {
  const handle = await tasks.trigger("resize", { width: 800, at: new Date(0) }, { tags: ["a", "b"], metadata: { progress: 0 } })
  assert.match(handle.id, /^run_/)
  const seen = follow(runs.subscribeToRun(handle, { signal: place.signal }))
  await until(() => seen.last)
  const { status, taskIdentifier, payload, tags, metadata } = seen.last
  assert.deepEqual(
    { status, taskIdentifier, payload, tags, metadata },
    { status: "QUEUED", taskIdentifier: "resize", payload: { width: 800, at: new Date(0) }, tags: ["a", "b"], metadata: { progress: 0 } },
  )
  const [taken] = await sql(`update pgtide.runs set status = 'EXECUTING' where id = (
    select id from pgtide.runs where id = $1 and status = 'QUEUED' for update skip locked) returning task`, [handle.id])
  assert.equal(taken.task, "resize")
  await until(() => seen.last.isExecuting)
  await finish(handle.id)
  await ended(seen)
  assert.deepEqual(seen.last.output, { ok: true })
})

test("a task's name may hold anything", async () => {
  for (const name of ["my/task", "ä b", "a%2Fb", "q?x=1#y", "a:b"]) {
    const handle = await tasks.trigger(name, 1)
    assert.equal((await rowOf(handle.id)).task, name)
  }
})

for (const [name, payload] of Object.entries({ nothing: undefined, "a text": "hello", "a number": 0, "null": null, "a list": [1, "ü"] }))
  test(`a payload that is ${name}`, async () => {
    const handle = await tasks.trigger("any", payload)
    const retrieved = await runs.retrieve(handle)
    assert.deepEqual(retrieved.payload, payload)
    assert.equal(retrieved.id, handle.id)
  })

test("the same idempotency key is the same run", async () => {
  const key = unique("key")
  const once = await tasks.trigger("once", { a: 1 }, { idempotencyKey: key })
  const again = await tasks.trigger("once", { a: 2 }, { idempotencyKey: key })
  const other = await tasks.trigger("another", { a: 1 }, { idempotencyKey: key })
  assert.equal(again.id, once.id)
  assert.notEqual(other.id, once.id)
  assert.deepEqual([once.isCached, again.isCached], [false, true])
  assert.deepEqual((await runs.retrieve(once.id)).payload, { a: 1 })
})

test("many at once with one idempotency key", async () => {
  const key = unique("race")
  const handles = await Promise.all(Array.from({ length: 8 }, () => tasks.trigger("race", {}, { idempotencyKey: key })))
  assert.equal(new Set(handles.map((handle) => handle.id)).size, 1)
  assert.equal(handles.filter((handle) => !handle.isCached).length, 1)
})

test("an answer that is lost: the SDK's second try finds the same run", async (place) => {
  const passing = await proxy(place)
  const task = unique("lost")
  passing.answers.push("lost")
  const handle = await client(keys.root, passing.url).tasks.trigger(task, {})
  assert.deepEqual(passing.requests.map((one) => one.status), [200, 200])
  assert.deepEqual((await sql("select id from pgtide.runs where task = $1", [task])), [{ id: handle.id }])
  assert.equal(handle.isCached, false)
})

test("an answer that is lost to a one-time token", async (place) => {
  const passing = await proxy(place)
  const task = unique("lost")
  const token = await auth.createTriggerPublicToken(task)
  passing.answers.push("lost")
  const handle = await client(token, passing.url).tasks.trigger(task, {})
  assert.deepEqual((await sql("select id from pgtide.runs where task = $1", [task])), [{ id: handle.id }])
})

test("delay and ttl", async () => {
  const delayed = await tasks.trigger("later", {}, { delay: "1h", ttl: "10m" })
  const run = await runs.retrieve(delayed)
  assert.equal(run.status, "DELAYED")
  const minutes = (run.delayedUntil - run.createdAt) / 60_000
  assert(Math.abs(minutes - 60) < 1, `${minutes}`)
  assert.equal(run.ttl, "10m")
  const at = new Date(Date.now() + 86_400_000)
  const tomorrow = await tasks.trigger("later", {}, { delay: at })
  assert.equal((await runs.retrieve(tomorrow)).delayedUntil.toISOString(), at.toISOString())
})

test("options that mean nothing here are no obstacle", async () => {
  const options = {
    queue: "q", concurrencyKey: "k", maxAttempts: 3, maxDuration: 60, machine: "small-1x", priority: 5, region: "eu", version: "1",
    idempotencyKeyTTL: "1h", debounce: undefined,
  }
  assert.match((await tasks.trigger("plain", {}, options)).id, /^run_/)
})

test("what is refused is said, and not tried again", async (place) => {
  const passing = await proxy(place)
  const { tasks } = client(keys.root, passing.url)
  const many = await rejection(tasks.trigger("plain", {}, { tags: Array.from({ length: 11 }, (_, n) => `t${n}`) }))
  assert.equal(many.status, 422)
  assert(many.message.length > 10)
  const unknown = await rejection(client("wrong", passing.url).tasks.trigger("plain", {}))
  assert.equal(unknown.status, 401)
  assert.equal(passing.requests.length, 2)
})

test("a large payload goes beside the trigger, and comes back", async (place) => {
  const payload = { text: "ü".repeat(200_000), when: new Date(1) }
  const handle = await tasks.trigger("large", payload)
  assert.equal((await rowOf(handle.id)).payload_type, "application/store")
  const seen = follow(runs.subscribeToRun(handle, { signal: place.signal }))
  await until(() => seen.last)
  assert.deepEqual(seen.last.payload, payload)
  assert.deepEqual((await runs.retrieve(handle)).payload, payload)
  // With a browser's token, too.
  const mine = client(handle.publicAccessToken).runs
  const other = follow(mine.subscribeToRun(handle, { signal: place.signal }))
  await until(() => other.last)
  assert.deepEqual(other.last.payload, payload)
})

test("a batch: triggered, followed, finished", async (place) => {
  const handle = await tasks.batchTrigger("piece", [1, 2, 3].map((n) => ({ payload: { n }, options: { tags: [`n${n}`] } })))
  assert.match(handle.batchId, /^batch_/)
  assert.equal(handle.runCount, 3)
  const subscription = runs.subscribeToBatch(handle.batchId)
  place.signal.addEventListener("abort", () => subscription.unsubscribe())
  const seen = follow(subscription)
  await until(() => seen.ids().length === 3)
  assert.deepEqual(seen.rows.map((row) => row.payload.n).sort(), [1, 2, 3])
  await sql("update pgtide.runs set status = 'COMPLETED' where id = any($1)", [seen.ids()])
  await until(() => seen.ids().every((id) => seen.latest(id).isCompleted))
  const retrieved = await batch.retrieve(handle.batchId)
  assert.equal(retrieved.runCount, 3)
  assert.deepEqual(new Set(retrieved.runs), new Set(seen.ids()))
})

test("batch.trigger: of several tasks; a large item, too", async () => {
  const text = "x".repeat(140_000)
  const handle = await batch.trigger([{ id: "one", payload: 1 }, { id: "two/2", payload: { text } }])
  const { runs: ids } = await batch.retrieve(handle.batchId)
  const found = await Promise.all(ids.map((id) => runs.retrieve(id)))
  assert.deepEqual(found.map((one) => one.taskIdentifier).sort(), ["one", "two/2"])
  assert.deepEqual(found.find((one) => one.taskIdentifier === "two/2").payload, { text })
})

test("a batch with an idempotency key", async () => {
  const key = unique("batch-key")
  const [once, again] = [await tasks.batchTrigger("piece", [{ payload: 1 }], { idempotencyKey: key }), await tasks.batchTrigger("piece", [{ payload: 1 }], { idempotencyKey: key })]
  assert.equal(once.batchId, again.batchId)
  assert.equal((await batch.retrieve(once.batchId)).runs.length, 1)
})

test("batches as streams, and of tasks", async () => {
  async function* items() {
    for (const n of [1, 2, 3]) yield { id: "streamed", payload: n }
  }
  const streamed = await batch.trigger(items())
  assert.equal((await batch.retrieve(streamed.batchId)).runs.length, 3)
  const handle = await batch.triggerByTask([{ task: { id: "by-task" }, payload: 1 }])
  assert.equal((await sql("select task from pgtide.runs where batch_id = $1", [handle.batchId]))[0].task, "by-task")
})

test("idempotency keys of a scope", async () => {
  const key = await idempotencyKeys.create(unique("global"), { scope: "global" })
  const [once, again] = [await tasks.trigger("scoped", {}, { idempotencyKey: key }), await tasks.trigger("scoped", {}, { idempotencyKey: key })]
  assert.deepEqual([again.id, again.isCached], [once.id, true])
})

test("500 items", async () => {
  const handle = await tasks.batchTrigger("many", Array.from({ length: 500 }, (_, n) => ({ payload: n })))
  const [{ n }] = await sql("select count(*)::int as n from pgtide.runs where batch_id = $1", [handle.batchId])
  assert.equal(n, 500)
})

test("retrieve and poll", async () => {
  const id = await run({ tags: ["x"], metadata: { a: [1] }, payload: '{"p":1}' })
  const found = await runs.retrieve(id)
  assert.deepEqual([found.status, found.tags, found.metadata, found.payload], ["QUEUED", ["x"], { a: [1] }, { p: 1 }])
  assert.deepEqual([found.isQueued, found.isCompleted, found.isTest, found.output], [true, false, false, undefined])
  assert(found.createdAt instanceof Date && found.finishedAt === undefined)
  const polling = runs.poll(id, { pollIntervalMs: 20 })
  await finish(id)
  const done = await polling
  assert.deepEqual([done.status, done.output], ["COMPLETED", { ok: true }])
  assert(done.finishedAt instanceof Date)
  const missing = await rejection(runs.retrieve("run_nothing"))
  assert.equal(missing.status, 404)
})

test("cancel", async (place) => {
  const id = await run()
  const seen = follow(runs.subscribeToRun(id, { signal: place.signal }))
  await until(() => seen.last)
  assert.equal((await runs.cancel(id)).id, id)
  await ended(seen)
  assert(seen.last.isCancelled)
  // Once it is over, it stays what it was.
  const done = await run({ status: "COMPLETED" })
  await runs.cancel(done)
  assert.equal((await runs.retrieve(done)).status, "COMPLETED")
  assert.equal((await rejection(runs.cancel("run_nothing"))).status, 404)
})

test("list: page by page, filtered", async () => {
  const tag = unique("list")
  const ids = []
  for (let n = 0; n < 5; n += 1) ids.push(await run({ tags: [tag], task: n % 2 ? "odd" : "even", status: n === 4 ? "COMPLETED" : "QUEUED" }))
  const all = []
  for await (const one of runs.list({ tag, limit: 2 })) all.push(one.id)
  assert.deepEqual(all, ids.toReversed())
  const page = await runs.list({ tag, limit: 2 })
  assert.equal(page.data.length, 2)
  const next = await page.getNextPage()
  assert.deepEqual(next.data.map((one) => one.id), [ids[2], ids[1]])
  const back = await next.getPreviousPage()
  assert.deepEqual(back.data.map((one) => one.id), [ids[4], ids[3]])
  const some = async (filter) => (await runs.list({ tag, ...filter })).data.map((one) => one.id)
  assert.deepEqual(await some({ status: "COMPLETED" }), [ids[4]])
  assert.deepEqual(await some({ taskIdentifier: "odd" }), [ids[3], ids[1]])
})

test("replay, reschedule, and a key that is free again", async () => {
  const id = await run({ task: "again", payload: '{"a":1}', tags: ["x"] })
  const copy = await runs.replay(id)
  assert.notEqual(copy.id, id)
  const { task, payload, tags } = await rowOf(copy.id)
  assert.deepEqual({ task, payload, tags }, { task: "again", payload: '{"a":1}', tags: ["x"] })
  const delayed = await tasks.trigger("later", {}, { delay: "1h" })
  const moved = await runs.reschedule(delayed.id, { delay: "2h" })
  assert(Math.abs(moved.delayedUntil - Date.now() - 7_200_000) < 60_000)
  const idempotencyKey = await idempotencyKeys.create(unique("reset"), { scope: "global" })
  const once = await tasks.trigger("again", {}, { idempotencyKey })
  await idempotencyKeys.reset("again", idempotencyKey)
  assert.notEqual((await tasks.trigger("again", {}, { idempotencyKey })).id, once.id)
})

test("wait tokens, listed", async () => {
  const tag = unique("listed")
  const ids = []
  for (let n = 0; n < 3; n += 1) ids.push((await wait.createToken({ tags: [tag] })).id)
  await wait.completeToken(ids[1], {})
  const all = []
  for await (const one of wait.listTokens({ tags: [tag], limit: 2 })) all.push([one.id, one.status])
  assert.deepEqual(all, [[ids[2], "WAITING"], [ids[1], "COMPLETED"], [ids[0], "WAITING"]])
})

test("tags are added once each", async (place) => {
  const tag = unique("added")
  const id = await run({ tags: ["first"] })
  const seen = follow(runs.subscribeToRunsWithTag(tag, {}, { signal: place.signal }))
  await api().addTags(id, { tags: tag })
  await api().addTags(id, { tags: [tag, "more"] })
  await until(() => seen.latest(id)?.tags.includes("more"))
  assert.deepEqual(seen.latest(id).tags, ["first", tag, "more"])
  const error = await rejection(api().addTags(id, { tags: Array.from({ length: 10 }, (_, n) => `t${n}`) }))
  assert.equal(error.status, 422)
})

test("metadata: replaced, and by operations", async (place) => {
  const id = await run({ metadata: { progress: 0, list: [1] } })
  const seen = follow(runs.subscribeToRun(id, { signal: place.signal }))
  await until(() => seen.last)
  const answer = await api().updateRunMetadata(id, {
    operations: [
      { type: "increment", key: "progress", value: 25 },
      { type: "append", key: "list", value: { a: 1 } },
      { type: "set", key: "$.list.0", value: "first" },
      { type: "set", key: "a.b", value: true },
    ],
  })
  const expected = { progress: 25, list: ["first", { a: 1 }], "a.b": true }
  assert.deepEqual(answer.metadata, expected)
  await until(() => seen.last.metadata.progress === 25)
  assert.deepEqual(seen.last.metadata, expected)
  assert.deepEqual((await api().getRunMetadata(id)).metadata, expected)
  await api().updateRunMetadata(id, { metadata: { new: "only" } })
  await until(() => seen.last.metadata.new)
  assert.deepEqual(seen.last.metadata, { new: "only" })
  // Many at once: none is lost.
  await Promise.all(Array.from({ length: 10 }, () => api().updateRunMetadata(id, { operations: [{ type: "increment", key: "n", value: 1 }] })))
  await until(() => seen.last.metadata.n === 10)
  assert.equal((await rejection(api().updateRunMetadata("run_nothing", { metadata: {} }))).status, 404)
})

test("metadata of the parent and of the root", async () => {
  const grandparent = await run()
  const parent = await run({ parent_id: grandparent, root_id: grandparent })
  const child = await run({ parent_id: parent, root_id: grandparent })
  const set = (key) => [{ type: "set", key, value: 1 }]
  await api().updateRunMetadata(child, { operations: set("own"), parentOperations: set("up"), rootOperations: set("top") })
  await until(async () => (await rowOf(grandparent)).metadata.top === 1 && (await rowOf(parent)).metadata.up === 1)
  assert.deepEqual((await rowOf(child)).metadata, { own: 1 })
})

test("a wait token: made, completed, retrieved", async () => {
  const token = await wait.createToken({ timeout: "1h", tags: ["approval"] })
  assert.match(token.id, /^waitpoint_/)
  assert.equal(token.isCached, false)
  assert.equal(typeof token.url, "string")
  const waiting = await wait.retrieveToken(token.id)
  assert.deepEqual([waiting.status, waiting.tags], ["WAITING", ["approval"]])
  assert.deepEqual(await wait.completeToken(token.id, { approved: true }), { success: true })
  const done = await wait.retrieveToken(token.id)
  assert.equal(done.status, "COMPLETED")
  assert.deepEqual(done.output, { approved: true })
  // The second answer counts no more.
  assert.deepEqual(await wait.completeToken(token.id, { approved: false }), { success: true })
  assert.deepEqual((await wait.retrieveToken(token.id)).output, { approved: true })
  assert.equal((await rejection(wait.retrieveToken("waitpoint_nothing"))).status, 404)
})

test("a wait token with an idempotency key", async () => {
  const idempotencyKey = unique("wait")
  const [once, again] = [await wait.createToken({ idempotencyKey }), await wait.createToken({ idempotencyKey })]
  assert.deepEqual([again.id, once.isCached, again.isCached], [once.id, false, true])
})

test("a wait token's address completes it", async () => {
  const token = await wait.createToken()
  const answer = await fetch(token.url, { method: "POST", headers: { "content-type": "application/json" }, body: '{"from":"a webhook"}' })
  assert.equal(answer.status, 200)
  const done = await wait.retrieveToken(token.id)
  assert.deepEqual([done.status, done.output], ["COMPLETED", { from: "a webhook" }])
})

test("a run that waits for a token", async (place) => {
  const id = await run()
  const token = await wait.createToken()
  await change(id, "status = 'WAITING', metadata = $2", { token: token.id })
  const seen = follow(runs.subscribeToRun(id, { signal: place.signal }))
  await until(() => seen.last?.isWaiting)
  await api(token.publicAccessToken).completeWaitpointToken(seen.last.metadata.token, { data: "go on" })
  await finish(id)
  await ended(seen)
})
