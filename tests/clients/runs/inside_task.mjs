// A worker in Node that takes runs from pgtide and gives the SDK the context that it wants inside of a task:
// tags.add, metadata.*, triggers of children, triggerAndSubscribe. (What it has for a queue of its own,
// such as triggerAndWait, has no counterpart here.)

import { metadata, runs, tags, task, tasks } from "@trigger.dev/sdk"
import { runMetadata, taskContext } from "@trigger.dev/core/v3"
import { StandardMetadataManager } from "@trigger.dev/core/v3/workers"
import { api, assert, finish, follow, rowOf, run, sql, test, unique, until } from "./world.mjs"

const root = await run()
const id = await run({ status: "EXECUTING", parent_id: root, root_id: root, tags: ["begun"] })
const manager = new StandardMetadataManager(api())
runMetadata.setGlobalManager(manager)

/** As docs/runs.md shows it. */
function begin(taken) {
  manager.reset()
  manager.runId = taken.id
  runMetadata.enterWithMetadata(taken.metadata)
  taskContext.setGlobalTaskContext({
    ctx: { run: { id: taken.id, tags: taken.tags, isTest: false }, task: { id: taken.task }, attempt: {} }, worker: {},
  })
}

// The second run of this worker.
begin(await rowOf(await run({ metadata: { of: "another" } })))
begin(await rowOf(id))

test("metadata, its own and its parent's", async (place) => {
  const seen = follow(runs.subscribeToRun(id, { stopOnCompletion: false, signal: place.signal }))
  await until(() => seen.last)
  metadata.set("progress", 0.5).append("log", "begun").increment("tries", 1)
  // metadata.parent and metadata.root are those of the manager that there was when the SDK was loaded.
  runMetadata.parent.increment("children", 2)
  runMetadata.root.set("seen", true)
  await metadata.flush()
  await until(() => seen.last.metadata.progress === 0.5)
  assert.deepEqual(seen.last.metadata, { progress: 0.5, log: ["begun"], tries: 1 })
  await until(async () => (await rowOf(root)).metadata.seen === true)
  assert.equal((await rowOf(root)).metadata.children, 2)
  metadata.del("log")
  metadata.replace({ only: "this" })
  await metadata.flush()
  await until(() => seen.last.metadata.only)
  assert.deepEqual(seen.last.metadata, { only: "this" })
  await metadata.refresh()
  assert.deepEqual(metadata.current(), { only: "this" })
})

test("tags", async () => {
  await tags.add(["of-the-worker", "begun"])
  assert.deepEqual((await rowOf(id)).tags, ["begun", "of-the-worker"])
})

test("a child knows its parent and the root", async () => {
  const child = await tasks.trigger("child", {})
  const { parent_id, root_id } = await rowOf(child.id)
  assert.deepEqual({ parent_id, root_id }, { parent_id: id, root_id: root })
})

test("a defined task: trigger and batchTrigger", async () => {
  const defined = task({ id: unique("defined"), run: async () => {} })
  const one = await defined.trigger({ a: 1 })
  assert.equal((await rowOf(one.id)).task, defined.id)
  const many = await defined.batchTrigger([{ payload: 1 }, { payload: 2 }])
  assert.equal((await sql("select from pgtide.runs where batch_id = $1", [many.batchId])).length, 2)
})

test("triggerAndSubscribe: success, failure, and giving up", async () => {
  const name = unique("child")
  const taken = async (payload) =>
    until(async () => (await sql("select id from pgtide.runs where task = $1 and payload like $2", [name, `%"${payload}"%`]))[0]?.id)
  const good = tasks.triggerAndSubscribe(name, { n: "good" })
  await finish(await taken("good"), '{"done":true}')
  const { ok, output } = await good
  assert.deepEqual({ ok, output }, { ok: true, output: { done: true } })
  const bad = tasks.triggerAndSubscribe(name, { n: "bad" })
  const error = { type: "BUILT_IN_ERROR", name: "TypeError", message: "no", stackTrace: "" }
  await sql("update pgtide.runs set status = 'FAILED', error = $2 where id = $1", [await taken("bad"), error])
  const failed = await bad
  assert.deepEqual([failed.ok, failed.error.name, failed.error.message], [false, "TypeError", "no"])
  const abort = new AbortController()
  const left = tasks.triggerAndSubscribe(name, { n: "left" }, { signal: abort.signal }).catch((caught) => caught)
  const child = await taken("left")
  abort.abort()
  assert(await left)
  await until(async () => (await rowOf(child)).status === "CANCELED")
})

