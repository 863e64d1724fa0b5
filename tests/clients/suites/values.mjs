// Values of every type as the client parses them, from the snapshot and from the log.

import { assert, inBothModes, test, until, sql, ask } from "./world.mjs"

const TYPES = `
  id int2 primary key, v varchar, c char(5), b bool not null, i4 int4, i8 int8, f4 float4, f8 float8,
  n numeric(10,2), u uuid, d date, tz timestamptz, iv interval, by bytea, j json, jb jsonb, note mood, spot pair,
  few posint, i8s int8[], grid int4[][], bools bool[], texts text[], moods mood[], days mood[][], pairs pair[], fews posint[], docs jsonb[],
  doubles float8[], dates date[]`

async function types() {
  await sql(`do $$ begin
    create type mood as enum ('sad', 'it''s ok', 'happy');
    create type pair as (x float8, y float8);
    create domain posint as int check (value > 0);
  exception when duplicate_object or unique_violation then null; end $$`)
}

const WRITTEN = {
  id: 7, v: "été \"quoted\"", c: "ab", b: true, i4: 2147483647, i8: "9223372036854775807", f4: 0.25, f8: "-Infinity",
  n: "12.5", u: "b3ee5ed4-76ac-4a1b-bdaa-95df13a3b4a0", d: "2026-03-01", tz: "2026-03-01 12:00:00.5+02", iv: "1 day 2 hours",
  by: "\\x01ff", j: '{"a":[1,null,"\\u00e9"]}', jb: '{"b":{"c":9007199254740991}}', note: "it's ok", spot: "(1.5,2)",
  few: 3, i8s: "{1,-9223372036854775808,NULL}", grid: "{{1,2},{3,4}}", bools: "{t,f,NULL}",
  texts: '{"a b","c,d","NULL",NULL,"quo\\"te","back\\\\slash",""}', moods: `{sad,"it's ok"}`, days: "{{sad,happy},{happy,sad}}", pairs: '{"(1.5, 2)","(3,4)"}', fews: "{5,9,2}",
  docs: '{"{\\"k\\": [1]}",null}', doubles: "{Infinity,NaN,0.1}", dates: "{2026-03-01}",
}
const READ = {
  id: 7, v: "été \"quoted\"", c: "ab   ", b: true, i4: 2147483647, i8: 9223372036854775807n, f4: 0.25, f8: -Infinity,
  n: "12.50", u: "b3ee5ed4-76ac-4a1b-bdaa-95df13a3b4a0", d: "2026-03-01", tz: "2026-03-01 10:00:00.5+00", iv: "P1DT2H",
  by: "\\x01ff", j: { a: [1, null, "é"] }, jb: { b: { c: 9007199254740991 } }, note: "it's ok", spot: "(1.5,2)",
  few: "3", i8s: [1n, -9223372036854775808n, null], grid: [[1, 2], [3, 4]], bools: [true, false, null],
  texts: ["a b", "c,d", "NULL", null, 'quo"te', "back\\slash", ""], moods: ["sad", "it's ok"], days: [["sad", "happy"], ["happy", "sad"]], pairs: ["(1.5,2)", "(3,4)"], fews: ["5", "9", "2"],
  docs: [{ k: [1] }, null], doubles: [Infinity, NaN, 0.1], dates: ["2026-03-01"],
}
const names = Object.keys(WRITTEN)

inBothModes("every type, in the snapshot and in the log", async (place, liveSse) => {
  await types()
  const table = await place.table(TYPES)
  const insert = `insert into ${table} (${names}) values (${names.map((_, at) => `$${at + 1}`)})`
  const written = Object.values(WRITTEN)
  await sql(insert, written)
  const shape = place.shape({ table, liveSse })
  assert.deepEqual(await shape.rows, [READ])
  await sql(insert, [8, ...written.slice(1)])
  await until(() => shape.currentRows.length === 2)
  assert.deepEqual(shape.currentRows.find((row) => row.id === 8), { ...READ, id: 8 })
  // Other values, and none at all.
  await sql(`update ${table} set b = false, i8 = 1, j = '"text"', grid = '{{5}}', texts = '{}', f8 = 1e300, moods = null
    where id = 7`)
  await sql(`update ${table} set ${names.slice(1).filter((name) => name !== "b").map((name) => `${name} = null`)} where id = 8`)
  const changed = { b: false, i8: 1n, j: "text", grid: [[5]], texts: [], f8: 1e300, moods: null }
  const empty = { ...Object.fromEntries(names.map((name) => [name, null])), id: 8, b: true }
  await until(() => shape.currentRows.find((row) => row.id === 8).v === null)
  await until(() => shape.currentRows.find((row) => row.id === 7).b === false)
  assert.deepEqual(shape.currentRows.find((row) => row.id === 7), { ...READ, ...changed })
  assert.deepEqual(shape.currentRows.find((row) => row.id === 8), empty)
  // A client that comes now reads the same from a snapshot of its own or from the log.
  const late = place.shape({ table, params: { where: "id > 0" } })
  assert.deepEqual((await late.rows).find((row) => row.id === 7), { ...READ, ...changed })
})

test("every type, in a subset", async (place) => {
  await types()
  const table = await place.table(TYPES)
  await sql(`insert into ${table} (${names}) values (${names.map((_, at) => `$${at + 1}`)})`, Object.values(WRITTEN))
  for (const subsetMethod of ["GET", "POST"]) {
    const stream = place.stream({ table, log: "changes_only", subsetMethod })
    const { data } = await stream.fetchSnapshot({ where: "id = 7" })
    assert.deepEqual(data.map((one) => one.value), [READ])
  }
})

test("the schema header", async (place) => {
  await types()
  const table = await place.table(`${TYPES}, tail timestamp(3), code bit(3), span interval day to second(2)`)
  const answer = await ask({ table, offset: "-1" })
  const schema = JSON.parse(answer.headers.get("electric-schema"))
  assert.deepEqual(Object.keys(schema).sort(), [...names, "tail", "code", "span"].sort())
  const { id, b, c, n, i8s, grid, moods, days, fews, note, few, tail, code } = schema
  assert.deepEqual(
    { id, b, c, n, i8s, grid, moods, days, fews, note, few, tail, code },
    {
      id: { type: "int2", pk_index: 0, not_null: true },
      b: { type: "bool", not_null: true },
      c: { type: "bpchar", length: 5 },
      n: { type: "numeric", precision: 10, scale: 2 },
      i8s: { type: "int8", dims: 1 },
      grid: { type: "int4", dims: 2 },
      moods: { type: "mood", dims: 1 },
      days: { type: "mood", dims: 2 },
      fews: { type: "posint", dims: 1 },
      note: { type: "mood" },
      few: { type: "posint" },
      tail: { type: "timestamp", precision: 3 },
      code: { type: "bit", length: 3 },
    },
  )
  assert.equal(schema.span.type, "interval")
  assert.equal(schema.span.fields, "DAY TO SECOND")
  assert.equal(schema.span.precision, 2)
})

test("column names beyond ASCII are parsed", async (place) => {
  const table = await place.table(`id int primary key, "größe" int8, "数" bool`)
  await sql(`insert into ${table} values (1, 5, true)`)
  const shape = place.shape({ table })
  assert.deepEqual(await shape.rows, [{ id: 1, "größe": 5n, "数": true }])
})
