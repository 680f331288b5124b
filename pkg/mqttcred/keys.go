// Package mqttcred is the contract between the operator, which writes a client's credentials into a Secret, and the
// client, which reads them from the mounted folder. The operator takes the key names from here, so the two cannot
// drift apart.
package mqttcred

// Keys of a Secret of format Files: the names of the files in the mounted folder. No value ends in a newline.
const (
	// KeyUsername holds the MQTT username: Token|<AccessKey id>|<instance id>.
	KeyUsername = "username"
	// KeyPassword holds the MQTT password: one <type>|<token> pair per token, joined by '|'.
	KeyPassword = "password"
	// KeyClientID holds the MQTT client id; absent for a grant without a device id, which has KeyGroupID instead.
	KeyClientID = "client-id"
	// KeyGroupID holds the group id of a grant without a device id: the client id is then <group id>@@@<device id of your
	// own>.
	KeyGroupID = "group-id"
	// KeyHost holds the broker's host name.
	KeyHost = "host"
	// KeyPort holds the broker's port for MQTT over TLS.
	KeyPort = "port"
	// KeyURL holds mqtts://host:port.
	KeyURL = "url"
	// KeyWSSURL holds the URL for MQTT over WebSocket and TLS.
	KeyWSSURL = "wss-url"
	// KeyTCPURL holds mqtt://host:port, without TLS; only where the instance allows it.
	KeyTCPURL = "tcp-url"
	// KeyCA holds the PEM certificates to trust; absent where the system's do.
	KeyCA = "ca.crt"
	// KeyExpiresAt holds the moment the first token ends, in RFC 3339.
	KeyExpiresAt = "expires-at"
	// KeyRenewAt holds the moment the operator renews them, in RFC 3339.
	KeyRenewAt = "renew-at"
	// KeyPermissions holds a JSON list of Permission.
	KeyPermissions = "permissions.json"
	// KeyTokens holds a JSON list of Token.
	KeyTokens = "tokens.json"
	// KeyRetired holds a JSON list of RetiredToken: the operator's record, of no use to a client.
	KeyRetired = "retired.json"
)

// Keys of a Secret of format Env: the names of environment variables.
const (
	EnvUsername  = "MQTT_USERNAME"
	EnvPassword  = "MQTT_PASSWORD"
	EnvClientID  = "MQTT_CLIENT_ID"
	EnvGroupID   = "MQTT_GROUP_ID"
	EnvHost      = "MQTT_HOST"
	EnvPort      = "MQTT_PORT"
	EnvURL       = "MQTT_URL"
	EnvWSSURL    = "MQTT_WSS_URL"
	EnvTCPURL    = "MQTT_TCP_URL"
	EnvCA        = "MQTT_CA_CRT"
	EnvExpiresAt = "MQTT_EXPIRES_AT"
	EnvRenewAt   = "MQTT_RENEW_AT"
	// EnvRecord holds, in base64, what the operator itself needs to find again; of no use to a client.
	EnvRecord = "MQTT_OPERATOR_RECORD"
)

// Token types as the broker spells them, in passwords and in uploads to $SYS/uploadToken.
const (
	TypeSubscribe        = "R"
	TypePublish          = "W"
	TypePublishSubscribe = "RW"
)
