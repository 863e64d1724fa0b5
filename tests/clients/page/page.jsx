// Two lists of the same shape with useShape, and what the tests do to them through window.page.
// ?shapes=<address of /v1/shape>&table=…&where=…&sse

import { ShapeStream } from "@electric-sql/client"
import { useShape } from "@electric-sql/react"
import { StrictMode, useState } from "react"
import { createRoot } from "react-dom/client"

const query = new URLSearchParams(location.search)
const url = query.get("shapes")
const table = query.get("table")
// Quicker than the default, so that a test of a restart does not wait for a minute.
const backoffOptions = { initialDelay: 50, maxDelay: 300, multiplier: 1.3 }

function Rows({ name, where }) {
  const params = { table, ...(where && { where }) }
  const { data, error, isError, isLoading } = useShape({ url, params, liveSse: query.has("sse"), backoffOptions })
  const rows = [...data].sort((a, b) => a.id - b.id)
  return (
    <section id={name} data-loading={isLoading} data-error={isError ? JSON.stringify(error.json) : undefined}>
      {rows.map((row) => <p key={row.id}>{`${row.id} ${row.title}`}</p>)}
    </section>
  )
}

function Page() {
  const [shown, show] = useState(["one", "two"])
  const [where, filter] = useState(query.get("where"))
  window.page = { show, filter, preload }
  return shown.map((name) => <Rows key={name} name={name} where={where} />)
}

/** The titles of a subset, asked for across origins in the way given. */
async function preload(subsetMethod) {
  const headers = { authorization: "Bearer token" }
  const stream = new ShapeStream({ url, params: { table }, log: "changes_only", subsetMethod, headers, backoffOptions })
  const { data } = await stream.fetchSnapshot({ where: "id > $1", params: { 1: "1" }, orderBy: "id" })
  return data.map((one) => one.value.title)
}

window.rows = (name) => [...document.querySelectorAll(`#${name} p`)].map((row) => row.textContent).join(", ")
createRoot(document.querySelector("#root")).render(<StrictMode><Page /></StrictMode>)
