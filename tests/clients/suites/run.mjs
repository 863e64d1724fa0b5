// Runs the cases of one suite side by side: `node run.mjs suite.mjs`. One line of JSON for each case,
// {name, milliseconds, error}, and one with what the clients complained of: {complaints}. A second
// argument is a pattern for names: only those.

import { inspect } from "node:util"
import { pathToFileURL } from "node:url"
import { Place, cases, leave, schema, sql } from "./world.mjs"

const AT_ONCE = 8
const complaints = []
for (const level of ["warn", "error"])
  console[level] = (...parts) => complaints.push(`${level}: ${parts.map(String).join(" ")}`)
// A stream that ends while it refreshes rejects with nothing at all.
process.on("unhandledRejection", (error) => {
  if (error !== undefined) complaints.push(`unhandled: ${inspect(error)}`)
})

const tell = (line) => process.stdout.write(JSON.stringify(line) + "\n")

async function run(name, body) {
  const place = new Place()
  const begin = Date.now()
  let error = null
  try {
    await body(place)
  } catch (caught) {
    error = inspect(caught, { depth: 8 })
  }
  await place.close()
  tell({ name, milliseconds: Date.now() - begin, error })
}

await import(pathToFileURL(process.argv[2]))
await sql(`create schema if not exists ${schema}`)
const wanted = new RegExp(process.argv[3] ?? "")
const waiting = [...cases].filter(([name]) => wanted.test(name))
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (let next; (next = waiting.shift()); ) await run(...next)
  }),
)
tell({ complaints })
await leave()
process.exit(0)
