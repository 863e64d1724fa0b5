// Pages in a headless Chromium. Commands are lines of JSON on stdin, each gets one line on stdout:
//   {open: url}          → {}: a page with an empty storage and cache, in place of the one before
//   {beside: url}        → {}: in another browser window with a storage of its own; the one before stays,
//                          hidden from these commands until {back: true}
//   {reload: true}       → {}: the same page again, with its storage and cache
//   {until: expression}  → {value} once the expression, evaluated in the page, is truthy
//   {run: expression}    → {value}, awaited
//   {answer: {url, status, times}} → {}: so many requests to URLs that contain `url` get this status at once
//   {asked: text}        → {value: [{url, method, status or failure}, …]}: requests with this in the URL
//   {picture: path, scheme} → {}: a PNG of the page, "light" or "dark"
//   {close: true}        → {problems}: uncaught errors, error messages of the console, refused requests; ends all windows
// The path of Chromium is the only argument.

import readline from "node:readline"
import { chromium } from "playwright-core"

const WAIT_MILLISECONDS = 60_000
const browser = await chromium.launch({
  executablePath: process.argv[2],
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
})
const CORS = { "access-control-allow-origin": "*", "access-control-expose-headers": "*" }
let windows = [] // of {page, problems, asked}, the one that commands are for last
// Emptied for each page: a new one costs a second of CPU time.
const first = await (await browser.newContext()).newPage()
const devtools = await first.context().newCDPSession(first)

async function open(url) {
  await close()
  return show(first, url)
}

async function beside(url) {
  return show(await (await browser.newContext()).newPage(), url)
}

async function empty() {
  first.removeAllListeners()
  await first.unrouteAll({ behavior: "ignoreErrors" })
  const { origin } = new URL(first.url())
  await first.goto("about:blank")
  await first.emulateMedia({ colorScheme: null })
  await first.context().clearCookies()
  await devtools.send("Network.clearBrowserCache")
  if (origin !== "null") await devtools.send("Storage.clearDataForOrigin", { origin, storageTypes: "all" })
}

async function show(page, url) {
  const problems = []
  const asked = []
  windows.push({ page, problems, asked })
  page.on("pageerror", (error) => problems.push(String(error)))
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(`console: ${message.text()}`)
  })
  page.on("request", (request) => {
    asked.push({ request, url: request.url(), method: request.method() })
  })
  page.on("requestfailed", (request) => {
    asked.find((one) => one.request === request).failure = request.failure().errorText
  })
  page.on("response", (response) => {
    asked.find((one) => one.request === response.request()).status = response.status()
    if (response.status() >= 400) problems.push(`${response.status()} ${response.url()}`)
  })
  await page.goto(url)
  return {}
}

async function close() {
  const problems = windows.flatMap((one) => one.problems)
  for (const { page } of windows.splice(0)) await (page === first ? empty() : page.context().close())
  return { problems }
}

async function until(page, expression) {
  const options = { timeout: WAIT_MILLISECONDS, polling: 50 }
  return { value: await (await page.waitForFunction(expression, null, options)).jsonValue() }
}

async function inject(page, { url, status, times }) {
  const wanted = (address) => address.href.includes(url)
  await page.route(wanted, (route) => route.fulfill({ status, headers: CORS, json: { error: "on purpose" } }), { times })
  return {}
}

async function picture(page, path, colorScheme) {
  await page.emulateMedia({ colorScheme })
  await page.screenshot({ path, fullPage: true })
  return {}
}

async function answer(command) {
  if (command.open) return open(command.open)
  if (command.beside) return beside(command.beside)
  if (command.close) return close()
  const { page, asked } = windows.at(-1)
  if (command.back) return windows.unshift(windows.pop()), {}
  if (command.reload) return await page.reload(), {}
  if (command.until) return until(page, command.until)
  if (command.answer) return inject(page, command.answer)
  if (command.picture) return picture(page, command.picture, command.scheme)
  if (command.asked) {
    const found = asked.filter((one) => one.url.includes(command.asked))
    return { value: found.map(({ request, ...rest }) => rest) }
  }
  return { value: await page.evaluate(command.run) }
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const result = await answer(JSON.parse(line)).catch(async (error) => {
    const { page, problems } = windows.at(-1) ?? {}
    return { failed: String(error), problems, text: await page?.textContent("body").catch(() => "") }
  })
  process.stdout.write(JSON.stringify(result) + "\n")
}
await browser.close()
