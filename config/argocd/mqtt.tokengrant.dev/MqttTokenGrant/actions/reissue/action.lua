-- New tokens now; the old ones are left to expire. Each new value is acted on once.
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["mqtt.tokengrant.dev/reissue"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
