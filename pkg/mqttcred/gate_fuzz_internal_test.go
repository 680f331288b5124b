package mqttcred

import (
	"testing"
	"time"
)

// FuzzGate has a client try as soon as it may, against a broker that ends its connections as it likes.
func FuzzGate(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{1, 1, 1, 1, 1, 1, 1, 1})
	f.Add([]byte{0, 240, 0, 0, 0, 240, 1, 241, 0, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		var g, twin gate
		began := time.Date(2033, 3, 3, 12, 0, 0, 0, time.UTC)
		now, used, other := began, Credentials{Password: "1"}, Credentials{Password: "2"}
		for tries, b := range script {
			// An odd number is a refusal; the rest is how long the connection lasted.
			why, lasted, luck := Ending(b&1), time.Duration(b>>1)*time.Second/2, float64(b)/256
			now = now.Add(lasted)
			g.ended(used, why, lasted, now, luck)
			twin.ended(used, why, lasted, now, luck)
			opens := g.opensAt(used)
			first, longest := firstWait, longestWait
			if why == Refused {
				first, longest = firstWaitDead, longestWaitDead
			}
			if wait := opens.Sub(now); wait < first || wait > longest+longest/2 {
				t.Fatalf("after ending %d of a connection of %s it waits for %s", why, lasted, wait)
			}
			if !opens.Equal(twin.opensAt(used)) {
				t.Fatal("the same endings lead to another wait")
			}
			if at := g.opensAt(other); at.After(now) {
				t.Fatalf("other credentials wait until %s", at)
			}
			now = opens
			// The most that a broker gets a client to: short lives of 1, 2 and 4 s of waiting between those that held.
			if most := 6 + int(now.Sub(began)/(11*time.Second)); tries+1 > most {
				t.Fatalf("%d connections within %s", tries+1, now.Sub(began))
			}
		}
	})
}
