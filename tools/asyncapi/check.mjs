// Reads the AsyncAPI documents named by the arguments; prints what the official parser makes of each, as JSON.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const ERROR = 0; // severity of a diagnostic; the others are advice
const parser = new Parser();
const verdicts = [];
for (const file of process.argv.slice(2)) {
  const { document, diagnostics } = await parser.parse(readFileSync(file, "utf-8"));
  const wrong = diagnostics.filter((one) => one.severity === ERROR);
  verdicts.push({
    operations: document?.operations().all().map((one) => one.id()) ?? [],
    wrong: wrong.map((one) => `${one.path.join("/")}: ${one.message}`),
  });
}
console.log(JSON.stringify(verdicts));
