// `node run_follower.mjs '{"runs": [ids], "tags": [tags], "batches": [ids]}'`: follows all of them with
// @trigger.dev/sdk, which takes TRIGGER_API_URL and TRIGGER_SECRET_KEY, until it is ended. One line of JSON on stdout per row: {of, id, status, metadata},
// `of` being what was followed; {of, ended: true} at its end, {of, error} if it failed; {of: null, status} for
// each request that was answered with an error.

import { runs } from "@trigger.dev/sdk"

const tell = (line) => process.stdout.write(JSON.stringify(line) + "\n")

const original = globalThis.fetch
globalThis.fetch = async (...request) => {
  const response = await original(...request)
  if (!response.ok) tell({ of: null, status: response.status })
  return response
}

async function follow(of, subscription) {
  try {
    for await (const { id, status, metadata } of subscription) tell({ of, id, status, metadata })
    tell({ of, ended: true })
  } catch (error) {
    tell({ of, error: String(error) })
  }
}

const wanted = JSON.parse(process.argv[2])
await Promise.all([
  ...(wanted.runs ?? []).map((id) => follow(id, runs.subscribeToRun(id))),
  ...(wanted.tags ?? []).map((tag) => follow(tag, runs.subscribeToRunsWithTag(tag))),
  ...(wanted.batches ?? []).map((id) => follow(id, runs.subscribeToBatch(id))),
])
