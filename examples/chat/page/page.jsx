// A chat: each question is a run, its answer the run's stream. What is on the page is read again from
// pgtide after a reload; only which runs there are is kept in the tab.

import { TriggerAuthContext, useInputStreamSend, useRealtimeRun, useRealtimeStream, useTaskTrigger } from "@trigger.dev/react-hooks"
import { useCallback, useEffect, useRef, useState } from "react"
import { createRoot } from "react-dom/client"

const STREAM = "answer"
const QUESTIONS = ["Why do the tides come back?", "What does a lighthouse dream of?", "How does Postgres remember?"]
const KEPT = "turns"
const PATIENCE = 3000 // milliseconds

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
  return (
    <TriggerAuthContext.Provider value={{ baseURL: session.apiUrl, accessToken: session.triggerToken }}>
      <Chat session={session} />
    </TriggerAuthContext.Provider>
  )
}

/** Whether pgtide answers, asked while `waiting`. The hooks come back by themselves; this is for the reader. */
function useReachable(url, waiting) {
  const [reachable, setReachable] = useState(true)
  useEffect(() => {
    if (!waiting) return
    const ask = () =>
      fetch(`${url}/v1/health`, { signal: AbortSignal.timeout(PATIENCE) })
        .then(({ ok }) => setReachable(ok), () => setReachable(false))
    const asking = setInterval(ask, PATIENCE)
    return () => (clearInterval(asking), setReachable(true))
  }, [url, waiting])
  return reachable
}

function Chat({ session }) {
  const [turns, setTurns] = useState(() => JSON.parse(sessionStorage.getItem(KEPT) ?? "[]"))
  const [draft, setDraft] = useState("")
  const asked = useRef("")
  const { submit, handle, isLoading, error } = useTaskTrigger(session.task)
  const bottom = useFollowing()
  const [over, setOver] = useState({})
  const end = useCallback((id) => setOver((before) => ({ ...before, [id]: true })), [])
  const speaking = turns.length > 0 && !over[turns.at(-1).id]
  const reachable = useReachable(session.apiUrl, speaking)

  useEffect(() => sessionStorage.setItem(KEPT, JSON.stringify(turns)), [turns])
  useEffect(() => {
    if (!handle) return
    const turn = { id: handle.id, token: handle.publicAccessToken, prompt: asked.current }
    setTurns((before) => (before.some(({ id }) => id === turn.id) ? before : [...before, turn]))
  }, [handle])

  const ask = (prompt) => {
    if (!prompt.trim() || isLoading || speaking) return
    asked.current = prompt.trim()
    setDraft("")
    submit({ prompt: asked.current })
  }
  return (
    <>
      <header>
        <h1>Tidal chat</h1>
        <p>A Python worker makes up every word. Reload while it speaks: nothing is lost, nothing comes twice.</p>
        {turns.length > 0 && <button type="button" className="quiet" onClick={() => setTurns([])}>New chat</button>}
      </header>
      <section className="turns">
        {turns.length === 0 && (
          <ul className="questions">
            {QUESTIONS.map((question) => (
              <li key={question}><button type="button" onClick={() => ask(question)}>{question}</button></li>
            ))}
          </ul>
        )}
        {turns.map((turn) => <Turn key={turn.id} {...turn} end={end} />)}
        {!reachable && <p className="away" role="status">The connection is lost. The answer goes on as soon as it is back.</p>}
        {error && <Trouble what={`The question could not be asked: ${error.message}`} />}
        <div ref={bottom} />
      </section>
      <form onSubmit={(event) => (event.preventDefault(), ask(draft))}>
        <input value={draft} onChange={(event) => setDraft(event.target.value)} placeholder="Ask anything" aria-label="Your question" />
        <button disabled={isLoading || speaking || !draft.trim()}>{isLoading ? "Asking…" : "Ask"}</button>
      </form>
    </>
  )
}

/** A question and its answer, with the run's state beside it. */
function Turn({ id, token, prompt, end }) {
  const { run, error: lost } = useRealtimeRun(id, { accessToken: token })
  const { parts, error } = useRealtimeStream(id, STREAM, { accessToken: token, timeoutInSeconds: 600 })
  const { send, error: unstopped } = useInputStreamSend(`stop:${STREAM}`, id, { accessToken: token })
  const [stopping, setStopping] = useState(false)
  const stop = () => {
    setStopping(true)
    send({ reason: "the reader has had enough" })
  }
  const over = Boolean(run?.finishedAt)
  const { progress = 0, words = parts.length } = run?.metadata ?? {}
  const stopped = run?.output?.stopped === true
  const trouble = error ?? lost ?? unstopped
  useEffect(() => void ((over || lost) && end(id)), [over, lost, end, id])
  return (
    <article className="turn">
      <p className="question">{prompt}</p>
      <div className="answer">
        <p className={over ? "text" : "text speaking"} aria-live="polite" aria-busy={!over}>{parts.join("")}</p>
        <aside>
          <Status run={run} stopped={stopped} />
          <progress max="1" value={progress} aria-label="Progress" />
          <dl>
            <dt>Words</dt><dd>{Math.max(words, parts.length)}</dd>
            <dt>Done</dt><dd>{Math.round(progress * 100)} %</dd>
          </dl>
          {!over && <button type="button" onClick={stop} disabled={stopping && !unstopped}>{stopping && !unstopped ? "Stopping…" : "Stop"}</button>}
          <code title={id}>{id}</code>
        </aside>
      </div>
      {trouble && <Trouble what={trouble.message} />}
    </article>
  )
}

function Status({ run, stopped }) {
  const status = stopped ? "stopped" : (run?.status.toLowerCase() ?? "queued")
  return <span className={`status ${status}`}>{status.replaceAll("_", " ")}</span>
}

function Trouble({ what, retry }) {
  return (
    <p role="alert">
      {what} {retry && <button type="button" onClick={retry}>Try again</button>}
    </p>
  )
}

/** Keeps the end in sight while the reader is there, and lets whoever scrolls up read on. */
function useFollowing() {
  const bottom = useRef(null)
  const near = useRef(true)
  useEffect(() => {
    const note = () => {
      near.current = innerHeight + scrollY >= document.documentElement.scrollHeight - 120
    }
    addEventListener("scroll", note, { passive: true })
    const grown = new ResizeObserver(() => near.current && scrollTo({ top: document.documentElement.scrollHeight }))
    grown.observe(bottom.current.parentElement)
    return () => {
      removeEventListener("scroll", note)
      grown.disconnect()
    }
  }, [])
  return bottom
}

createRoot(document.querySelector("#root")).render(<App />)
