// Any hooks of @trigger.dev/react-hooks, as a test asks for them:
//   page.show({name: {hook, args, options, context}, …})  what is shown from now on; `context` is TriggerAuthContext's
//   page.call(name, method, ...args)                      one of the functions that the hook returned
//   state(name)                                           what it returned last: {run, runs, handle, error, …}
//   statuses(name)                                        the statuses that its run, or its first one, has had
//   completed(name)                                       the ids that its onComplete was called with

import * as hooks from "@trigger.dev/react-hooks"
import { StrictMode, useState } from "react"
import { createRoot } from "react-dom/client"

const { TriggerAuthContext } = hooks
const states = {}
const histories = {}
const completions = {}

function Hook({ name, hook, args = [], options = {} }) {
  const onComplete = (run) => (completions[name] ??= []).push(run.id)
  const state = hooks[hook](...args, { onComplete, ...options })
  states[name] = state
  const run = state.run ?? state.runs?.[0]
  const history = (histories[name] ??= [])
  if (run && history.at(-1) !== run.status) history.push(run.status)
  return <pre id={name}>{JSON.stringify(visible(state), null, 1)}</pre>
}

const visible = ({ error, ...state }) => ({ ...state, ...(error && { error: String(error) }) })

function Page() {
  const [shown, show] = useState({})
  window.page = { show, call: (name, method, ...args) => void states[name][method](...args) }
  return Object.entries(shown).map(([name, { context, ...given }]) => {
    const key = `${name} ${JSON.stringify([given, context])}`
    const one = <Hook key={key} name={name} {...given} />
    return context ? <TriggerAuthContext.Provider key={key} value={context}>{one}</TriggerAuthContext.Provider> : one
  })
}

window.state = (name) => JSON.parse(document.getElementById(name)?.textContent ?? "{}")
window.statuses = (name) => histories[name] ?? []
window.completed = (name) => completions[name] ?? []
// Strict mode does something in React's development build only. There the hooks lose hold of their request when
// React mounts them twice: stop() and unmounting end nothing then.
createRoot(document.querySelector("#root")).render(<StrictMode><Page /></StrictMode>)
