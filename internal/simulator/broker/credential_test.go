package broker

import (
	"encoding/json"
	"strings"
	"testing"
)

func FuzzParseUsername(f *testing.F) {
	for _, seed := range []string{"Token|key|post-cn-a", "Token||x", "Token|a|b|c", "Signature|a|b", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, username string) {
		who, err := parseUsername(username)
		if err == nil && "Token|"+who.keyID+"|"+who.instanceID != username {
			t.Errorf("%q reads as %+v", username, who)
		}
	})
}

func FuzzParsePassword(f *testing.F) {
	for _, seed := range []string{"R|a", "R|a|W|b", "RW|a|R|b|W|c", "R|a|R|b", "R,W|a", "R|", "|", "R|a|", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, password string) {
		tokens, err := parsePassword(password)
		if err != nil {
			if secret := strings.TrimLeft(password, "RW|"); len(secret) > 20 && strings.Contains(err.Error(), secret) {
				t.Error("the error holds the password")
			}
			return
		}
		var parts []string
		for _, offer := range tokens {
			parts = append(parts, lettersOf(offer.kind), offer.text.Reveal())
		}
		if len(tokens) > 3 || strings.Join(parts, "|") != password {
			t.Errorf("%q reads as %d tokens", password, len(tokens))
		}
	})
}

func FuzzParseUpload(f *testing.F) {
	for _, seed := range []string{`{"token":"a","type":"RW"}`, `{"Token":"a","Type":"R"}`, `{"token":5}`, `[]`, `{}`, "\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		offer, err := parseUpload(payload)
		if err == nil && (offer.text.IsZero() || !json.Valid(payload) || offer.kind.Actions() == nil) {
			t.Errorf("%q is accepted", payload)
		}
	})
}

func FuzzCheckClientID(f *testing.F) {
	for _, seed := range []string{"GID_line@@@a", "GID_line@@@", "GID_line@@@a@@@b", "GID_a@@@b", "x@@@y"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if checkClientID(id) == nil && (len(id) > 64 || strings.ContainsAny(id, "/+#|, ") || strings.Count(id, "@") != 3) {
			t.Errorf("%q is accepted", id)
		}
	})
}
