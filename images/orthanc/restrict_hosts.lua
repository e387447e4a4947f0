-- Restrict the hosts and origins of requests to the REST API, which has no password. A browser on this machine can
-- reach the API too. Without this filter, a page of another site could send POST requests to the API. It could also
-- read from the API if the name of the site resolves to this machine (DNS rebinding). Programs other than browsers
-- send a known host and no origin.

local hosts = { ["localhost"] = true, ["127.0.0.1"] = true, ["orthanc"] = true }
for name in (os.getenv("HTTP_HOSTS") or ""):gmatch("%S+") do
  hosts[name:lower()] = true
end

function IncomingHttpRequestFilter(method, uri, ip, username, headers)
  local authority = (headers["host"] or ""):lower()
  if not hosts[authority:gsub(":%d+$", "")] then
    return false
  end
  -- the origin of a page must be this server, except for GET
  local origin = headers["origin"]
  if origin == nil or method == "GET" then
    return true
  end
  return origin:lower():gsub("^https?://", "") == authority
end
