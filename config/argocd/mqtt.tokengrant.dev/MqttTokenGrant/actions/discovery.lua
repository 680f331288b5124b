-- A grant in deletion takes no orders; one that is held issues nothing before it is released.
local annotations = obj.metadata.annotations or {}
local held = annotations["mqtt.tokengrant.dev/hold"] ~= nil
local going = obj.metadata.deletionTimestamp ~= nil
return {
  reissue = {disabled = going or held},
  hold = {disabled = going or held},
  release = {disabled = going or not held},
}
