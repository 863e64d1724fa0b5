// runs.subscribeToRun: a run's life, from SQL to the SDK's rows.

import { runs } from "@trigger.dev/sdk"
import {
  api, assert, change, client, ended, finish, first, follow, keys, proxy, root, rowOf, run, sleep, sql, test, until,
} from "./world.mjs"

test("queued, executing with progress, completed", async (place) => {
  const id = await run({ task: "resize", tags: ["user:1"], payload: '{"width":800}' })
  const seen = follow(runs.subscribeToRun(id, { signal: place.signal }))
  await until(() => seen.last?.status === "QUEUED")
  assert.equal(seen.last.id, id)
  assert.equal(seen.last.taskIdentifier, "resize")
  assert.deepEqual(seen.last.tags, ["user:1"])
  assert.deepEqual(seen.last.payload, { width: 800 })
  assert.equal(seen.last.output, undefined)
  assert.equal(seen.last.startedAt, undefined)
  assert(seen.last.isQueued && !seen.last.isExecuting && !seen.last.isCompleted)
  await change(id, "status = 'EXECUTING'")
  await until(() => seen.last.isExecuting)
  assert(seen.last.startedAt instanceof Date)
  for (const progress of [10, 50, 90]) {
    await change(id, "metadata = metadata || $2", { progress })
    await until(() => seen.last.metadata.progress === progress)
    // What did not change is still there.
    assert.deepEqual([seen.last.payload, seen.last.tags], [{ width: 800 }, ["user:1"]])
  }
  await finish(id, '{"url":"there"}')
  await ended(seen)
  assert.deepEqual(seen.statuses(), ["QUEUED", "EXECUTING", "EXECUTING", "EXECUTING", "EXECUTING", "COMPLETED"])
  assert.deepEqual(seen.last.output, { url: "there" })
  assert(seen.last.isSuccess && seen.last.isCompleted && seen.last.finishedAt instanceof Date)
})

test("a run that is over is one row", async (place) => {
  const id = await run({ status: "COMPLETED", output: "7" })
  const seen = follow(runs.subscribeToRun(id, { signal: place.signal }))
  await ended(seen)
  assert.deepEqual(seen.statuses(), ["COMPLETED"])
  assert.equal(seen.last.output, 7)
})

test("by the handle that a trigger gives, too", async (place) => {
  const id = await run()
  const seen = follow(runs.subscribeToRun({ id }, { signal: place.signal }))
  await until(() => seen.last?.id === id)
  await finish(id)
  await ended(seen)
})

test("without stopOnCompletion it goes on behind the end", async (place) => {
  const id = await run()
  const seen = follow(runs.subscribeToRun(id, { stopOnCompletion: false, signal: place.signal }))
  await until(() => seen.last)
  await finish(id)
  await until(() => seen.last.status === "COMPLETED")
  // A retry: it is under way again.
  await change(id, "status = 'EXECUTING'")
  await until(() => seen.last.status === "EXECUTING" && seen.last.finishedAt === undefined)
  await finish(id, "2")
  await until(() => seen.last.output === 2)
  assert.equal(seen.ended, false)
})

test("changes of one transaction are one row, and rolled back ones none", async (place) => {
  const id = await run()
  const seen = follow(runs.subscribeToRun(id, { signal: place.signal }))
  await until(() => seen.last)
  await sql(`begin; update pgtide.runs set status = 'EXECUTING' where id = '${id}';
    update pgtide.runs set metadata = '{"step":1}' where id = '${id}';
    update pgtide.runs set metadata = '{"step":2}' where id = '${id}'; commit`)
  await until(() => seen.last.metadata?.step === 2)
  await sql(`begin; update pgtide.runs set metadata = '{"step":3}' where id = '${id}'; rollback`)
  await finish(id)
  await ended(seen)
  assert.deepEqual(seen.rows.map((row) => row.metadata?.step), [undefined, 2, 2])
})

test("skipColumns leaves them out, but for those that clients need", async (place) => {
  const id = await run({ payload: '"much"', tags: ["a"] })
  const skipColumns = ["payload", "runTags", "metadata", "id", "status", "createdAt", "updatedAt", "friendlyId"]
  const seen = follow(runs.subscribeToRun(id, { skipColumns, signal: place.signal }))
  await until(() => seen.last)
  assert.deepEqual([seen.last.payload, seen.last.tags, seen.last.metadata], [undefined, [], undefined])
  assert.equal(seen.last.status, "QUEUED")
  await change(id, "status = 'EXECUTING', metadata = '{\"a\":1}'")
  await until(() => seen.last.isExecuting)
  assert.equal(seen.last.metadata, undefined)
  await finish(id)
  await ended(seen)
  assert.deepEqual(seen.last.output, { ok: true })
})

for (const [name, leave] of Object.entries({
  "an aborted signal": (subscription, abort) => abort.abort(),
  unsubscribe: (subscription) => subscription.unsubscribe(),
}))
  test(`${name} ends the request`, async (place) => {
    const passing = await proxy(place)
    const id = await run()
    const abort = new AbortController()
    const subscription = client(keys.root, passing.url).runs.subscribeToRun(id, { signal: abort.signal })
    const seen = follow(subscription)
    await until(() => passing.polls().length === 1)
    leave(subscription, abort)
    await until(() => passing.open === 0)
    const asked = passing.requests.length
    await finish(id)
    await sleep(300)
    assert.equal(passing.requests.length, asked)
    assert.equal(seen.rows.length, 1)
  })

test("leaving the loop ends the request", async (place) => {
  const passing = await proxy(place)
  const id = await run()
  for await (const row of client(keys.root, passing.url).runs.subscribeToRun(id)) {
    assert.equal(row.id, id)
    await until(() => passing.polls().length === 1)
    break
  }
  await until(() => passing.open === 0)
})

test("the requests: one snapshot, then long polls", async (place) => {
  const passing = await proxy(place)
  const id = await run()
  const seen = follow(client(keys.root, passing.url).runs.subscribeToRun(id))
  await until(() => passing.polls().length === 1)
  await change(id, "status = 'EXECUTING'")
  await until(() => passing.polls().length === 2)
  await finish(id)
  await ended(seen)
  const [snapshot, poll, next] = passing.requests
  assert.deepEqual(snapshot.query, { offset: "-1", log: "full" })
  assert.equal(poll.query.cursor, "")
  assert.equal(poll.query.handle, next.query.handle)
  assert.notEqual(next.query.cursor, "")
  assert.equal(passing.requests.length, 3)
  assert.deepEqual(passing.requests.map((one) => one.status), [200, 200, 200])
})

test("what fails for a moment is tried again", async (place) => {
  const passing = await proxy(place)
  const id = await run()
  const failures = [429, 500, 502, 503].map((status) => [status, { error: "later" }])
  passing.answers.push(...failures)
  const seen = follow(client(keys.root, passing.url).runs.subscribeToRun(id))
  await until(() => seen.last)
  passing.answers.push(...failures)
  await change(id, "status = 'EXECUTING'")
  await until(() => seen.last.isExecuting)
  await finish(id)
  await ended(seen)
  assert.deepEqual(passing.requests.map((one) => one.status).filter((status) => status !== 200).length, 8)
})

test("401, 403 and 404 are told to onFetchError, once", async (place) => {
  const passing = await proxy(place)
  const [id, other] = [await run(), await run()]
  const token = await client(keys.root).auth.createPublicToken({ scopes: { read: { runs: other } } })
  const refused = async (credential, wanted) => {
    const errors = []
    const { signal } = place
    follow(api(credential, passing.url).subscribeToRun(wanted, { signal, onFetchError: (error) => errors.push(error) }))
    await until(() => errors.length)
    await sleep(300)
    assert.equal(errors.length, 1)
    return errors[0]
  }
  const unknown = await refused("tr_prod_sk_000000000000000000000000", id)
  const foreign = await refused(token, id)
  const missing = await refused(keys.root, "run_nothing")
  assert.deepEqual([unknown.status, foreign.status, missing.status], [401, 403, 404])
  assert.deepEqual(foreign.json, { error: "Unauthorized", code: "unauthorized", param: "access_token", type: "authorization" })
  assert.equal(passing.requests.length, 3)
})

test("a shape that is deleted begins anew", async (place) => {
  const passing = await proxy(place)
  const id = await run()
  const seen = follow(client(keys.root, passing.url).runs.subscribeToRun(id))
  await until(() => passing.polls().length === 1)
  // The restart that a 409 asks for: as an array, with the new handle.
  const { handle } = passing.polls()[0].query
  passing.answers.push([409, [{ headers: { control: "must-refetch" } }], { "electric-handle": `${handle}-next` }])
  await change(id, "status = 'EXECUTING'")
  await until(() => seen.last.isExecuting)
  await finish(id)
  await ended(seen)
  const again = passing.requests.find((one) => one.query.expired_handle)
  assert.equal(again.query.offset, "-1")
})

const HEADERS = { authorization: `Bearer ${keys.root}`, "x-trigger-electric-version": "1.0.0-beta.1" }
const ask = (id, query) => fetch(`${root}/realtime/v1/runs/${id}?${new URLSearchParams({ log: "full", ...query })}`, { headers: HEADERS })

test("a handle that is not known is answered with a restart", async () => {
  const answer = await ask(await run(), { offset: "5_0", handle: "123-456", live: "true", cursor: "" })
  assert.equal(answer.status, 409)
  assert.deepEqual(await answer.json(), [{ headers: { control: "must-refetch" } }])
  assert(answer.headers.get("electric-handle"))
})

test("after a pause: what is new, and the schema", async () => {
  const id = await run()
  const begin = await ask(id, { offset: "-1" })
  assert.equal((await begin.json())[0].value.friendlyId, id)
  await change(id, "status = 'EXECUTING'")
  const handle = begin.headers.get("electric-handle")
  let offset = begin.headers.get("electric-offset")
  await until(async () => {
    const answer = await ask(id, { offset, handle, cursor: "" })
    assert.equal(answer.status, 200)
    assert(answer.headers.get("electric-schema"))
    assert.equal(answer.headers.get("electric-up-to-date"), "")
    assert.equal(answer.headers.get("cache-control"), "no-store")
    offset = answer.headers.get("electric-offset")
    return (await answer.json()).some((one) => one.value?.status === "EXECUTING")
  })
})

test("a run that is deleted stays as it was", async (place) => {
  const id = await run()
  const seen = follow(runs.subscribeToRun(id, { signal: place.signal }))
  await until(() => seen.last)
  await sql("delete from pgtide.runs where id = $1", [id])
  await sleep(300)
  assert.deepEqual([seen.rows.length, seen.error], [1, null])
})

test("withStreams: the run itself, without any stream", async (place) => {
  const id = await run()
  const parts = []
  const reading = (async () => {
    for await (const part of runs.subscribeToRun(id, { signal: place.signal }).withStreams()) {
      parts.push([part.type, part.run.status])
      if (part.run.finishedAt) break
    }
  })()
  await until(() => parts.length)
  await finish(id)
  await reading
  assert.deepEqual(parts, [["run", "QUEUED"], ["run", "COMPLETED"]])
})

test("many follow one run", async (place) => {
  const id = await run()
  const all = Array.from({ length: 20 }, () => follow(runs.subscribeToRun(id, { signal: place.signal })))
  await until(() => all.every((seen) => seen.last))
  await finish(id)
  await Promise.all(all.map(ended))
  assert((await rowOf(id)).completed_at)
  assert.deepEqual(new Set(all.map((seen) => seen.statuses().join())), new Set(["QUEUED,COMPLETED"]))
  assert.equal((await first(id)).status, "COMPLETED")
})
