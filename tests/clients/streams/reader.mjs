// Reads a JSON stream to its end, one message per line: `node reader.mjs url live key`.
import { stream } from "@durable-streams/client"

const [url, live, key] = process.argv.slice(2)
const response = await stream({
  url,
  live,
  json: true,
  headers: { Authorization: `Bearer ${key}` },
  backoffOptions: { initialDelay: 10, maxDelay: 100, multiplier: 1.3 },
  // A connection that is cut while it is read is no reason to end.
  onError: () => ({}),
})
response.subscribeJson(({ items }) => {
  for (const item of items) process.stdout.write(`${JSON.stringify(item)}\n`)
})
await response.closed
