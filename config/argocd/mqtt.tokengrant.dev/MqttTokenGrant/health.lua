-- Says of an MqttTokenGrant what kstatus says, and tells what waits for a person (Suspended) from what is under way.
local verdict = {status = "Progressing", message = "Waiting for the operator"}
if obj.metadata.deletionTimestamp ~= nil then
  verdict.message = "Being deleted, its tokens are being revoked"
  return verdict
end
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return verdict
end
local found = {}
for _, condition in ipairs(obj.status.conditions or {}) do
  found[condition.type] = condition
end
local stalled, ready = found.Stalled, found.Ready
if stalled ~= nil and stalled.status == "True" then
  return {status = "Degraded", message = stalled.message}
end
if ready ~= nil then
  verdict.message = ready.message
  if ready.status == "True" then
    verdict.status = "Healthy"
  elseif ready.reason == "Held" or ready.reason == "Suspended" then
    verdict.status = "Suspended"
  end
end
return verdict
