-- Cuts the client off until it is released: every token is revoked, and none is issued.
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["mqtt.tokengrant.dev/hold"] = "held from Argo CD"
return obj
