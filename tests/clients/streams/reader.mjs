// Reads a JSON stream to its end, one message per line: `node reader.mjs url live key`. When a connection
// breaks while it is read, it goes on from where it was.
import { stream } from "@durable-streams/client"

const [url, live, key] = process.argv.slice(2)
const headers = { Authorization: `Bearer ${key}` }
const backoffOptions = { initialDelay: 10, maxDelay: 100, multiplier: 1.3 }
let offset = "-1"
process.on("unhandledRejection", () => {})

/** Whether that was all, when the connection has ended. */
async function read() {
  const response = await stream({ url, live, offset, json: true, headers, backoffOptions })
  let over = false
  try {
    return await new Promise((done, fail) => {
      response.subscribeJson((batch) => {
        if (over) return
        for (const item of batch.items) process.stdout.write(`${JSON.stringify(item)}\n`)
        offset = batch.offset
        if (batch.streamClosed) done(true)
      })
      response.closed.catch(fail)
    })
  } finally {
    over = true
  }
}

while (!(await read().catch(() => false))) await new Promise((done) => setTimeout(done, 10))
