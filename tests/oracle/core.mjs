// What the real @trigger.dev/core makes of cases, one JSON line each, answered with one JSON line each.
// Run with tests/clients as the working directory, where the package is.
import { createInterface } from "node:readline";
import { TaskRunError, applyMetadataOperations } from "@trigger.dev/core/v3";

function apply({ metadata, operations }) {
  // Its pattern for slices remembers where it found the last one: begin as a new process would.
  applyMetadataOperations({}, [{ type: "set", key: "$.a", value: 1 }]);
  const unapplied = [];
  try {
    for (const [index, operation] of operations.entries()) {
      // What is no JSON any more, it goes on with.
      if (isOdd(metadata)) return { odd: true };
      const { newMetadata, unappliedOperations } = applyMetadataOperations(metadata, [operation]);
      metadata = newMetadata;
      if (unappliedOperations.length > 0) unapplied.push(index);
    }
    JSON.stringify(metadata);
    return { metadata, unapplied };
  } catch (error) {
    // Also if it has come to contain itself.
    if (!(error instanceof TypeError)) throw error;
    return { thrown: error.message };
  }
}

// Whether an array has holes, or members that are no elements.
function isOdd(value, seen = new Set()) {
  if (value === null || typeof value !== "object" || seen.has(value)) return false;
  seen.add(value);
  const found = Array.isArray(value) && Object.keys(value).length !== value.length;
  return found || Object.values(value).some((one) => isOdd(one, seen));
}

// The codes that an error of the type INTERNAL_ERROR may have.
function codes() {
  const internal = TaskRunError.options.find((one) => one.shape.type.safeParse("INTERNAL_ERROR").success);
  return { codes: internal.shape.code.options };
}

const judges = {
  codes,
  operations: apply,
  error: ({ value }) => ({ valid: TaskRunError.safeParse(value).success }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { judge, ...given } = JSON.parse(line);
  console.log(JSON.stringify(judges[judge](given)));
}
