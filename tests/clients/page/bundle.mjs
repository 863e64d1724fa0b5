// `node bundle.mjs folder`: the page, ready to be served from there.

import { copyFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

const here = dirname(fileURLToPath(import.meta.url))
const folder = process.argv[2]
await build({
  entryPoints: [join(here, "page.jsx")],
  outfile: join(folder, "page.js"),
  bundle: true,
  format: "esm",
  jsx: "automatic",
  define: { "process.env.NODE_ENV": '"development"' },
  logLevel: "warning",
})
await copyFile(join(here, "index.html"), join(folder, "index.html"))
