// One run by its id, with everything that its row says and the changes that it went through.

import { byId, element, jsonBlock, setText, tagButtons } from "./elements.js"
import { filterOfRun, follow } from "./follow.js"
import { durationOf, kindOf, labelOf, millisecondsOf, progressOf, statusOf } from "./runs.js"

const CHANGES_SHOWN = 8

/** The panel `node`. `show(id, {sse})` follows that run, or nothing for null. */
export function createDetail(node, { close, choose }) {
  const body = byId("detail-body")
  let stop = () => {}
  let changes = []
  byId("detail-close").addEventListener("click", close)

  function show(id, { sse }) {
    stop()
    changes = []
    node.hidden = !id
    body.replaceChildren()
    if (!id) return
    setText(byId("detail-title"), "Run")
    node.focus({ preventScroll: true })
    stop = follow(filterOfRun(id), { sse }, {
      rows: ([run]) => (run ? draw(run) : drawGone(id)),
      changes: (messages) => {
        changes = [...messages.map(line).reverse(), ...changes].slice(0, CHANGES_SHOWN)
      },
    })
  }

  function draw(run) {
    setText(byId("detail-title"), run.task ?? "Run")
    const kept = body.querySelectorAll("pre")
    const scrolled = [...kept].map((pre) => pre.scrollTop)
    body.replaceChildren(
      element("p", { class: "mono id" }, run.id),
      element(
        "div",
        { class: "headline", "data-kind": kindOf(run) },
        element("span", { class: "status" }, statusOf(run)),
        element("span", { class: "time" }, durationOf(run)),
      ),
      progressBar(run),
      element("p", { class: "tags" }, ...tagButtons(run.tags, null, (tag) => choose({ tag, batch: null }))),
      facts(run),
      ...jsonBlock("Error", run.error),
      ...jsonBlock("Output", run.output),
      ...jsonBlock("Payload", run.payload),
      ...jsonBlock("Metadata", run.metadata),
      element("h3", {}, "Latest changes of this row"),
      changes.length > 0
        ? element("ol", { class: "changes mono" }, ...changes.map((text) => element("li", {}, text)))
        : element("p", { class: "empty" }, "None since this panel was opened."),
    )
    body.querySelectorAll("pre").forEach((pre, index) => (pre.scrollTop = scrolled[index] ?? 0))
  }

  function drawGone(id) {
    body.replaceChildren(
      element("p", { class: "mono id" }, id),
      element("p", { class: "empty" }, "There is no run with this id now: it was deleted."),
    )
  }

  function facts(run) {
    const batch = run.batch_id &&
      element(
        "button",
        { type: "button", class: "link mono", click: () => choose({ batch: run.batch_id, tag: null }) },
        run.batch_id,
      )
    const entries = [
      ["Batch", batch],
      ["Created", time(run.created_at)],
      ["Started", time(run.started_at)],
      ["Finished", time(run.completed_at)],
    ]
    return element(
      "dl",
      { class: "facts" },
      ...entries.filter(([, value]) => value).flatMap(([name, value]) => [
        element("dt", {}, name),
        element("dd", {}, value),
      ]),
    )
  }

  return { show }
}

function progressBar(run) {
  const bar = element("progress", { max: "1", value: progressOf(run), "aria-label": "Progress" })
  return element(
    "div",
    { class: "progress", "data-kind": kindOf(run) },
    bar,
    element("span", { class: "label" }, labelOf(run)),
  )
}

/** A change as one line: where in the log, what was done, to which columns. */
function line({ headers, value }) {
  const columns = Object.keys(value).filter((column) => column !== "id")
  const what = headers.operation === "update" ? columns.join(", ") : "whole row"
  return `${headers.lsn}_${headers.op_position} ${headers.operation} ${what}`
}

function time(text) {
  const milliseconds = millisecondsOf(text)
  return Number.isNaN(milliseconds) ? "" : new Date(milliseconds).toLocaleTimeString()
}
