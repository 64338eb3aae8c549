// Writes types of the AsyncAPI document named by the first argument: Go and TypeScript, into the folders named next.
import { readFileSync } from "node:fs";
import { GO_COMMON_PRESET, GoFileGenerator, TypeScriptFileGenerator } from "@asyncapi/modelina";

const [file, goFolder, typescriptFolder] = process.argv.slice(2);
const document = JSON.parse(readFileSync(file, "utf-8"));
const go = new GoFileGenerator({ presets: [{ preset: GO_COMMON_PRESET, options: { addJsonTag: true } }] });
// Types of what JSON.parse returns. Classes would have other names, and `unmarshal` of them leaves `error` as it came:
// its `errorCode` is then undefined, against its type.
const typescript = new TypeScriptFileGenerator({ modelType: "interface", rawPropertyNames: true });
const models = await go.generateToFiles(document, goFolder, { packageName: "messages" });
await typescript.generateToFiles(document, typescriptFolder, { exportType: "named" });
console.log(JSON.stringify(models.map((model) => model.modelName)));
