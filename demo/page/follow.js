// Following shapes: pgtide's shape API through the unmodified @electric-sql/client.

import { Shape, ShapeStream, isChangeMessage } from "@electric-sql/client"

const TABLE = "pgtide.runs"
const SHAPE_URL = new URL("/v1/shape", location.href).href

/**
 * A filter of runs: `where` and its parameters, or neither for all.
 * @typedef {{where?: string, params?: string[]}} Filter
 */

/** @returns {Filter} runs with a tag, of a batch, or all. */
export function filterOf({ tag, batch }) {
  if (tag) return { where: "$1 = ANY(tags)", params: [tag] }
  if (batch) return { where: "batch_id = $1", params: [batch] }
  return {}
}

/** @returns {Filter} the run with this id. */
export const filterOfRun = (id) => ({ where: "id = $1", params: [id] })

/** The shell command that asks for a filter's rows. */
export function curlCommand(filter) {
  const fields = filter.where ? [`where=${filter.where}`] : []
  filter.params?.forEach((value, index) => fields.push(`params[${index + 1}]=${value}`))
  const lines = [`curl -i -G ${SHAPE_URL}`, `-d table=${TABLE} -d offset=-1`]
  for (const field of fields) lines.push(`--data-urlencode ${quoted(field)}`)
  return lines.join(" \\\n  ")
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`

/**
 * Keeps the runs of one shape until the returned function is called. The listener hears
 *   rows(rows, stream)  the shape's rows, at each point where they are consistent;
 *   changes(messages)   change messages that came after the first rows, before their rows;
 *   reached(reached)    whether the last request got an answer;
 *   failed(error)       the server refused the request for good.
 */
export function follow(filter, { columns, sse }, listener) {
  const stop = new AbortController()
  const stream = new ShapeStream({
    url: SHAPE_URL,
    params: { table: TABLE, ...filter, ...(columns && { columns }) },
    liveSse: sse,
    signal: stop.signal,
    warnOnHttp: false,
    fetchClient: watched((reached) => stop.signal.aborted || listener.reached?.(reached)),
    onError: (error) => listener.failed?.(error),
  })
  let complete = false
  // Before the Shape is made, so that changes are heard before the rows that they lead to.
  stream.subscribe((messages) => {
    const changes = messages.filter(isChangeMessage)
    if (complete && changes.length > 0) listener.changes?.(changes)
  })
  const shape = new Shape(stream)
  shape.subscribe(({ rows }) => {
    complete = true
    if (!stop.signal.aborted) listener.rows(rows, stream)
  })
  return () => {
    shape.unsubscribeAll()
    stream.unsubscribeAll()
    stop.abort()
  }
}

/** `fetch` that tells whether the server could be reached. An aborted request tells nothing. */
function watched(tell) {
  return async (...request) => {
    try {
      const response = await fetch(...request)
      tell(response.status < 500)
      return response
    } catch (error) {
      if (error.name !== "AbortError") tell(false)
      throw error
    }
  }
}
