// streams.*: written and read as a back end does, with the manager that Trigger.dev's workers have.

import { connect, createServer } from "node:net"
import { ApiClient, realtimeStreams } from "@trigger.dev/core/v3"
import { StandardRealtimeStreamsManager } from "@trigger.dev/core/v3/workers"
import { runs, streams } from "@trigger.dev/sdk"
import { api, assert, client, finish, keys, proxy, rejection, root, rowOf, run, sleep, sql, test, until } from "./world.mjs"

// Outside of a worker nobody has done this, and writing does nothing.
realtimeStreams.setGlobalManager(new StandardRealtimeStreamsManager(api(), root))

const append = (id, key, ...messages) =>
  Promise.all(messages.map((one) => sql("select pgtide.append($1, $2::jsonb)", [`runs/${id}/${key}`, JSON.stringify(one)])))

/** What a stream gives, as it comes; `done` when it has ended. */
function collect(stream) {
  const seen = { parts: [], ended: false }
  seen.done = (async () => {
    for await (const part of await stream) seen.parts.push(part)
    seen.ended = true
  })()
  return seen
}

/** Words that are there at once, or `slowly` one after the other, until `held` is resolved before `last`. */
async function* words(list, { held, slowly = 0 } = {}) {
  for (const [at, word] of list.entries()) {
    if (held && at === list.length - 1) await held
    if (slowly) await sleep(slowly)
    yield word
  }
}

/** Passes bytes on to pgtide; `cut()` resets all connections. */
async function tunnel(place) {
  const sockets = new Set()
  const { hostname, port } = new URL(root)
  const server = createServer((near) => {
    const far = connect(Number(port), hostname)
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one)
      one.on("error", () => {})
      one.on("close", () => (sockets.delete(one), other.destroy()))
      one.pipe(other)
    }
  })
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening))
  const cut = () => sockets.forEach((one) => one.resetAndDestroy())
  place.signal.addEventListener("abort", () => (cut(), server.close()))
  return { cut, url: `http://127.0.0.1:${server.address().port}` }
}

test("defined streams: objects are piped, appended, written and read", async (place) => {
  const id = await run()
  const defined = streams.define({ id: "ai/tokens" })
  const seen = collect(defined.read(id, { signal: place.signal }))
  const source = [{ token: "Hel" }, { token: "lo\n“ü”" }, { n: 1.5, nested: [null, true] }]
  const { stream, waitUntilComplete } = defined.pipe(words(source), { target: id })
  const tee = collect(stream)
  await waitUntilComplete()
  assert.deepEqual(tee.parts, source)
  await defined.append({ appended: true }, { target: id })
  const { waitUntilComplete: written } = defined.writer({
    target: id,
    execute: ({ write, merge }) => {
      write("by hand")
      merge(new ReadableStream({ start: (controller) => (controller.enqueue("merged"), controller.close()) }))
    },
  })
  await written()
  const all = [...source, { appended: true }, "by hand", "merged"]
  await until(() => seen.parts.length === all.length)
  assert.deepEqual(seen.parts, all)
  await finish(id)
  await seen.done
  assert.deepEqual((await rowOf(id)).realtime_streams, ["ai/tokens"])
})

test("texts are appended as they are", async () => {
  const id = await run()
  await streams.append("logs", "hello", { target: id })
  await streams.append("logs", '{"a":1}', { target: id })
  await streams.append("by default", { target: id })
  await finish(id)
  const logs = collect(streams.read(id, "logs"))
  await logs.done
  assert.deepEqual(logs.parts, ["hello", '{"a":1}'])
  const others = collect(streams.read(id))
  await others.done
  assert.deepEqual(others.parts, ["by default"])
})

test("from an index on, and from the latest one on", async (place) => {
  const id = await run()
  await streams.pipe("ai", words([0, 1, 2, 3]), { target: id }).waitUntilComplete()
  const { signal } = place
  const [third, latest, beyond] = [{ startIndex: 2 }, { from: "latest" }, { startIndex: 5 }].map((options) =>
    collect(streams.read(id, "ai", { ...options, signal })),
  )
  await until(() => third.parts.length === 2 && latest.parts.length === 1)
  await append(id, "ai", 4)
  await append(id, "ai", 5)
  await finish(id)
  await Promise.all([third.done, latest.done, beyond.done])
  assert.deepEqual([third.parts, latest.parts, beyond.parts], [[2, 3, 4, 5], [3, 4, 5], [5]])
})

test("a writer whose connection is cut goes on where it was", async (place) => {
  const id = await run()
  const { cut, url } = await tunnel(place)
  const seen = collect(streams.read(id, "ai", { signal: place.signal }))
  const manager = new StandardRealtimeStreamsManager(new ApiClient(url, keys.root), url)
  const list = Array.from({ length: 300 }, (_, at) => `${at} `)
  let go
  const held = new Promise((release) => (go = release))
  const { wait } = manager.pipe("ai", words(list, { held }), { target: id })
  await until(() => seen.parts.length === list.length - 1)
  cut()
  go()
  await wait()
  await finish(id)
  await seen.done
  assert.equal(seen.parts.join(""), list.join(""))
})

test("a writer that is told to come later sends nothing twice", async (place) => {
  const id = await run()
  const between = await proxy(place)
  const manager = new StandardRealtimeStreamsManager(api(keys.root, between.url), between.url)
  between.answers.push(undefined, "lost")
  const { wait } = manager.pipe("ai", words(["a", "b", "c"]), { target: id })
  await wait()
  assert.deepEqual(between.requests.map((one) => one.method), ["PUT", "POST", "HEAD", "POST"])
  assert.equal(between.requests[3].headers["x-resume-from-chunk"], "3")
  await finish(id)
  const seen = collect(streams.read(id, "ai"))
  await seen.done
  assert.deepEqual(seen.parts, ["a", "b", "c"])
})

test("a reader whose connection is cut misses nothing and sees nothing twice", async (place) => {
  const id = await run()
  const { cut, url } = await tunnel(place)
  const reader = new ApiClient(url, keys.root)
  const seen = collect(reader.fetchStream(id, "ai", { signal: place.signal }))
  const all = Array.from({ length: 60 }, (_, at) => `${at} `)
  const { waitUntilComplete } = streams.pipe("ai", words(all, { slowly: 5 }), { target: id })
  for (const count of [10, 30, 50]) {
    await until(() => seen.parts.length >= count)
    cut()
  }
  await waitUntilComplete()
  await finish(id)
  await seen.done
  assert.equal(seen.parts.join(""), all.join(""))
})

test("a stream that nobody has written yet is waited for", async (place) => {
  const id = await run()
  const seen = collect(runs.fetchStream(id, "later"))
  const never = collect(runs.fetchStream(id, "never"))
  await sleep(100)
  await append(id, "later", { a: 1 })
  await until(() => seen.parts.length === 1)
  await finish(id)
  await Promise.all([seen.done, never.done])
  assert.deepEqual([seen.parts, never.parts], [[{ a: 1 }], []])
})

test("with a run: its streams are opened as it names them", async (place) => {
  const id = await run()
  const subscription = runs.subscribeToRun(id, { signal: place.signal }).withStreams()
  const parts = []
  const statuses = []
  const reading = (async () => {
    for await (const part of subscription) {
      if (part.type === "run") statuses.push(part.run.status)
      else parts.push([part.type, part.chunk])
      if (parts.length === 3 && statuses.at(-1) === "COMPLETED") break
    }
  })()
  await until(() => statuses.length)
  await streams.pipe("ai", words(["a", "b"]), { target: id }).waitUntilComplete()
  await streams.append("logs", "line", { target: id })
  await until(() => parts.length === 3)
  await finish(id)
  await reading
  assert.deepEqual(parts.filter(([key]) => key === "ai"), [["ai", "a"], ["ai", "b"]])
  assert.deepEqual(parts.filter(([key]) => key === "logs"), [["logs", "line"]])
})

test("something is sent to a run, with a token for that", async (place) => {
  const id = await run()
  const approval = streams.input({ id: "approval" })
  await approval.send(id, { approved: true })
  await approval.send(id, "text")
  const browser = new ApiClient(root, await client(keys.root).auth.createPublicToken({ scopes: { write: { inputStreams: id } } }))
  assert.deepEqual(await browser.sendInputStream(id, "approval", [1]), { ok: true })
  const received = collect(api().fetchStream(id, "input/approval", { signal: place.signal }))
  await until(() => received.parts.length === 3)
  assert.deepEqual(received.parts.map(JSON.parse), [{ approved: true }, "text", [1]])
  await finish(id)
  await received.done
  assert.equal((await rejection(approval.send(id, 1))).status, 400)
  assert.equal((await rejection(approval.send("run_nothing", 1))).status, 404)
})

test("what cannot be read or written says so", async () => {
  assert.equal((await rejection(collect(streams.read("run_nothing", "ai")).done)).status, 404)
  const token = await client(keys.root).auth.createPublicToken({ scopes: { read: { runs: "run_other" } } })
  const id = await run()
  assert.equal((await rejection(collect(api(token).fetchStream(id, "ai")).done)).status, 403)
  await finish(id)
  assert.equal((await rejection(streams.append("ai", "x", { target: id }))).status, 400)
  const manager = new StandardRealtimeStreamsManager(api(), root)
  assert.equal((await rejection(manager.pipe("ai", words(["x"]), { target: id }).wait())).status, 400)
})
