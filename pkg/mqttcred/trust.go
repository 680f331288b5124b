package mqttcred

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

// TLS returns how to check that the broker is the one that the credentials are for.
func (c Credentials) TLS() (*tls.Config, error) {
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA == nil {
		return trust, nil
	}
	trust.RootCAs = x509.NewCertPool()
	if !trust.RootCAs.AppendCertsFromPEM(c.CA) {
		return nil, fmt.Errorf("%s holds no certificate", KeyCA)
	}
	return trust, nil
}
