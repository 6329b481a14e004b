// The Node.js runtime of functions: loads a handler and answers invocations, over Lambda's Runtime API (HTTP/1.1).
//
// Handlers: async, with a callback, or wrapped in awslambda.streamifyResponse. `file.name`, where file is .js, .cjs or
// .mjs. Context, log lines and error documents are those of AWS's runtime. Node's own modules alone.
"use strict";

const http = require("node:http");
const path = require("node:path");
const fs = require("node:fs");
const { pathToFileURL } = require("node:url");
const { format } = require("node:util");

const [HOST, PORT] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const API = "/2018-06-01/runtime";
const TASK = process.env.LAMBDA_TASK_ROOT;
const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");
const AS_JSON = process.env.AWS_LAMBDA_LOG_FORMAT === "JSON";
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
let requestId = "";

globalThis.awslambda = {
  streamifyResponse: (handler) => { handler[STREAMING] = "response"; return handler; },
  HttpResponseStream: {
    from: (stream, metadata) => {
      stream.setContentType("application/vnd.awslambda.http-integration-response");
      stream.write(JSON.stringify(metadata));
      stream.write(Buffer.alloc(8));
      return stream;
    },
  },
};

function ask(method, target, headers, body) {
  return new Promise((resolve, reject) => {
    const request = http.request({ host: HOST, port: PORT, agent, method, path: API + target, headers }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => resolve({ headers: answer.headers, body: Buffer.concat(parts) }));
    });
    request.setNoDelay(true);
    request.on("error", reject);
    request.end(body);
  });
}

function post(target, text, headers = {}) {
  const body = Buffer.from(text);
  return ask("POST", target, { "Content-Length": body.length, ...headers }, body);
}

function document(error) {
  if (error instanceof Error) {
    const trace = (error.stack || "").split("\n");
    return { errorType: error.name || "Error", errorMessage: error.message, trace };
  }
  return { errorType: typeof error, errorMessage: String(error), trace: [] };
}

function report(target, error) {
  const said = document(error);
  const timestamp = new Date().toISOString();
  const shown = { ...said, stack: said.trace };
  const line = AS_JSON
    ? JSON.stringify({ timestamp, level: "ERROR", requestId, message: shown })
    : `${timestamp}\t${requestId}\tERROR\tInvoke Error\t${JSON.stringify(shown)}`;
  process.stdout.write(line + "\n");
  const kind = said.errorType.replace(/[^ -~]/g, "").slice(0, 256);
  return post(target, JSON.stringify(said), { "Lambda-Runtime-Function-Error-Type": kind });
}

// Lines of console.* carry time, request id and level, as AWS's do.
for (const [name, level] of [["log", "INFO"], ["info", "INFO"], ["debug", "DEBUG"], ["warn", "WARN"], ["error", "ERROR"], ["trace", "TRACE"]]) {
  console[name] = (...words) => {
    const timestamp = new Date().toISOString();
    const message = format(...words);
    const line = AS_JSON
      ? JSON.stringify({ timestamp, level, requestId, message })
      : `${timestamp}\t${requestId || "undefined"}\t${level}\t${message.replace(/\n/g, "\r")}`;
    process.stdout.write(line + "\n");
  };
}

function named(kind, message) {
  const error = new Error(message);
  error.name = kind;
  return error;
}

async function load(handler) {
  const base = path.basename(handler);
  const dot = base.indexOf(".");
  if (dot < 1) throw named("Runtime.MalformedHandlerName", `Bad handler ${handler}`);
  const file = path.join(TASK, path.dirname(handler), base.slice(0, dot));
  const found = ["", ".js", ".mjs", ".cjs"].map((end) => file + end).find((one) => fs.statSync(one, { throwIfNoEntry: false })?.isFile());
  if (!found) throw named("Runtime.ImportModuleError", `Error: Cannot find module '${base.slice(0, dot)}'`);
  let module;
  try {
    module = await import(pathToFileURL(found).href);
  } catch (error) {
    if (error instanceof SyntaxError) throw named("Runtime.UserCodeSyntaxError", `SyntaxError: ${error.message}`);
    if (error?.code === "MODULE_NOT_FOUND" || error?.code === "ERR_MODULE_NOT_FOUND") {
      throw named("Runtime.ImportModuleError", `Error: ${error.message}`);
    }
    throw error;
  }
  let value = module;
  for (const name of base.slice(dot + 1).split(".")) value = value?.[name] ?? module.default?.[name];
  if (typeof value !== "function") {
    throw named("Runtime.HandlerNotFound", `${handler} is undefined or not exported`);
  }
  return value;
}

function context(headers) {
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  const client = headers["lambda-runtime-client-context"];
  const env = process.env;
  return {
    awsRequestId: requestId,
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: client ? JSON.parse(client) : undefined,
    callbackWaitsForEmptyEventLoop: true,
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
  };
}

function called(handler, event, details) {
  return new Promise((resolve, reject) => {
    const done = (error, value) => (error ? reject(error) : resolve(value));
    details.done = done;
    details.succeed = (value) => done(null, value);
    details.fail = (error) => done(error ?? new Error("failed"));
    const result = handler(event, details, done);
    if (typeof result?.then === "function") result.then(resolve, reject);
  });
}

function streamed(handler, event, details) {
  return new Promise((resolve, reject) => {
    const headers = { "Lambda-Runtime-Function-Response-Mode": "streaming", "Transfer-Encoding": "chunked" };
    let kind = "application/octet-stream";
    let request;
    const { Writable } = require("node:stream");
    const open = () => {
      request ??= http.request({ host: HOST, port: PORT, agent, method: "POST", path: `${API}/invocation/${requestId}/response`, headers: { ...headers, "Content-Type": kind, Trailer: "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body" } }, (answer) => {
        answer.resume();
        answer.on("end", resolve);
      }).on("error", reject);
      return request;
    };
    const stream = new Writable({
      write: (part, _encoding, next) => { open().write(part, next); },
      final: (next) => { open().end(next); },
    });
    stream.setContentType = (text) => { kind = text; };
    Promise.resolve(handler(event, stream, details)).catch((error) => {
      if (!request) return report(`/invocation/${requestId}/error`, error).then(resolve, reject);
      const said = document(error);
      request.addTrailers({
        "Lambda-Runtime-Function-Error-Type": said.errorType,
        "Lambda-Runtime-Function-Error-Body": Buffer.from(JSON.stringify(said)).toString("base64"),
      });
      request.end();
    });
  });
}

async function serve(handler) {
  for (;;) {
    const { headers, body } = await ask("GET", "/invocation/next", {});
    requestId = headers["lambda-runtime-aws-request-id"];
    if (headers["lambda-runtime-trace-id"]) process.env._X_AMZN_TRACE_ID = headers["lambda-runtime-trace-id"];
    else delete process.env._X_AMZN_TRACE_ID;
    const details = context(headers);
    if (handler[STREAMING]) {
      await streamed(handler, JSON.parse(body), details);
      continue;
    }
    let text;
    try {
      text = JSON.stringify(await called(handler, JSON.parse(body), details)) ?? "null";
    } catch (error) {
      await report(`/invocation/${requestId}/error`, error);
      continue;
    }
    await post(`/invocation/${requestId}/response`, text, { "Content-Type": "application/json" });
  }
}

process.on("uncaughtException", (error) => {
  report(requestId ? `/invocation/${requestId}/error` : "/init/error", named("Runtime.UnhandledError", String(error?.message ?? error)))
    .finally(() => process.exit(129));
});
process.on("unhandledRejection", (reason) => {
  report(requestId ? `/invocation/${requestId}/error` : "/init/error", named("Runtime.UnhandledPromiseRejection", String(reason)))
    .finally(() => process.exit(128));
});

load(process.env._HANDLER).then(serve).catch((error) => {
  report("/init/error", error).finally(() => process.exit(1));
});
