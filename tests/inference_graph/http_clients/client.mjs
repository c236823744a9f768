// Node's fetch and http as they come; argument: a file with lines of id, method, url, type, file.
import { readFileSync } from "node:fs";
import http from "node:http";

const asked = (one, body) =>
  new Promise((resolve) => {
    const headers = one[3] ? { "Content-Type": one[3] } : {};
    const request = http.request(one[2], { method: one[1], headers }, (answer) => {
      answer.resume().on("end", () => resolve(answer.statusCode));
    });
    request.on("error", (error) => resolve(String(error)));
    if (body) {
      request.write(body.subarray(0, 100)); // without a length, so chunked
      request.end(body.subarray(100));
    } else request.end();
  });

for (const line of readFileSync(process.argv[2], "utf8").trimEnd().split("\n")) {
  const one = line.split("\t");
  const body = one[4] ? readFileSync(one[4]) : undefined;
  const headers = one[3] ? { "Content-Type": one[3] } : {};
  const answer = await fetch(one[2], { method: one[1], headers, body });
  await answer.arrayBuffer();
  console.log([one[0], "fetch", answer.status].join("\t"));
  console.log([one[0], "http", await asked(one, body)].join("\t"));
}
