// `node bundle.mjs source folder [development]`: index.html and page.jsx of one folder, ready to be served
// from another; with React's development build or, by default, with what users get.

import { copyFile } from "node:fs/promises"
import { join } from "node:path"
import { build } from "esbuild"

const [source, folder, mode] = process.argv.slice(2)
await build({
  entryPoints: [join(source, "page.jsx")],
  outfile: join(folder, "page.js"),
  bundle: true,
  format: "esm",
  jsx: "automatic",
  minify: true, // Quicker to load, which each test does.
  define: { "process.env.NODE_ENV": JSON.stringify(mode ?? "production") },
  external: ["node:*"], // Imported by core in Node only, when it is needed.
  logLevel: "warning",
})
await copyFile(join(source, "index.html"), join(folder, "index.html"))
