-- One operation for wrk, from the environment: METHOD, TARGET and BODY, whose placeholders are those of
-- operations.py. Prints one line of JSON: requests, seconds, errors, and latencies in milliseconds.
local method = os.getenv("METHOD")
local target = os.getenv("TARGET")
local body = os.getenv("BODY")
local n = 0

local function number()
  n = n + 1
  return string.format("%d", n)
end

function init(args)
  wrk.method = method
  if body then wrk.headers["Content-Type"] = "application/json" end
end

function request()
  n = n + 1
  local path = target:gsub("{id}", string.format("%016x", n % 1000))
  path = path:gsub("{seed}", string.format("%07d", n % 1000))
  return wrk.format(nil, path, nil, body and body:gsub("{n}", number))
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "errors": %d, "p50": %.3f, "p95": %.3f, "p99": %.3f}\n',
    summary.requests, summary.duration / 1e6,
    e.status + e.connect + e.read + e.write + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
