// Pages in a headless Chromium. Commands are lines of JSON on stdin, each gets one line on stdout:
//   {open: url}          → {}: in a new page with an empty storage, in place of the one before
//   {reload: true}       → {}: the same page again, with its storage and cache
//   {until: expression}  → {value} once the expression, evaluated in the page, is truthy
//   {run: expression}    → {value}, awaited
//   {close: true}        → {problems}: uncaught errors, error messages of the console, refused requests
// The path of Chromium is the only argument.

import readline from "node:readline"
import { chromium } from "playwright-core"

const WAIT_MILLISECONDS = 40_000
const browser = await chromium.launch({
  executablePath: process.argv[2],
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
})
let page
let problems = []

async function open(url) {
  await close()
  page = await (await browser.newContext()).newPage()
  page.on("pageerror", (error) => problems.push(String(error)))
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(`console: ${message.text()}`)
  })
  page.on("response", (response) => {
    if (response.status() >= 400) problems.push(`${response.status()} ${response.url()}`)
  })
  await page.goto(url)
  return {}
}

async function close() {
  const had = problems
  await page?.context().close()
  page = undefined
  problems = []
  return { problems: had }
}

async function until(expression) {
  const options = { timeout: WAIT_MILLISECONDS, polling: 50 }
  return { value: await (await page.waitForFunction(expression, null, options)).jsonValue() }
}

async function answer(command) {
  if (command.open) return open(command.open)
  if (command.reload) return await page.reload(), {}
  if (command.until) return until(command.until)
  if (command.run) return { value: await page.evaluate(command.run) }
  return close()
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const result = await answer(JSON.parse(line)).catch(async (error) => ({
    failed: String(error), problems, text: await page?.textContent("body").catch(() => ""),
  }))
  process.stdout.write(JSON.stringify(result) + "\n")
}
await browser.close()
