// `node bundle.mjs source folder`: index.html and page.jsx of one folder, ready to be served from another.

import { copyFile } from "node:fs/promises"
import { join } from "node:path"
import { build } from "esbuild"

const [source, folder] = process.argv.slice(2)
await build({
  entryPoints: [join(source, "page.jsx")],
  outfile: join(folder, "page.js"),
  bundle: true,
  format: "esm",
  jsx: "automatic",
  define: { "process.env.NODE_ENV": '"development"' },
  external: ["node:*"], // Imported by core in Node only, when it is needed.
  logLevel: "warning",
})
await copyFile(join(source, "index.html"), join(folder, "index.html"))
