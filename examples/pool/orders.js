// A child of the pool handler in Node.js, without any library: one JSON object per line.
//
//   [node.handler.pool]
//   command = ["node", "orders.js"]
//   channel = "fd"
const fs = require("node:fs");
const readline = require("node:readline");

// The worker says where requests come from and answers go to: "3,4"; without it, stdin and stdout.
const [input, output] = (process.env.TIDEGATE_POOL_FDS || "0,1").split(",").map(Number);
const send = (answer) => fs.writeSync(output, JSON.stringify(answer, wellFormed) + "\n");
// Half of a surrogate pair, as V8 quotes it from a body, is no JSON to the worker. It becomes U+FFFD.
const wellFormed = (_key, value) => (typeof value === "string" ? Buffer.from(value).toString() : value);

// Optional: bodies that are UTF-8 come as text in "body". Others stay in "body_base64", and so does what was sent
// before the worker had read this line.
send({ hello: { body: "text" } });

const requests = readline.createInterface({ input: fs.createReadStream(null, { fd: input }) });
requests.on("line", (line) => {
  const request = JSON.parse(line);
  send({ id: request.id, ...decide(request) });
});
// The end of the input is the end of the work.

function decide(request) {
  let order;
  try {
    order = JSON.parse(request.body ?? Buffer.from(request.body_base64, "base64").toString());
  } catch (error) {
    return { outcome: "dead", reason: `not an order: ${error.message}` };
  }
  // null, a number, text and a list are JSON, too.
  if (order === null || typeof order !== "object" || Array.isArray(order)) {
    return { outcome: "dead", reason: "not an order: it is no JSON object" };
  }
  if (order.stock === "unknown") return { outcome: "retry", delay_ms: 5000, reason: "ask again" };
  if (order.after) return { outcome: "hold", delay_ms: 1000 };
  console.error("order", order.number, "of", request.properties.message_id);
  return { outcome: "done" };
}
