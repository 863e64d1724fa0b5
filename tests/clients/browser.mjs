// A page in a headless Chromium. Commands are lines of JSON on stdin, each gets one line on stdout:
//   {open: url}          → {}
//   {until: expression}  → {value} once the expression, evaluated in the page, is truthy
//   {close: true}        → {problems}: uncaught errors, error messages of the console, failed requests
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
const page = await browser.newPage()
const problems = []
page.on("pageerror", (error) => problems.push(String(error)))
page.on("console", (message) => {
  if (message.type() === "error") problems.push(`console: ${message.text()}`)
})
page.on("response", (response) => {
  if (response.status() >= 400) problems.push(`${response.status()} ${response.url()}`)
})

async function answer(command) {
  if (command.open) {
    await page.goto(command.open)
    return {}
  }
  if (command.until) {
    const handle = await page.waitForFunction(command.until, null, {
      timeout: WAIT_MILLISECONDS, polling: 50,
    })
    return { value: await handle.jsonValue() }
  }
  await browser.close()
  return { problems }
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const result = await answer(JSON.parse(line)).catch(async (error) => ({
    failed: String(error), problems, text: await page.textContent("body").catch(() => ""),
  }))
  process.stdout.write(JSON.stringify(result) + "\n")
}
await browser.close()
