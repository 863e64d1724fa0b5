// Start a background run, watch its progress, and keep a list of all one's runs up to date.

import { TriggerAuthContext, useRealtimeRun, useRealtimeRunsWithTag, useTaskTrigger } from "@trigger.dev/react-hooks"
import { useCallback, useEffect, useState } from "react"
import { createRoot } from "react-dom/client"

const LENGTHS = [3, 8, 20]

function App() {
  const [session, setSession] = useState()
  const [failed, setFailed] = useState(false)
  const connect = useCallback(async () => {
    try {
      const response = await fetch("/session", { method: "POST" })
      if (!response.ok) throw new Error(`the server answered ${response.status}`)
      setSession(await response.json())
      setFailed(false)
    } catch {
      setFailed(true)
    }
  }, [])
  useEffect(() => void connect(), [connect])

  if (failed) return <Trouble what="The server cannot be reached." retry={connect} />
  if (!session) return null
  // Subscriptions keep the token that they began with; with a new key they begin anew.
  return (
    <TriggerAuthContext.Provider key={session.readToken} value={{ baseURL: session.apiUrl, accessToken: session.readToken }}>
      <Studio session={session} reconnect={connect} />
    </TriggerAuthContext.Provider>
  )
}

function Studio({ session, reconnect }) {
  const [seconds, setSeconds] = useState(8)
  const { submit, handle, isLoading, error } = useTaskTrigger(session.task, { accessToken: session.triggerToken })
  const render = (event) => {
    event.preventDefault()
    submit({ seconds }, { tags: [session.tag] })
  }
  return (
    <>
      <header>
        <h1>Render a video</h1>
        <p>A background worker does it; this page follows the run as it goes.</p>
      </header>
      <form onSubmit={render}>
        <label>
          Length{" "}
          <select value={seconds} onChange={(event) => setSeconds(Number(event.target.value))}>
            {LENGTHS.map((length) => <option key={length} value={length}>{length} seconds</option>)}
          </select>
        </label>
        <button disabled={isLoading}>{isLoading ? "Starting…" : "Start"}</button>
      </form>
      {error && <Trouble what={`The run could not be started: ${error.message}`} />}
      {handle && <Current key={handle.id} handle={handle} />}
      <Runs tag={session.tag} reconnect={reconnect} />
    </>
  )
}

/** The run that was just started, with the token that came with it. */
function Current({ handle }) {
  const { run, error } = useRealtimeRun(handle.id, { accessToken: handle.publicAccessToken })
  if (error) return <Trouble what={error.message} />
  const { progress, step } = progressOf(run)
  return (
    <section className="current" aria-live="polite">
      <div className="line">
        <strong>{step}</strong>
        <span className="percent">{Math.round(progress * 100)} %</span>
      </div>
      <progress max="1" value={progress} aria-label="Progress" />
      <div className="line">
        <Status run={run} />
        <code>{handle.id}</code>
      </div>
    </section>
  )
}

/** Everything this visitor has started in the last day, the latest first. */
function Runs({ tag, reconnect }) {
  const { runs, error } = useRealtimeRunsWithTag(tag, { createdAt: "24h", skipColumns: ["payload"] })
  return (
    <section>
      <h2>Your runs</h2>
      {error && <Trouble what="The list is not up to date any more." retry={reconnect} />}
      {runs.length === 0 && !error && <p className="empty">None in the last 24 hours.</p>}
      <ul>
        {runs.toReversed().map((run) => (
          <li key={run.id}>
            <time dateTime={run.createdAt.toISOString()}>{run.createdAt.toLocaleTimeString()}</time>
            <progress max="1" value={progressOf(run).progress} aria-label={`Progress of ${run.id}`} />
            <Status run={run} />
          </li>
        ))}
      </ul>
    </section>
  )
}

function Status({ run }) {
  const status = run?.status.toLowerCase() ?? "queued"
  return <span className={`status ${status}`}>{status.replaceAll("_", " ")}</span>
}

function Trouble({ what, retry }) {
  return (
    <p role="alert">
      {what} {retry && <button type="button" onClick={retry}>Try again</button>}
    </p>
  )
}

/** The worker notes both in the run's metadata. */
function progressOf(run) {
  if (run?.isSuccess) return { progress: 1, step: "Done" }
  const { progress = 0, step = "Waiting for a worker" } = run?.metadata ?? {}
  return { progress, step: run?.error?.message ?? step }
}

createRoot(document.querySelector("#root")).render(<App />)
