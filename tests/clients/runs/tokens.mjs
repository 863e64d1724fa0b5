// Public access tokens: made by the SDK itself with a root key, by pgtide with a listed key, and handed out
// with triggers; what they open and what they do not.

import { auth, runs, tasks } from "@trigger.dev/sdk"
import {
  api, assert, claims, client, ended, finish, follow, keys, rejection, root, run, sql, test, unique, until,
} from "./world.mjs"

/** The status that a subscription ends with. */
async function refusal(subscribe) {
  const errors = []
  follow(subscribe({ onFetchError: (error) => errors.push(error) }))
  return (await until(() => errors[0])).status
}

const opens = async (place, subscription) => {
  place.signal.addEventListener("abort", () => subscription.unsubscribe())
  const seen = follow(subscription)
  await until(() => seen.last || seen.error)
  return seen
}

for (const [kind, key] of Object.entries(keys)) {
  const owner = client(key)

  test(`${kind} key: a token for one run`, async (place) => {
    const [id, other] = [await run(), await run()]
    const token = await owner.auth.createPublicToken({ scopes: { read: { runs: [id] } }, expirationTime: "1h" })
    const { iss, aud, pub, scopes, exp, iat } = claims(token)
    assert.deepEqual({ iss, aud, pub, scopes }, { iss: "https://id.trigger.dev", aud: "https://api.trigger.dev", pub: true, scopes: [`read:runs:${id}`] })
    assert(Math.abs(exp - iat - 3600) <= 1)
    const seen = await opens(place, client(token).runs.subscribeToRun(id))
    assert.equal((await client(token).runs.retrieve(id)).id, id)
    assert.equal(await refusal((options) => api(token).subscribeToRun(other, options)), 403)
    assert.equal((await rejection(client(token).runs.retrieve(other))).status, 403)
    assert.equal((await rejection(client(token).tasks.trigger("any", {}))).status, 403)
    await finish(id)
    await ended(seen)
  })

  test(`${kind} key: by tag, by task, by batch, all runs`, async (place) => {
    const [tag, task, batch] = [unique("user:7"), unique("task"), unique("batch_")]
    const id = await run({ tags: [tag], task, batch_id: batch })
    const other = await run()
    for (const read of [{ tags: tag }, { tasks: task }, { batch }]) {
      const token = await owner.auth.createPublicToken({ scopes: { read } })
      const seen = await opens(place, client(token).runs.subscribeToRun(id))
      assert.equal(seen.last.id, id)
      assert.equal(await refusal((options) => api(token).subscribeToRun(other, options)), 403)
    }
    const tagged = await owner.auth.createPublicToken({ scopes: { read: { tags: [tag] } } })
    assert.equal((await opens(place, client(tagged).runs.subscribeToRunsWithTag(tag))).last.id, id)
    assert.equal(await refusal((options) => api(tagged).subscribeToRunsWithTag(unique("else"), {}, options)), 403)
    const all = await owner.auth.createPublicToken({ scopes: { read: { runs: true } } })
    assert.equal((await opens(place, client(all).runs.subscribeToRunsWithTag(tag))).last.id, id)
    assert.equal((await opens(place, client(all).runs.subscribeToRun(other))).last.id, other)
  })

  test(`${kind} key: a token's own skipColumns`, async (place) => {
    const id = await run({ payload: '"secret"', metadata: { a: 1 } })
    const token = await owner.auth.createPublicToken({ scopes: { read: { runs: id } }, realtime: { skipColumns: ["payload"] } })
    const seen = await opens(place, client(token).runs.subscribeToRun(id, { skipColumns: ["metadata"] }))
    assert.deepEqual([seen.last.payload, seen.last.metadata], [undefined, { a: 1 }])
  })

  test(`${kind} key: one trigger, no second one`, async (place) => {
    const task = unique("web/task")
    const token = await owner.auth.createTriggerPublicToken(task)
    const browser = client(token)
    const handle = await browser.tasks.trigger(task, { from: "a browser" })
    const again = await rejection(browser.tasks.trigger(task, {}))
    assert.equal(again.status, 422)
    assert.match(again.message, /one-time use token/)
    assert.equal((await rejection(browser.tasks.trigger("another", {}))).status, 403)
    // The answer's token reads this run.
    const seen = await opens(place, client(handle.publicAccessToken).runs.subscribeToRun(handle.id))
    assert.deepEqual(seen.last.payload, { from: "a browser" })
    await finish(handle.id)
    await ended(seen)
  })

  test(`${kind} key: a token for several triggers`, async () => {
    const [one, two] = [unique("task"), unique("task")]
    const token = await owner.auth.createTriggerPublicToken([one, two], { multipleUse: true, expirationTime: "10m" })
    for (const task of [one, two, one]) assert.match((await client(token).tasks.trigger(task, {})).id, /^run_/)
  })

  test(`${kind} key: a batch from a browser`, async (place) => {
    const task = unique("batch-task")
    const token = await owner.auth.createBatchTriggerPublicToken(task)
    const handle = await client(token).tasks.batchTrigger(task, [{ payload: 1 }, { payload: 2 }])
    const seen = await opens(place, client(handle.publicAccessToken).runs.subscribeToBatch(handle.batchId))
    await until(() => seen.ids().length === 2)
    // The batch's token reads each of its runs, too.
    await opens(place, client(handle.publicAccessToken).runs.subscribeToRun(seen.last.id))
    const other = await rejection(client(token).tasks.batchTrigger("another", [{ payload: 1 }]))
    assert.equal(other.cause?.status ?? other.status, 403)
  })

  test(`${kind} key: a token that has expired`, async () => {
    const id = await run()
    const exp = Math.floor(Date.now() / 1000) + 1
    const token = await owner.auth.createPublicToken({ scopes: { read: { runs: id } }, expirationTime: exp })
    await until(() => Date.now() / 1000 > exp + 0.5)
    assert.equal(await refusal((options) => api(token).subscribeToRun(id, options)), 401)
  })

  test(`${kind} key: triggers with the secret key`, async (place) => {
    const handle = await owner.tasks.trigger("any", { a: 1 })
    const { scopes, exp, iat } = claims(handle.publicAccessToken)
    assert(scopes.includes(`read:runs:${handle.id}`))
    assert.equal(exp - iat, 3600)
    await opens(place, client(handle.publicAccessToken).runs.subscribeToRun(handle.id))
  })
}

test("withAuth, withPublicToken, withTriggerPublicToken, withBatchTriggerPublicToken", async () => {
  const [id, other, task] = [await run(), await run(), unique("with")]
  await auth.withAuth({ accessToken: keys.listed, baseURL: root }, async () => {
    assert.equal((await runs.retrieve(id)).id, id)
  })
  await auth.withPublicToken({ scopes: { read: { runs: id } } }, async () => {
    assert.equal((await runs.retrieve(id)).id, id)
    assert.equal((await rejection(runs.retrieve(other))).status, 403)
  })
  await auth.withTriggerPublicToken(task, {}, async () => {
    assert.match((await tasks.trigger(task, {})).id, /^run_/)
  })
  await auth.withBatchTriggerPublicToken(task, {}, async () => {
    assert.match((await tasks.batchTrigger(task, [{ payload: 1 }])).batchId, /^batch_/)
  })
  assert.equal((await runs.retrieve(other)).id, other)
})

test("a wait token's own token completes it and nothing else", async () => {
  const [mine, other] = [await api().createWaitpointToken({}), await api().createWaitpointToken({})]
  const browser = api(mine.publicAccessToken)
  assert.equal((await rejection(browser.completeWaitpointToken(other.id, { data: 1 }))).status, 403)
  assert.deepEqual(await browser.completeWaitpointToken(mine.id, { data: 1 }), { success: true })
})

test("forged, foreign and nonsensical credentials", async () => {
  const id = await run()
  const token = await auth.createPublicToken({ scopes: { read: { runs: id } } })
  const [header, payload, signature] = token.split(".")
  const none = Buffer.from('{"alg":"none"}').toString("base64url")
  const forged = Buffer.from(JSON.stringify({ ...claims(token), scopes: ["admin"] })).toString("base64url")
  for (const wrong of [`${none}.${payload}.`, `${header}.${forged}.${signature}`, `${header}.${payload}`, "nonsense", "tr_dev_wrong"])
    assert.equal(await refusal((options) => api(wrong).subscribeToRun(id, options)), 401)
})

test("runs of another environment are not there", async (place) => {
  const [{ id }] = await sql("insert into pgtide.runs (task, environment_id, tags) values ('t', 'elsewhere', '{foreign}') returning id")
  assert.equal((await rejection(runs.retrieve(id))).status, 404)
  assert.equal(await refusal((options) => api().subscribeToRun(id, options)), 404)
  const own = await run({ tags: ["foreign"] })
  const seen = await opens(place, runs.subscribeToRunsWithTag("foreign"))
  await until(() => seen.latest(own))
  assert.equal(seen.latest(id), undefined)
})

test("a token for no runs at all opens none", async () => {
  const id = await run()
  const token = await auth.createPublicToken()
  assert.equal(await refusal((options) => api(token).subscribeToRun(id, options)), 403)
})
