// The suite of the protocol's authors, unmodified, against the server at PGTIDE_URL.
import { runConformanceTests } from "@durable-streams/server-conformance-tests"

runConformanceTests({ baseUrl: process.env.PGTIDE_URL, subscriptions: true })
