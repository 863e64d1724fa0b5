// Pipes words into a stream of a run with @trigger.dev/sdk: `node stream_piper.mjs run key words parts`, words in JSON.
// After each of so many parts it waits for a line on stdin. Ends when all have been taken.

import { createInterface } from "node:readline"
import { setTimeout as sleep } from "node:timers/promises"
import { ApiClient, realtimeStreams } from "@trigger.dev/core/v3"
import { StandardRealtimeStreamsManager } from "@trigger.dev/core/v3/workers"
import { streams } from "@trigger.dev/sdk"

const [run, key, text, count] = process.argv.slice(2)
const { TRIGGER_API_URL: url, TRIGGER_SECRET_KEY: secret } = process.env
realtimeStreams.setGlobalManager(new StandardRealtimeStreamsManager(new ApiClient(url, secret), url))

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

async function* words() {
  const all = JSON.parse(text)
  const part = Math.ceil(all.length / Number(count))
  for (const [at, word] of all.entries()) {
    if (at && at % part === 0) await lines.next()
    await sleep(2)
    yield word
  }
}

await streams.pipe(key, words(), { target: run }).waitUntilComplete()
process.exit(0)
