// @durable-streams/client and @durable-streams/state, unmodified, with pgtide.

import {
  DurableStream,
  IdempotentProducer,
  SequenceGapError,
  stream,
} from "@durable-streams/client"
import { createStateSchema } from "@durable-streams/state"
import { createStreamDB } from "@durable-streams/state/db"
import { assert, inBothModes, root, sql, test, transaction, until } from "../suites/world.mjs"
import { proxy, rejection } from "../runs/world.mjs"

const headers = { Authorization: `Bearer ${process.env.PGTIDE_ROOT_KEY}` }
const unique = (word) => `durable/${word}-${Math.random().toString(36).slice(2, 10)}`
const at = (path) => ({ url: `${root}/v1/stream/${path}`, headers })
const create = (path, contentType = "application/json", more = {}) =>
  DurableStream.create({ ...at(path), contentType, ...more })

/** A token of the environment with these scopes. */
async function token(...scopes) {
  const answer = await fetch(`${root}/api/v1/auth/public-tokens`, {
    method: "POST",
    headers: { ...headers, "content-type": "application/json" },
    body: JSON.stringify({ scopes }),
  })
  assert.equal(answer.status, 200, await answer.clone().text())
  return (await answer.json()).token
}

/** Reads live: {items, offset, closed}, which throws what the reader threw. */
function follow(place, path, sse, options = {}) {
  const seen = { items: [], offset: undefined, error: null }
  seen.done = (async () => {
    const response = await stream({
      ...at(path),
      live: sse ? "sse" : "long-poll",
      signal: place.signal,
      json: true,
      ...options,
    })
    response.subscribeJson((batch) => {
      seen.items.push(...batch.items)
      seen.offset = batch.offset
      seen.batches = (seen.batches ?? 0) + 1
    })
    await response.closed
    seen.ended = true
  })().catch((error) => (seen.error = error))
  return seen
}

inBothModes("a reader gets what there is, what comes, and the end", async (place, sse) => {
  const path = unique("live")
  const one = await create(path)
  await one.append(JSON.stringify({ n: 0 }))
  const seen = follow(place, path, sse)
  await until(() => seen.items.length === 1, "the first message")
  for (let n = 1; n < 20; n++) await one.append(JSON.stringify({ n, "ä": "x\ny" }))
  await sql("select pgtide.append($1, $2::jsonb)", [path, JSON.stringify({ n: 20 })])
  await until(() => seen.items.length === 21, "all messages")
  await one.close({ body: JSON.stringify({ n: 21 }) })
  await until(() => seen.ended || seen.error, "the end")
  assert.equal(seen.error, null)
  assert.deepEqual(seen.items.map((item) => item.n), Array.from({ length: 22 }, (_, n) => n))
  const error = await rejection(one.append(JSON.stringify({ n: 22 })))
  assert.equal(error.status, 409)
  assert.equal(error.headers["stream-closed"], "true")
  assert.equal(error.headers["stream-next-offset"], seen.offset)
})

inBothModes("text keeps its spaces, lines and characters", async (place, sse) => {
  const path = unique("text")
  const one = await create(path, "text/plain")
  let text = ""
  const response = await stream({ ...at(path), live: sse ? "sse" : "long-poll", signal: place.signal })
  response.subscribeText((chunk) => void (text += chunk.text))
  const smile = Buffer.from("😀")
  const parts = [Buffer.from("Hello"), " world", "\n  indented\n", smile.subarray(0, 1), smile.subarray(1, 3)]
  parts.push(smile.subarray(3), "\n\nevent: control\ndata:{}\n\n", " ")
  for (const part of parts) await one.append(part)
  const whole = Buffer.concat(parts.map((part) => Buffer.from(part))).toString()
  if (sse) await until(() => text === whole, "the text").catch(() => assert.equal(text, whole))
  // Each answer to a long poll is decoded by itself.
  else await until(() => text.endsWith("data:{}\n\n "), "the text")
  await one.close()
})

test("bytes come as base64 over event streams", async (place) => {
  const path = unique("bytes")
  const one = await create(path, "application/octet-stream")
  const data = Uint8Array.from({ length: 2000 }, (_, n) => (n * 7) % 256)
  const got = []
  const response = await stream({ ...at(path), live: "sse", signal: place.signal })
  response.subscribeBytes((chunk) => void got.push(...chunk.data))
  await one.append(data)
  await one.append(data)
  await until(() => got.length === 4000, "all bytes")
  assert.deepEqual(got, [...data, ...data])
})

test("a producer's batches are stored once, in order", async (place) => {
  const path = unique("producer")
  const one = await create(path)
  const seen = follow(place, path, true)
  const errors = []
  // Answers are lost on their way, and the requests are sent again: together with others that are under
  // way, so they arrive in any order.
  const between = await proxy(place)
  between.answers = ["lost", "lost", undefined, "lost", undefined, "lost"]
  const lossy = new DurableStream({ ...at(path), url: `${between.url}/v1/stream/${path}`, contentType: "application/json" })
  const again = (...request) => fetch(...request).catch(() => again(...request))
  const producer = new IdempotentProducer(lossy, "writer", { onError: (error) => errors.push(error), fetch: again, lingerMs: 1 })
  for (let n = 0; n < 500; n++) {
    producer.append(JSON.stringify({ n }))
    if (n % 50 === 0) await new Promise((done) => setTimeout(done, 3))
  }
  await producer.flush()
  assert.deepEqual(errors, [])
  const all = Array.from({ length: 500 }, (_, n) => n)
  const numbers = (items) => items.map((item) => item.n)
  assert.deepEqual(numbers(await (await stream({ ...at(path), live: false })).json()), all)
  await until(() => seen.items.length >= 500, "all messages").catch(() => {})
  assert.equal(seen.error, null)
  assert.deepEqual(numbers(seen.items), all)
  assert.equal(between.answers.length, 0)
})

test("a producer whose stream somebody else closes gives up after one request", async (place) => {
  const path = unique("closed")
  const one = await create(path)
  const errors = []
  let requests = 0
  const counted = (...request) => ((requests += 1), fetch(...request))
  const producer = new IdempotentProducer(one, "writer", { onError: (error) => errors.push(error), fetch: counted })
  producer.append(JSON.stringify(1))
  await producer.flush()
  await one.close()
  requests = 0
  producer.append(JSON.stringify(2))
  await until(() => errors.length, "an error")
  assert(errors[0] instanceof SequenceGapError, errors[0])
  assert.equal(requests, 1)
  place.signal.throwIfAborted()
})

test("a producer that may not write gives up after one request", async () => {
  const path = unique("forbidden")
  await create(path)
  const bearer = { Authorization: `Bearer ${await token(`read:streams:${path}`)}` }
  const errors = []
  let requests = 0
  const counted = (...request) => ((requests += 1), fetch(...request))
  const one = new DurableStream({ ...at(path), headers: bearer, contentType: "application/json" })
  const producer = new IdempotentProducer(one, "writer", {
    autoClaim: true,
    fetch: counted,
    onError: (error) => errors.push(error),
  })
  producer.append(JSON.stringify(1))
  await until(() => errors.length, "an error")
  assert.equal(errors[0].status, 401)
  assert.equal(requests, 1)
})

test("a token reads what is below its prefix, and nothing else", async () => {
  const folder = unique("folder")
  await (await create(`${folder}/a/b`)).append(JSON.stringify(1))
  await create(`${folder}2`)
  const bearer = { Authorization: `Bearer ${await token(`read:streams:${folder}/`)}` }
  const read = async (path) => (await stream({ ...at(path), headers: bearer, live: false })).json()
  assert.deepEqual(await read(`${folder}/a/b`), [1])
  await assert.rejects(read(`${folder}2`), { status: 403 })
})

test("a fork goes its own way", async () => {
  const path = unique("source")
  const source = await create(path)
  await source.append(JSON.stringify("a"))
  const made = await fetch(`${root}/v1/stream/${path}-fork`, {
    method: "PUT",
    headers: { ...headers, "Stream-Forked-From": `/v1/stream/${path}` },
  })
  assert.equal(made.status, 201)
  await source.append(JSON.stringify("b"))
  const fork = new DurableStream({ ...at(`${path}-fork`), contentType: "application/json" })
  await fork.append(JSON.stringify("c"))
  assert.deepEqual(await (await fork.stream({ live: false })).json(), ["a", "c"])
  assert.deepEqual(await (await source.stream({ live: false })).json(), ["a", "b"])
})

// -- state -----------------------------------------------------------------------------------------

const anything = { "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) } }
const state = createStateSchema({ todos: { schema: anything, type: "todo", primaryKey: "id" } })
const change = (operation, id, value, txid) => ({
  type: "todo",
  key: String(id),
  ...(value && { value: { id: String(id), ...value } }),
  headers: { operation, ...(txid && { txid }) },
})

inBothModes("a StreamDB holds what the stream says", async (place, sse) => {
  const path = unique("state")
  const one = await create(path)
  await one.append(JSON.stringify(change("insert", 1, { title: "first" })))
  const db = createStreamDB({ streamOptions: at(path), state, live: sse ? "sse" : true })
  await db.preload()
  const titles = () => [...db.collections.todos.values()].map((todo) => todo.title).sort()
  assert.deepEqual(titles(), ["first"])
  // All of a transaction comes at once: when its id is there, so are its rows.
  await transaction(async (run) => {
    for (const id of [2, 3, 4])
      await run("select pgtide.append($1, $2::jsonb)", [path, JSON.stringify(change("insert", id, { title: `t${id}` }, "tx-1"))])
    await run("select pgtide.append($1, $2::jsonb)", [path, JSON.stringify(change("delete", 1, undefined, "tx-1"))])
  })
  await db.utils.awaitTxId("tx-1")
  assert.deepEqual(titles(), ["t2", "t3", "t4"])
  await one.append(JSON.stringify(change("update", 2, { title: "changed" }, "tx-2")))
  await db.utils.awaitTxId("tx-2")
  assert.deepEqual(titles(), ["changed", "t3", "t4"])
  db.close()
  place.signal.throwIfAborted()
})
