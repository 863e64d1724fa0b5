// Follows shapes with the unmodified client and tells what it holds.
//
// Commands come as lines of JSON on stdin, reports go out as lines of JSON on stdout:
//   {follow: name, options}   → {name, rows, offset, handle} at every up-to-date
//   {stop: name}              → {name, stopped: true, rows, requests, refetches, problems, shape}
// Rows are by key. `problems` is everything that a reader of the raw messages can be surprised by:
// an insert of a known key, an update or a delete of an unknown one, what the client warns of, and
// errors.

import readline from "node:readline"
import { FetchError, Shape, ShapeStream, isChangeMessage, isControlMessage } from "@electric-sql/client"

const followed = new Map()
const warnings = []
for (const level of ["warn", "error"])
  console[level] = (...parts) => warnings.push(`${level}: ${parts.map(String).join(" ")}`)

const plain = (_, value) => (typeof value === "bigint" ? { bigint: String(value) } : value)
const report = (line) => process.stdout.write(JSON.stringify(line, plain) + "\n")

class Following {
  constructor(name, { rows = {}, ...options }) {
    this.name = name
    this.rows = new Map(Object.entries(rows))
    this.requests = []
    this.problems = []
    this.refetches = 0
    this.abort = new AbortController()
    this.stream = new ShapeStream({
      ...options,
      warnOnHttp: false,
      signal: this.abort.signal,
      // Quicker than the default, so that a test of a restart does not wait for a minute.
      backoffOptions: { initialDelay: 50, maxDelay: 200, multiplier: 1.3 },
      fetchClient: (...given) => this.fetch(...given),
      onError: (error) => this.fail(error),
    })
    this.unsubscribe = this.stream.subscribe((messages) => this.takeIn(messages))
    this.shape = new Shape(this.stream)
  }

  async fetch(input, init) {
    const query = new URL(input).searchParams
    const request = {
      offset: query.get("offset"),
      live: query.get("live") === "true",
      sse: query.get("live_sse") === "true",
      handle: query.get("handle"),
      status: 0,
      answered: null,
    }
    this.requests.push(request)
    const response = await fetch(input, init)
    request.status = response.status
    request.answered = response.headers.get("electric-handle")
    return response
  }

  fail(error) {
    if (this.abort.signal.aborted) return
    const detail = error instanceof FetchError ? JSON.stringify(error.json ?? error.text) : ""
    this.problems.push(`${error} ${detail}`)
    report({ name: this.name, failed: String(error) })
  }

  takeIn(messages) {
    for (const message of messages) {
      if (isChangeMessage(message)) this.apply(message)
      else if (isControlMessage(message) && message.headers.control === "must-refetch") {
        this.refetches += 1
        this.rows.clear()
      }
    }
    const end = messages.at(-1)
    if (end && isControlMessage(end) && end.headers.control === "up-to-date")
      report({
        name: this.name,
        rows: Object.fromEntries(this.rows),
        offset: this.stream.lastOffset,
        handle: this.stream.shapeHandle,
      })
  }

  apply(message) {
    const { key, value, headers } = message
    const known = this.rows.has(key)
    if (known === (headers.operation === "insert"))
      this.problems.push(`${headers.operation} of ${known ? "a known" : "an unknown"} key: ${key}`)
    if (headers.operation === "delete") this.rows.delete(key)
    else this.rows.set(key, { ...this.rows.get(key), ...value })
  }

  stop() {
    const shape = this.shape.currentRows
    this.unsubscribe()
    this.abort.abort()
    report({
      name: this.name,
      stopped: true,
      rows: Object.fromEntries(this.rows),
      requests: this.requests,
      refetches: this.refetches,
      problems: [...this.problems, ...warnings],
      shape,
    })
  }
}

process.on("unhandledRejection", (error) => warnings.push(`unhandled: ${error}`))
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line)
  if (command.follow) followed.set(command.follow, new Following(command.follow, command.options))
  else followed.get(command.stop).stop()
}).on("close", () => process.exit(0))
