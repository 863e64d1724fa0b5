// Serves the page, and hands each visitor two tokens: one to start runs with, one to follow their own.
// The secret key stays here. `npm start` finds what `make run` has written; elsewhere, set
// TRIGGER_API_URL and TRIGGER_SECRET_KEY.

import { randomUUID } from "node:crypto"
import { readFile } from "node:fs/promises"
import { createServer } from "node:http"
import { fileURLToPath } from "node:url"
import { auth, configure } from "@trigger.dev/sdk"
import { build } from "esbuild"

const TASK = "render-video"
const PAGE = fileURLToPath(new URL("page/", import.meta.url))
const FILES = { "/": ["index.html", "text/html"], "/page.css": ["page.css", "text/css"] }

try {
  process.loadEnvFile(new URL("../../.pgtide/dev.env", import.meta.url))
} catch {
  // There is none: the environment has it.
}
const { TRIGGER_API_URL, TRIGGER_SECRET_KEY, PORT = "3001" } = process.env
if (!TRIGGER_API_URL || !TRIGGER_SECRET_KEY) {
  console.error("Start `make run` first, or set TRIGGER_API_URL and TRIGGER_SECRET_KEY.")
  process.exit(1)
}
configure({ baseURL: TRIGGER_API_URL, accessToken: TRIGGER_SECRET_KEY })

const bundle = await build({
  entryPoints: [`${PAGE}page.jsx`],
  bundle: true,
  minify: true,
  write: false,
  format: "esm",
  jsx: "automatic",
  define: { "process.env.NODE_ENV": '"production"' },
  external: ["node:*"], // The packages load these in Node only.
})

/** What the page needs. A real application takes the signed-in user in place of a random visitor. */
async function session(visitor) {
  const tag = `visitor:${visitor}`
  const [triggerToken, readToken] = await Promise.all([
    auth.createTriggerPublicToken(TASK, { multipleUse: true, expirationTime: "12h" }),
    auth.createPublicToken({ scopes: { read: { tags: [tag] } }, expirationTime: "12h" }),
  ])
  return { apiUrl: TRIGGER_API_URL, task: TASK, tag, triggerToken, readToken }
}

async function answer(request, respond) {
  if (request.method === "POST" && request.url === "/session") {
    const visitor = /\bvisitor=([\w-]{36})/.exec(request.headers.cookie)?.[1] ?? randomUUID()
    const cookie = `visitor=${visitor}; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000`
    return respond(200, "application/json", JSON.stringify(await session(visitor)), { "set-cookie": cookie })
  }
  if (request.url === "/page.js") return respond(200, "text/javascript", bundle.outputFiles[0].contents)
  const [name, type] = FILES[request.url] ?? []
  if (!name) return respond(404, "text/plain", "Not found")
  respond(200, type, await readFile(PAGE + name))
}

const server = createServer((request, response) => {
  const respond = (status, type, body, headers) =>
    response.writeHead(status, { "content-type": `${type}; charset=utf-8`, ...headers }).end(body)
  answer(request, respond).catch((error) => {
    console.error(error.message)
    respond(502, "application/json", JSON.stringify({ error: "pgtide does not answer" }))
  })
})
server.on("error", ({ message }) => {
  console.error(`${message}: set PORT to another one`)
  process.exit(1)
})
server.listen(Number(PORT), "127.0.0.1", () => console.log(`open http://127.0.0.1:${server.address().port}`))
