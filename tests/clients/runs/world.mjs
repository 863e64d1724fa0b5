// What the suites of this folder use: @trigger.dev/sdk pointed at pgtide, runs that are written with
// plain SQL, subscriptions whose rows are noted, and an HTTP proxy that notes requests.

import { createServer, request as send } from "node:http"
import { ApiClient } from "@trigger.dev/core/v3"
import { TriggerClient, configure } from "@trigger.dev/sdk"
import { assert, root, sql, until } from "../suites/world.mjs"

export { assert, cases, sleep, sql, test, until } from "../suites/world.mjs"
export { root }

/** Secret keys of two kinds: the SDK signs tokens with the first by itself, for the second it asks pgtide to. */
export const keys = { root: process.env.PGTIDE_ROOT_KEY, listed: process.env.PGTIDE_LISTED_KEY }

configure({ baseURL: root, accessToken: keys.root })

export const unique = (word) => `${word}-${Math.random().toString(36).slice(2, 10)}`

/** The SDK with a credential of its own, and maybe another address. */
export const client = (accessToken, baseURL = root) => new TriggerClient({ accessToken, baseURL })
export const api = (accessToken = keys.root, baseURL = root) => new ApiClient(baseURL, accessToken)

/** A new row of pgtide.runs, as a back end makes it; its id. */
export async function run(columns = {}) {
  const row = { task: "made-by-sql", ...columns }
  const names = Object.keys(row)
  const places = names.map((_, at) => `$${at + 1}`)
  const statement = `insert into pgtide.runs (${names}) values (${places}) returning id`
  return (await sql(statement, Object.values(row)))[0].id
}

export const rowOf = async (id) => (await sql("select * from pgtide.runs where id = $1", [id]))[0]
export const change = (id, assignments, ...values) =>
  sql(`update pgtide.runs set ${assignments} where id = $1`, [id, ...values])
export const finish = (id, output = '{"ok":true}') => change(id, "status = 'COMPLETED', output = $2", output)

/** Reads a subscription to its end: {rows, ended, error}; `last` and `latest(id)` throw what it threw. */
export function follow(subscription) {
  const seen = { rows: [], ended: false, error: null }
  seen.done = (async () => {
    try {
      for await (const row of subscription) seen.rows.push(row)
      seen.ended = true
    } catch (error) {
      seen.error = error
    }
  })()
  const rows = () => {
    if (seen.error) throw seen.error
    return seen.rows
  }
  Object.defineProperty(seen, "last", { get: () => rows().at(-1) })
  seen.latest = (id) => rows().findLast((row) => row.id === id)
  seen.ids = () => [...new Set(seen.rows.map((row) => row.id))]
  seen.statuses = () => seen.rows.map((row) => row.status)
  return seen
}

/** Waits until it has, and throws what it threw. */
export async function ended(seen) {
  await until(() => seen.ended || seen.error, "the subscription's end")
  if (seen.error) throw seen.error
}

/** The first row that a new subscription to a run gives. */
export async function first(id, options) {
  const { runs } = client(keys.root)
  for await (const row of runs.subscribeToRun(id, options)) return row
}

/** The claims of a token, unverified. */
export const claims = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"))

/**
 * Passes requests on to pgtide. `requests` has {method, path, query, headers, status} of each and `open`
 * how many are under way; what is put into `answers` ([status, body, headers]) is answered at once instead,
 * and "lost" means that pgtide gets the request and the client no answer.
 */
export async function proxy(place) {
  const noted = { requests: [], answers: [], open: 0 }
  const server = createServer((incoming, outgoing) => {
    const { pathname, searchParams } = new URL(incoming.url, root)
    const one = { method: incoming.method, path: pathname, query: Object.fromEntries(searchParams), headers: incoming.headers }
    noted.requests.push(one)
    noted.open += 1
    outgoing.on("close", () => (noted.open -= 1))
    const answer = noted.answers.shift()
    if (Array.isArray(answer)) {
      const [status, body, headers] = answer
      one.status = status
      outgoing.writeHead(status, { "content-type": "application/json", ...headers })
      outgoing.end(JSON.stringify(body))
      return
    }
    const { method, url: path, headers } = incoming
    const passed = send(root, { method, path, headers, agent: false }, (response) => {
      one.status = response.statusCode
      if (answer === "lost") return void outgoing.destroy()
      outgoing.writeHead(response.statusCode, response.rawHeaders)
      response.pipe(outgoing)
    })
    passed.on("error", () => outgoing.destroy())
    if (answer !== "lost") outgoing.on("close", () => passed.destroy())
    incoming.pipe(passed)
  })
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening))
  place.signal.addEventListener("abort", () => {
    server.closeAllConnections()
    server.close()
  })
  noted.url = `http://127.0.0.1:${server.address().port}`
  noted.polls = () => noted.requests.filter((one) => one.query.live)
  return noted
}

/** What `promise` is rejected with. */
export async function rejection(promise) {
  try {
    await promise
  } catch (error) {
    return error
  }
  assert.fail("it was not rejected")
}
