// Round-trips the events on standard input, one a line, by the compiled program; then prints a request.
const { readFileSync } = require("node:fs");
const { request, roundTrip } = require("./compiled/roundtrip.js");

for (const line of readFileSync(0, "utf-8").split("\n").filter(Boolean)) console.log(roundTrip(line));
console.log(request());
