-- Lets a client back that was held.
local annotations = obj.metadata.annotations
if annotations ~= nil then
  annotations["mqtt.tokengrant.dev/hold"] = nil
  -- An empty table would be written back as a list.
  if next(annotations) == nil then
    obj.metadata.annotations = nil
  end
end
return obj
