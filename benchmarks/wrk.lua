-- One operation for wrk, from the environment: METHOD, and BODY in which {n} is a number of its own.
-- Prints one line of JSON: requests, seconds, errors, and latencies in milliseconds.
local method = os.getenv("METHOD")
local body = os.getenv("BODY")
local threads = 0

function setup(thread)
  thread:set("first", threads * 1e9)
  threads = threads + 1
end

function init(args)
  n = first
  wrk.method = method
  if body then wrk.headers["Content-Type"] = "application/json" end
end

function request()
  if not body then return wrk.format() end
  local numbered = body:gsub("{n}", function() n = n + 1; return string.format("%d", n) end)
  return wrk.format(nil, nil, nil, numbered)
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "errors": %d, "p50": %.3f, "p95": %.3f, "p99": %.3f}\n',
    summary.requests, summary.duration / 1e6,
    e.status + e.connect + e.read + e.write + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
