-- Who may ask the REST API, which wants no password. A browser on this machine reaches it too, and shows pages of
-- strangers: such a page's own name may be made to lead here (DNS rebinding), and it may post to here unread.
-- Programs that are no browser name the host they were given and no origin.

local hosts = { ["localhost"] = true, ["127.0.0.1"] = true, ["orthanc"] = true }
for name in (os.getenv("HTTP_HOSTS") or ""):gmatch("%S+") do
  hosts[name:lower()] = true
end

function IncomingHttpRequestFilter(method, uri, ip, username, headers)
  local authority = (headers["host"] or ""):lower()
  if not hosts[authority:gsub(":%d+$", "")] then
    return false
  end
  -- the origin of a page: it must be ours, except to look
  local origin = headers["origin"]
  if origin == nil or method == "GET" then
    return true
  end
  return origin:lower():gsub("^https?://", "") == authority
end
