// The reference server of Durable Streams, from npm: `node reference_streams.mjs [folder]` keeps streams
// in memory, or in files below the folder. Prints its port; ends with its input.
import { DurableStreamTestServer } from "@durable-streams/server"

const dataDir = process.argv[2]
const server = new DurableStreamTestServer({ port: 0, ...(dataDir ? { dataDir } : {}) })
const url = await server.start()
console.log(new URL(url).port)
process.stdin.on("end", () => process.exit(0))
process.stdin.resume()
