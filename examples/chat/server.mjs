// Serves the page, and hands each visitor a token to start runs of one task with. The secret key stays here.
// `npm start` finds what `make run` has written; elsewhere, set TRIGGER_API_URL and TRIGGER_SECRET_KEY.

import { readFile } from "node:fs/promises"
import { createServer } from "node:http"
import { fileURLToPath } from "node:url"
import { auth, configure } from "@trigger.dev/sdk"
import { build } from "esbuild"

const TASK = "chat"
const PAGE = fileURLToPath(new URL("page/", import.meta.url))
const FILES = { "/": ["index.html", "text/html"], "/page.css": ["page.css", "text/css"] }

try {
  process.loadEnvFile(new URL("../../.pgtide/dev.env", import.meta.url))
} catch {
  // There is none: the environment has it.
}
const { TRIGGER_API_URL, TRIGGER_SECRET_KEY, PORT = "3002" } = process.env
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

/** What the page needs. With each run that it starts it gets a token for this run, to read and to stop it. */
async function session() {
  const triggerToken = await auth.createTriggerPublicToken(TASK, { multipleUse: true, expirationTime: "12h" })
  return { apiUrl: TRIGGER_API_URL, task: TASK, triggerToken }
}

async function answer(request, respond) {
  if (request.method === "POST" && request.url === "/session") {
    return respond(200, "application/json", JSON.stringify(await session()))
  }
  if (request.url === "/page.js") return respond(200, "text/javascript", bundle.outputFiles[0].contents)
  const [name, type] = FILES[request.url] ?? []
  if (!name) return respond(404, "text/plain", "Not found")
  respond(200, type, await readFile(PAGE + name))
}

const server = createServer((request, response) => {
  const respond = (status, type, body) =>
    response.writeHead(status, { "content-type": `${type}; charset=utf-8` }).end(body)
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
