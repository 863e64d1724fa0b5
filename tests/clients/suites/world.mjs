// What every suite of this folder uses: named cases, tables of their own, clients that end with them.

import assert from "node:assert/strict"
import { setMaxListeners } from "node:events"
import { setTimeout as sleep } from "node:timers/promises"
import pg from "pg"
import { Shape, ShapeStream, isChangeMessage, isControlMessage } from "@electric-sql/client"

export { assert, sleep }
export const url = `${process.env.PGTIDE_URL}/v1/shape`
export const root = process.env.PGTIDE_URL
export const schema = process.env.PGTIDE_TEST_SCHEMA

const WAIT_MILLISECONDS = 60_000
// int8 comes as a string from this driver; nothing here compares one.
const pool = new pg.Pool({
  connectionString: process.env.DATABASE_URL,
  max: 12,
  options: `-csearch_path=${schema}`,
})

/** Name of a case → what it does. A case gets a `Place` of its own. */
export const cases = new Map()

export function test(name, body) {
  assert(!cases.has(name), `two cases named ${name}`)
  cases.set(name, body)
}

/** Both live modes, by name; a case of each. */
export function inBothModes(name, body) {
  test(`${name} (long polling)`, (place) => body(place, false))
  test(`${name} (SSE)`, (place) => body(place, true))
}

/** The rows of a statement. Without values it may be several, and there are none. */
export async function sql(text, values) {
  return (await pool.query(text, values)).rows
}

/** `body(run)` in one transaction; its id, as Postgres shows it to a client. */
export async function transaction(body) {
  const client = await pool.connect()
  const run = async (text, values) => (await client.query(text, values)).rows
  try {
    await run("begin")
    await body(run)
    const [{ xid }] = await run("select pg_current_xact_id()::xid::text as xid")
    await run("commit")
    return Number(xid)
  } catch (error) {
    await run("rollback")
    throw error
  } finally {
    client.release()
  }
}

/** Wait until `condition` returns something true and does not throw; that. */
export async function until(condition, what) {
  const deadline = Date.now() + WAIT_MILLISECONDS
  for (let error; ; await sleep(10)) {
    try {
      const value = await condition()
      if (value) return value
      error = undefined
    } catch (caught) {
      error = caught
    }
    if (Date.now() > deadline) throw error ?? new Error(`never: ${what ?? condition}`)
  }
}

export const controls = (messages) =>
  messages.filter(isControlMessage).map((message) => message.headers.control)
export const changes = (messages) => messages.filter(isChangeMessage)
export const operations = (messages) => changes(messages).map((one) => one.headers.operation)
export const sorted = (rows, column = "id") =>
  [...rows].sort((a, b) => (a[column] < b[column] ? -1 : a[column] > b[column] ? 1 : 0))

/** A case's tables and clients. */
export class Place {
  #abort = new AbortController()
  #tables = []

  constructor() {
    setMaxListeners(0, this.signal)
  }

  get signal() {
    return this.#abort.signal
  }

  /** Makes a table whose name needs quotes, and returns it, quoted, with its schema. */
  async table(columns = "id int primary key, title text not null, priority int not null default 10") {
    const random = Math.random().toString(16).slice(2, 10)
    const name = `"${schema}"."things of 7_${random}"`
    await sql(`create table ${name} (${columns})`)
    this.#tables.push(name)
    return name
  }

  /** A stream that notes its requests in `requests` and its messages in `messages`. */
  stream({ table, params = {}, fetchClient = fetch, ...options }) {
    const requests = []
    const stream = new ShapeStream({
      url,
      params: { ...(table && { table }), ...params },
      signal: this.signal,
      backoffOptions: { initialDelay: 50, maxDelay: 200, multiplier: 1.3 },
      fetchClient: async (input, init) => {
        const query = Object.fromEntries(new URL(input).searchParams)
        const request = { ...query, method: init?.method ?? "GET", status: 0 }
        requests.push(request)
        const response = await fetchClient(input, init)
        request.status = response.status
        request.headers = response.headers
        return response
      },
      ...options,
    })
    stream.requests = requests
    stream.messages = []
    return stream
  }

  /** Starts it. */
  follow(options) {
    const stream = this.stream(options)
    stream.subscribe((messages) => void stream.messages.push(...messages))
    return stream
  }

  shape(options) {
    return new Shape(this.stream(options))
  }

  /** Deletes the shape at the server, by its definition. */
  async forget(table, handle) {
    const query = new URLSearchParams({ table, ...(handle && { handle }) })
    return (await fetch(`${url}?${query}`, { method: "DELETE" })).status
  }

  async close() {
    this.#abort.abort()
    for (const table of this.#tables) await sql(`drop table if exists ${table}`)
  }
}

/** One plain request; its body read. */
export async function ask(query, options = {}) {
  const response = await fetch(`${url}?${new URLSearchParams(query)}`, options)
  const text = await response.text()
  const body = text && response.headers.get("content-type")?.includes("json") ? JSON.parse(text) : text
  return { status: response.status, headers: response.headers, body }
}

export const leave = () => pool.end()
