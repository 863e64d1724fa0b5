// The page: what is followed, what is known of it, and when it is drawn.

import { createDetail } from "./detail.js"
import { byId, element, keyed, setText, tagButtons } from "./elements.js"
import { curlCommand, filterOf, follow } from "./follow.js"
import {
  LIST_COLUMNS, arrange, batchesOf, durationOf, kindOf, labelOf, millisecondsOf,
  presentMilliseconds, progressOf, statusOf,
} from "./runs.js"

const FINISHED_SHOWN = 25
const BATCHES_SHOWN = 4
const RATE_SECONDS = 5
const DELAYS_KEPT = 60

let chosen = readAddress()
let stopFollowing = () => {}
let rows = []
let stream
let drawing = false
let arrivals = [] // [milliseconds, number of changes]
let delays = [] // milliseconds
const children = { active: new Map(), finished: new Map(), batches: new Map() }
const detail = createDetail(byId("detail"), { close: () => choose({ run: null }), choose })

// ---- what is followed -------------------------------------------------------------------------

/** The choice that the address names: `?tag=…` or `?batch=…`, `run=…`, `transport=sse`. */
function readAddress() {
  const query = new URLSearchParams(location.search)
  const [tag, batch, run] = ["tag", "batch", "run"].map((name) => query.get(name))
  return { tag, batch: tag ? null : batch, run, sse: query.get("transport") === "sse" }
}

function writeAddress() {
  const query = new URLSearchParams()
  for (const name of ["tag", "batch", "run"]) if (chosen[name]) query.set(name, chosen[name])
  if (chosen.sse) query.set("transport", "sse")
  const text = query.toString()
  history.pushState(null, "", text ? `?${text}` : location.pathname)
}

/** Changes the choice; follows another shape only if that is what changed. */
function choose(change) {
  apply({ ...chosen, ...change })
  writeAddress()
}

function apply(next) {
  const { tag, batch, run, sse } = chosen
  chosen = next
  if (next.tag !== tag || next.batch !== batch || next.sse !== sse) start()
  if (next.run !== run || next.sse !== sse) detail.show(next.run, next)
  draw()
}

function start() {
  stopFollowing()
  rows = []
  arrivals = []
  delays = []
  stream = undefined
  byId("notice").hidden = true
  setState("connecting")
  drawChoice()
  stopFollowing = follow(filterOf(chosen), { columns: LIST_COLUMNS, sse: chosen.sse }, {
    rows: (newRows, from) => {
      rows = newRows
      stream = from
      setState("live")
      drawSoon()
    },
    changes: measure,
    reached: (reached) => setState(!reached ? "lost" : stream ? "live" : "connecting"),
    failed: (error) => {
      setState("lost")
      byId("notice").hidden = false
      setText(byId("notice"), `The server refused this shape: ${error.message}`)
    },
  })
}

/** Counts changes and how long ago their rows were written, by the row's own clock. */
function measure(changes) {
  const present = presentMilliseconds()
  arrivals.push([present, changes.length])
  for (const { headers, value } of changes) {
    const written = millisecondsOf(value.updated_at)
    if (headers.operation === "update" && written <= present) delays.push(present - written)
  }
  delays = delays.slice(-DELAYS_KEPT)
}

// ---- drawing ----------------------------------------------------------------------------------

const STATES = { connecting: "Connecting", live: "Live", lost: "Reconnecting" }

function setState(state) {
  const node = byId("state")
  if (node.dataset.state === state) return
  node.dataset.state = state
  setText(node.firstElementChild, STATES[state])
}

function drawSoon() {
  if (drawing) return
  drawing = true
  requestAnimationFrame(() => {
    drawing = false
    draw()
  })
}

function draw() {
  const { active, finished } = arrange(rows)
  const shown = finished.slice(0, FINISHED_SHOWN)
  keyed(byId("active"), children.active, active, (run) => run.id, makeRow)
  keyed(byId("finished"), children.finished, shown, (run) => run.id, makeRow)
  byId("active-empty").hidden = !stream || active.length > 0
  byId("finished-empty").hidden = !stream || finished.length > 0
  byId("older").hidden = finished.length === shown.length
  setText(byId("older"), `and ${finished.length - shown.length} older ones`)

  const batches = batchesOf(rows).slice(0, BATCHES_SHOWN)
  keyed(byId("batches"), children.batches, batches, (batch) => batch.id, makeBatch)
  byId("batches-empty").hidden = !stream || batches.length > 0

  const count = { queued: 0, executing: 0, completed: 0, failed: 0, canceled: 0 }
  for (const run of rows) count[kindOf(run)] += 1
  for (const kind of ["executing", "queued", "completed", "failed"])
    setText(byId(`count-${kind}`), stream ? String(count[kind]) : "–")
  setText(byId("offset"), stream ? stream.lastOffset : "–")
}

function drawFigures() {
  const present = presentMilliseconds()
  arrivals = arrivals.filter(([time]) => present - time < RATE_SECONDS * 1000)
  const changes = arrivals.reduce((sum, [, number]) => sum + number, 0)
  setText(byId("rate"), stream ? (changes / RATE_SECONDS).toFixed(1) : "–")
  const sorted = [...delays].sort((a, b) => a - b)
  const median = sorted[sorted.length >> 1]
  setText(byId("delay"), median === undefined ? "–" : `${median.toFixed(median < 10 ? 1 : 0)} ms`)
}

function drawChoice() {
  const following = byId("following")
  const name = chosen.tag ?? chosen.batch
  byId("clear").hidden = !name
  following.className = name ? "chosen" : ""
  setText(following, chosen.tag ? `tag ${name}` : chosen.batch ? `batch ${name}` : "every run")
  setText(byId("curl"), curlCommand(filterOf(chosen)))
  setText(byId("sql"), `insert into pgtide.runs (task, tags)
values ('hello', '{${chosen.tag ?? "mine"}}');
update pgtide.runs
set status = 'EXECUTING',
    metadata = '{"progress": 0.4}'
where task = 'hello';`)
  for (const input of byId("transport").querySelectorAll("input"))
    input.checked = (input.value === "sse") === chosen.sse
  for (const rowsShown of [children.active, children.finished])
    for (const child of rowsShown.values()) child.markTag()
}

function makeRow(run) {
  const status = element("span", { class: "status" })
  const open = element("button", { type: "button", class: "open" }, run.task ?? "run")
  const bar = element("progress", { max: "1", "aria-label": `Progress of ${run.id}` })
  const label = element("span", { class: "label" })
  const time = element("span", { class: "time" })
  const tags = element("span", { class: "tags" })
  const markTag = () =>
    tags.replaceChildren(...tagButtons(run.tags, chosen.tag, (tag) => choose({ tag, batch: null })))
  const node = element(
    "li",
    { click: (event) => event.target.closest("button.tag") || choose({ run: run.id }) },
    status,
    element("span", { class: "what" }, open, element("span", { class: "mono id" }, run.id)),
    element("span", { class: "progress" }, bar, label),
    tags,
    time,
  )
  markTag()
  const update = (now) => {
    node.dataset.kind = kindOf(now)
    node.toggleAttribute("data-open", now.id === chosen.run)
    setText(status, statusOf(now))
    bar.value = progressOf(now)
    setText(label, labelOf(now))
    setText(time, durationOf(now))
  }
  return { node, update, markTag }
}

function makeBatch(batch) {
  const open = element(
    "button",
    { type: "button", class: "open", click: () => choose({ batch: batch.id, tag: null }) },
    batch.task,
  )
  const parts = ["completed", "failed", "canceled", "executing"].map((kind) =>
    element("span", { "data-kind": kind }),
  )
  const name = `Progress of ${batch.id}`
  const bar = element("div", { class: "parts", role: "progressbar", "aria-label": name }, ...parts)
  const label = element("span", { class: "label" })
  const node = element(
    "li",
    {},
    element("span", { class: "what" }, open, element("span", { class: "mono id" }, batch.id)),
    bar,
    label,
  )
  const update = (now) => {
    const done = now.count - now.queued - now.executing
    const widths = [now.completed, now.failed, now.canceled, now.progress]
    parts.forEach((part, index) => (part.style.width = `${(100 * widths[index]) / now.count}%`))
    bar.setAttribute("aria-valuenow", String(Math.round((100 * (done + now.progress)) / now.count)))
    const failed = now.failed > 0 ? `, ${now.failed} failed` : ""
    setText(label, `${done} of ${now.count} finished${failed}`)
  }
  return { node, update }
}

// ---- start ------------------------------------------------------------------------------------

byId("clear").addEventListener("click", () => choose({ tag: null, batch: null }))
byId("transport").addEventListener("change", ({ target }) => choose({ sse: target.value === "sse" }))
byId("theme").addEventListener("click", () => {
  const root = document.documentElement
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches
  root.dataset.theme = dark ? "light" : "dark"
  localStorage.setItem("pgtide-theme", root.dataset.theme)
})
for (const button of document.querySelectorAll("[data-copy]"))
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(byId(button.dataset.copy).textContent)
    setText(button, "Copied")
    setTimeout(() => setText(button, "Copy"), 1500)
  })
addEventListener("popstate", () => apply(readAddress()))
addEventListener("keydown", ({ key }) => key === "Escape" && chosen.run && choose({ run: null }))

const theme = localStorage.getItem("pgtide-theme")
if (theme) document.documentElement.dataset.theme = theme
start()
if (chosen.run) detail.show(chosen.run, chosen)
setInterval(() => {
  drawFigures()
  draw()
}, 500)
