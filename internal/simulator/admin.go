package simulator

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/wire"
)

// maxAdminBody bounds a request to the admin endpoint.
const maxAdminBody = 1 << 20

func (s *Simulator) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /ca.crt", s.serveCA)
	mux.HandleFunc("GET /tokens", s.serveTokens)
	mux.HandleFunc("GET /calls", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.openAPI.Calls()) })
	mux.HandleFunc("GET /peaks", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.openAPI.Peaks()) })
	mux.HandleFunc("GET /clients", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.broker.Clients()) })
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.openAPI.Faults()) })
	mux.HandleFunc("PUT /faults", s.putFaults)
	mux.HandleFunc("GET /clock", func(w http.ResponseWriter, _ *http.Request) { s.replyClock(w) })
	mux.HandleFunc("POST /clock", s.postClock)
	mux.HandleFunc("POST /revoke", s.postRevoke)
	return mux
}

func (s *Simulator) serveCA(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, _ = w.Write(s.CAPEM())
}

// tokenReport is a token with what it is worth now.
type tokenReport struct {
	state.Token
	Validity string `json:"validity"`
}

func (s *Simulator) serveTokens(w http.ResponseWriter, _ *http.Request) {
	reports := []tokenReport{}
	for _, held := range s.issuer.Tokens() {
		_, validity := s.issuer.Lookup(held.ID)
		reports = append(reports, tokenReport{Token: held, Validity: validity.String()})
	}
	reply(w, reports)
}

func (s *Simulator) putFaults(w http.ResponseWriter, r *http.Request) {
	var faults wire.Faults
	if !read(w, r, &faults) {
		return
	}
	if err := s.openAPI.SetFaults(faults); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	reply(w, s.openAPI.Faults())
}

func (s *Simulator) postClock(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Advance wire.Duration `json:"advance"`
	}
	if !read(w, r, &request) {
		return
	}
	if err := s.issuer.Advance(time.Duration(request.Advance)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.replyClock(w)
}

func (s *Simulator) replyClock(w http.ResponseWriter) {
	reply(w, map[string]string{"now": s.issuer.Now().UTC().Format(time.RFC3339)})
}

func (s *Simulator) postRevoke(w http.ResponseWriter, r *http.Request) {
	var request struct {
		ID string `json:"id"`
	}
	if !read(w, r, &request) {
		return
	}
	if !s.issuer.RevokeByID(request.ID) {
		http.Error(w, "no token has that id; GET /tokens lists them", http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// read decodes a request. It refuses unknown fields, so that a typing error is not a fault that never hits.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAdminBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		http.Error(w, "reading the request: "+err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(body) //nolint:errcheck // It fails only when the caller went away.
}
