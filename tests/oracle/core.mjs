// What the real @trigger.dev/core makes of cases, one JSON line each, answered with one JSON line each.
// Run with tests/clients as the working directory, where the package is.
import { createInterface } from "node:readline";
import { TaskRunError, applyMetadataOperations } from "@trigger.dev/core/v3";

function apply({ metadata, operations }) {
  // Its pattern for slices remembers where it found the last one: begin as a new process would.
  applyMetadataOperations({}, [{ type: "set", key: "$.a", value: 1 }]);
  try {
    const { newMetadata, unappliedOperations } = applyMetadataOperations(metadata, operations);
    return { metadata: newMetadata, unapplied: unappliedOperations.map((one) => operations.indexOf(one)) };
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return { thrown: error.message };
  }
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
