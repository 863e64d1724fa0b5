// What the suites of the clients assert of the server itself, with plain requests.

import { assert, ask, changes, controls, root, sql, test, until, url } from "./world.mjs"

const offsetOf = (answer) => answer.headers.get("electric-offset")
const handleOf = (answer) => answer.headers.get("electric-handle")

/** Reads a shape's log until it has so many changes; the answer that has them all. */
const whole = (query, count) =>
  until(async () => {
    const answer = await ask(query)
    return changes(answer.body).length === count && answer
  })

test("the root and the health are there for who looks whether it is up", async () => {
  assert.equal((await fetch(root)).status, 200)
  const health = await fetch(`${root}/v1/health`)
  assert.equal(health.status, 200)
  assert.match(health.headers.get("content-type"), /^application\/json/)
  assert.deepEqual(await health.json(), { status: "active" })
})

test("the first answer may be kept for long and keeps its etag", async (place) => {
  const table = await place.table()
  const first = await ask({ table, offset: "-1" })
  const directives = first.headers.get("cache-control").split(", ").sort()
  assert.deepEqual(directives, ["max-age=604800", "public", "s-maxage=3600", "stale-while-revalidate=2629746"])
  assert.equal(offsetOf(first), "0_0")
  assert.equal(first.headers.has("electric-up-to-date"), false)
  await sql(`insert into ${table} select i, 'x' from generate_series(1, 5) i`)
  await whole({ table, offset: "0_0", handle: handleOf(first) }, 5)
  const again = await ask({ table, offset: "-1" })
  assert.equal(again.headers.get("etag"), first.headers.get("etag"))
  assert.deepEqual(again.body, first.body)
  const next = await ask({ table, offset: offsetOf(again), handle: handleOf(again) })
  assert(next.headers.get("etag") && next.headers.get("etag") !== first.headers.get("etag"))
})

test("etags of an answer behind the first, also from between two offsets", async (place) => {
  const table = await place.table()
  const handle = handleOf(await ask({ table, offset: "-1" }))
  for (let id = 1; id <= 9; id++) await sql(`insert into ${table} values ($1, 'x')`, [id])
  const query = { table, offset: "0_0", handle }
  const answer = await whole(query, 9)
  assert.equal(answer.body.length, 10)
  assert.deepEqual(controls(answer.body), ["up-to-date"])
  const revalidated = await ask(query, { headers: { "if-none-match": answer.headers.get("etag") } })
  assert.deepEqual([revalidated.status, revalidated.body], [304, ""])
  const [lsn, index] = offsetOf(answer).split("_").map(BigInt)
  const between = { ...query, offset: `${lsn - 1n}_${index}` }
  const { status, headers } = await ask(between)
  assert.equal(status, 200)
  assert.equal((await ask(between, { headers: { "if-none-match": headers.get("etag") } })).status, 304)
})

test("a live request right behind the first answer", async (place) => {
  const table = await place.table()
  const first = await ask({ table, offset: "-1" })
  await sql(`insert into ${table} values (1, 'x')`)
  const query = { table, handle: handleOf(first), offset: "0_0", live: "true" }
  const live = await until(async () => {
    const answer = await ask(query)
    return changes(answer.body).length && answer
  })
  assert.equal(live.status, 200)
  assert.equal(live.headers.get("cache-control"), "public, max-age=5, stale-while-revalidate=5")
  assert.match(live.headers.get("electric-cursor"), /^\d+$/)
  assert.deepEqual(changes((await ask(query)).body), changes(live.body))
})

test("a deleted shape: its handle leads to the next one", async (place) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'x'), (2, 'y')`)
  const old = handleOf(await ask({ table, offset: "-1" }))
  assert.equal(await place.forget(table, old), 202)
  // A flag without a value is set.
  const refused = await fetch(`${url}?${new URLSearchParams({ table, offset: "0_0", handle: old })}&live`)
  assert.equal(refused.status, 409)
  assert.deepEqual(await refused.json(), [{ headers: { control: "must-refetch" } }])
  const next = refused.headers.get("electric-handle")
  assert(next && next !== old)
  const anew = await ask({ table, offset: "-1", handle: next })
  assert.deepEqual([anew.status, handleOf(anew)], [200, next])
  assert.equal(handleOf(await ask({ table, offset: "-1", handle: next, expired_handle: old, "cache-buster": "x" })), next)
})

test("deleting what is not there is not found, and with the handle of another shape neither", async (place) => {
  const table = await place.table()
  assert.equal(await place.forget(table), 404)
  const filtered = handleOf(await ask({ table, where: "id > 1", offset: "-1" }))
  assert.equal(await place.forget(table, filtered), 404)
  const answer = await ask({ table, where: "id > 1" }, { method: "DELETE" })
  assert.deepEqual([answer.status, answer.body], [202, ""])
  assert.equal((await ask({ table, where: "id > 1" }, { method: "DELETE" })).status, 404)
  const whole = handleOf(await ask({ table, offset: "-1" }))
  assert.equal((await ask({ handle: whole }, { method: "DELETE" })).status, 202)
  assert.equal((await ask({}, { method: "DELETE" })).status, 400)
})

test("a table made, dropped and made again under its name", async (place) => {
  const table = await place.table()
  await sql(`insert into ${table} values (1, 'x')`)
  const first = await ask({ table, offset: "-1" })
  assert.equal(changes(first.body).length, 1)
  await sql(`drop table ${table}`)
  await until(async () => (await ask({ table, offset: "-1" })).status === 400)
  await sql(`create table ${table} (id int primary key, other int)`)
  await sql(`insert into ${table} values (7, 8)`)
  const anew = await until(async () => {
    const answer = await ask({ table, offset: "-1" })
    return answer.status === 200 && answer
  })
  assert.notEqual(handleOf(anew), handleOf(first))
  assert.deepEqual(changes(anew.body).map((one) => one.value), [{ id: "7", other: "8" }])
})

test("a type dropped and made again under its name", async (place) => {
  const make = async (labels) => {
    await sql(`create type season as enum (${labels})`)
    return place.table("id int primary key, at season[]")
  }
  for (const label of ["spring", "autumn"]) {
    const table = await make(`'${label}'`)
    await sql(`insert into ${table} values (1, '{${label}}')`)
    const answer = await ask({ table, offset: "-1" })
    assert.equal(answer.status, 200)
    assert.deepEqual(changes(answer.body)[0].value.at, `{${label}}`)
    assert.deepEqual(JSON.parse(answer.headers.get("electric-schema")).at, { type: "season", dims: 1 })
    await sql(`drop table ${table}; drop type season`)
  }
})

test("a page of another origin may read what it needs", async (place) => {
  const table = await place.table()
  const origin = "https://app.example"
  const answer = await ask({ table, offset: "-1" }, { headers: { origin } })
  assert.equal(answer.headers.get("access-control-allow-origin"), origin)
  const exposed = answer.headers.get("access-control-expose-headers").split(/, ?/)
  for (const name of ["handle", "offset", "schema", "cursor", "up-to-date", "has-data"])
    assert(exposed.includes(`electric-${name}`), name)
  const asked = { "access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type" }
  const preflight = await fetch(url, { method: "OPTIONS", headers: { origin, ...asked } })
  assert.equal(preflight.status, 204)
  assert.match(preflight.headers.get("access-control-allow-headers"), /content-type/)
  assert.match(preflight.headers.get("access-control-allow-methods"), /POST/)
})
