// What a row of pgtide.runs means to a reader. No DOM here.

/** Columns that the list needs; the rest is fetched only for the run that is looked at. */
export const LIST_COLUMNS = [
  "id", "task", "status", "tags", "batch_id", "metadata", "error",
  "created_at", "started_at", "completed_at", "updated_at",
]

// status word: [kind, what people read]
const STATUSES = {
  DELAYED: ["queued", "Delayed"],
  PENDING: ["queued", "Queued"],
  QUEUED: ["queued", "Queued"],
  PENDING_VERSION: ["queued", "Waiting for a version"],
  DEQUEUED: ["executing", "Starting"],
  EXECUTING: ["executing", "Executing"],
  WAITING: ["executing", "Waiting"],
  COMPLETED: ["completed", "Completed"],
  CANCELED: ["canceled", "Canceled"],
  FAILED: ["failed", "Failed"],
  CRASHED: ["failed", "Crashed"],
  SYSTEM_FAILURE: ["failed", "System failure"],
  EXPIRED: ["failed", "Expired"],
  TIMED_OUT: ["failed", "Timed out"],
}

export const kindOf = (run) => STATUSES[run.status]?.[0] ?? "queued"
export const statusOf = (run) => STATUSES[run.status]?.[1] ?? run.status
export const isActive = (run) => kindOf(run) === "queued" || kindOf(run) === "executing"

/** Fraction from 0 to 1 that is done; a number above 1 in the metadata is a percentage. */
export function progressOf(run) {
  if (kindOf(run) === "completed") return 1
  const progress = Number(run.metadata?.progress ?? 0)
  return Math.min(1, Math.max(0, (progress > 1 ? progress / 100 : progress) || 0))
}

/** What the run says of its progress, like "step 3 of 8", or why it failed; else how far it is. */
export function labelOf(run) {
  if (kindOf(run) === "failed" && messageOf(run.error)) return messageOf(run.error)
  if (run.metadata?.label) return run.metadata.label
  return kindOf(run) === "executing" ? `${Math.round(100 * progressOf(run))} %` : statusOf(run)
}

const messageOf = (error) => error?.message ?? error?.raw

/** Milliseconds since 1970 of Postgres's text for a timestamp, NaN for none. */
export function millisecondsOf(text) {
  if (!text) return NaN
  const zoned = /([+-]\d\d)(:?\d\d)?$/.test(text)
  return Date.parse(text.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00") + (zoned ? "" : "Z"))
}

/** The present as Postgres's clock on this machine would say it, in milliseconds since 1970. */
export const presentMilliseconds = () => performance.timeOrigin + performance.now()

/** How long the run has been at work, "" if it has not begun. */
export function durationOf(run) {
  const begin = millisecondsOf(run.started_at)
  const end = millisecondsOf(run.completed_at)
  if (Number.isNaN(begin)) return ""
  return duration((Number.isNaN(end) ? presentMilliseconds() : end) - begin)
}

export function duration(milliseconds) {
  const seconds = Math.max(0, milliseconds) / 1000
  if (seconds < 60) return `${seconds.toFixed(1)} s`
  return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`
}

/** Runs in two lists: at work, the longest at it first, then waiting; and finished, latest first. */
export function arrange(runs) {
  const active = []
  const finished = []
  for (const run of runs) (isActive(run) ? active : finished).push(run)
  const rank = (run) => `${kindOf(run) === "executing" ? 0 : 1}${run.started_at ?? run.created_at}`
  active.sort(by(rank, 1))
  finished.sort(by((run) => run.completed_at ?? run.created_at ?? "", -1))
  return { active, finished }
}

/** Batches of these runs, newest first: how many runs of each kind, and the progress in each. */
export function batchesOf(runs) {
  const batches = new Map()
  for (const run of runs) {
    if (!run.batch_id) continue
    const batch = batches.get(run.batch_id) ?? newBatch(run)
    batch.count += 1
    batch[kindOf(run)] += 1
    if (isActive(run)) batch.progress += progressOf(run)
    if (run.created_at < batch.created_at) batch.created_at = run.created_at
    batches.set(run.batch_id, batch)
  }
  return [...batches.values()].sort(by((batch) => batch.created_at, -1))
}

const newBatch = ({ batch_id, task, created_at }) => ({
  id: batch_id, task, created_at,
  count: 0, progress: 0, queued: 0, executing: 0, completed: 0, failed: 0, canceled: 0,
})

function by(rank, direction) {
  return (a, b) => (rank(a) < rank(b) ? -direction : rank(a) > rank(b) ? direction : 0)
}
