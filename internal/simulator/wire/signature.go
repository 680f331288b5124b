package wire

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // HMAC-SHA1 is the service's signature method.
	"encoding/base64"
	"net/url"
	"slices"
	"strings"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// stringToSign joins the method and all parameters but the signature, each escaped, sorted by name; parameters without
// a value count too.
func stringToSign(method string, params url.Values) string {
	pairs := make([]string, 0, len(params))
	for name := range params {
		if name != paramSignature {
			pairs = append(pairs, escape(name)+"="+escape(params.Get(name)))
		}
	}
	slices.Sort(pairs)
	return method + "&" + escape("/") + "&" + escape(strings.Join(pairs, "&"))
}

// escape is percent-encoding by RFC 3986, which differs from a query string's in the space and the asterisk.
func escape(s string) string {
	return strings.NewReplacer("+", "%20", "*", "%2A", "%7E", "~").Replace(url.QueryEscape(s))
}

func sign(secret token.Value, text string) string {
	mac := hmac.New(sha1.New, []byte(secret.Reveal()+"&"))
	mac.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func signatureMatches(secret token.Value, text, signature string) bool {
	return hmac.Equal([]byte(sign(secret, text)), []byte(signature))
}
