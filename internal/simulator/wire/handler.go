// Package wire speaks the token service's OpenAPI: RPC-style calls with signed parameters, answered in JSON. It checks
// what the gateway checks, leaves the rest to the issuer, and fails on demand. At the same address it stands in for the
// security token service, whose calls have another version, and it has a handler for the metadata service of a machine.
package wire

import (
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

// maxBody bounds a request body: a hundred topics of 64 characters fit many times over.
const maxBody = 1 << 20

// CallCount says how many calls of an operation came in, and how they ended.
type CallCount struct {
	// Total counts every call, however it ended.
	Total int `json:"total"`
	// Failed counts the calls whose caller did not get a good answer.
	Failed int `json:"failed"`
	// Codes counts the failed calls by error code, or by the kind of a fault that has none.
	Codes map[string]int `json:"codes,omitempty"`
}

// Handler answers the OpenAPI's calls. It is safe for concurrent use.
type Handler struct {
	issuer *state.State
	gate   *gate
	// wall counts out latency. It is not the simulator's clock: the peer that waits is real.
	wall clock.Clock

	mu     sync.Mutex
	faults Faults
	counts map[state.Operation]CallCount
	peaks  *peaks
}

// NewHandler returns a handler for an issuer. The wall clock counts out latency and judges the
// freshness of signatures.
func NewHandler(issuer *state.State, wall clock.Clock) *Handler {
	return &Handler{issuer: issuer, gate: newGate(issuer, wall), wall: wall, counts: map[state.Operation]CallCount{}, peaks: newPeaks()}
}

// Faults returns the faults that are left.
func (h *Handler) Faults() Faults {
	h.mu.Lock()
	defer h.mu.Unlock()
	faults := h.faults
	faults.Calls = slices.Clone(faults.Calls)
	return faults
}

// SetFaults replaces all faults.
func (h *Handler) SetFaults(faults Faults) error {
	if err := faults.Validate(); err != nil {
		return err
	}
	faults.Calls = slices.Clone(faults.Calls)
	h.mu.Lock()
	h.faults = faults
	h.mu.Unlock()
	h.issuer.SetSkew(time.Duration(faults.ClockSkew))
	return nil
}

// Calls counts the calls so far, by operation; calls of unknown operations are under the empty name.
func (h *Handler) Calls() map[state.Operation]CallCount {
	h.mu.Lock()
	defer h.mu.Unlock()
	counts := map[state.Operation]CallCount{}
	for op, count := range h.counts {
		count.Codes = maps.Clone(count.Codes)
		counts[op] = count
	}
	return counts
}

// Peaks returns the most calls that came in within one second of the wall clock, by operation and for AllOperations.
func (h *Handler) Peaks() map[state.Operation]int { return h.peaks.get() }

// ServeHTTP answers one call.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	// Form merges the query string and a form body.
	_ = r.ParseForm() //nolint:errcheck // An unreadable form yields fewer parameters, which the gate names.
	op := operation(r.Form.Get(paramAction))
	if version(op) == apiVersion { // peaks are about the token API's quotas
		h.peaks.count(op, h.wall.Now().Unix())
	}
	h.serve(w, r, op, func() (answer, error) {
		result, err := h.call(r, op)
		if err != nil {
			return answer{}, err
		}
		result["RequestId"] = requestID()
		return answer{status: http.StatusOK, body: result}, nil
	})
}

// serve answers one request by doing the work, unless a fault hits it.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, op state.Operation, work func() (answer, error)) {
	latency, fault := h.draw(op)
	if latency > 0 && !h.wait(r, latency) {
		h.count(op, "Canceled")
		return
	}
	if fault.Kind == FaultOutage {
		h.count(op, string(fault.Kind))
		panic(http.ErrAbortHandler)
	}
	answer := respond(r, fault, work)
	h.count(op, failure(answer, fault))
	h.send(w, answer, fault)
}

// wait lets the latency pass; it reports false if the caller went away before.
func (h *Handler) wait(r *http.Request, latency time.Duration) bool {
	timer := h.wall.NewTimer(latency)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-r.Context().Done():
		return false
	}
}

// draw picks the fault that hits a call and uses up one of its times.
func (h *Handler) draw(op state.Operation) (time.Duration, Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	latency := time.Duration(h.faults.Latency)
	for i, fault := range h.faults.Calls {
		if !fault.hits(op, rand.Float64()) { //nolint:gosec // Chance, not secrecy.
			continue
		}
		switch fault.Times {
		case 0:
		case 1:
			h.faults.Calls = slices.Delete(h.faults.Calls, i, i+1)
		default:
			h.faults.Calls[i].Times--
		}
		return latency, fault
	}
	return latency, Fault{}
}

func (h *Handler) count(op state.Operation, code string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	count := h.counts[op]
	count.Total++
	if code != "" {
		count.Failed++
		if count.Codes == nil {
			count.Codes = map[string]int{}
		}
		count.Codes[code]++
	}
	h.counts[op] = count
}

// answer is a reply before it is encoded.
type answer struct {
	status int
	body   map[string]any
	// text is sent as it is, in place of a body.
	text string
	code string
}

// failure is the word under which a call that failed is counted; empty for a call that did not.
func failure(a answer, fault Fault) string {
	if a.code != "" || fault.Kind == "" {
		return a.code
	}
	return string(fault.Kind)
}

// respond does the work, unless a fault answers in its place.
func respond(r *http.Request, fault Fault, work func() (answer, error)) answer {
	switch fault.Kind {
	case FaultError:
		return refusal(r, fault.refusal())
	case FaultOddError:
		return answer{status: http.StatusBadRequest, body: map[string]any{"Code": http.StatusBadRequest}}
	case FaultGarbage:
		return answer{status: http.StatusOK}
	case FaultOutage, FaultReset, FaultDropReply: // these are about the connection
	}
	done, err := work()
	var refused *state.Error
	switch {
	case err == nil:
		return done
	case errors.As(err, &refused):
		return refusal(r, refused)
	default:
		return refusal(r, internalError())
	}
}

func (h *Handler) call(r *http.Request, op state.Operation) (map[string]any, error) {
	caller, err := h.gate.admit(r.Method, r.Form)
	if err != nil {
		return nil, err
	}
	if op != state.Query && r.Method != http.MethodPost {
		return nil, unsupportedMethod()
	}
	text := token.NewValue(r.Form.Get(paramToken))
	switch op {
	case state.Apply:
		return h.apply(caller, r)
	case state.AssumeRole, state.AssumeRoleWithOIDC:
		return h.assumeRole(caller, op, r.Form)
	case state.GetCallerIdentity:
		return h.callerIdentity(caller), nil
	case state.Query:
		valid, err := h.issuer.Query(caller, text)
		return map[string]any{"TokenStatus": valid}, err
	default:
		return map[string]any{}, h.issuer.Revoke(caller, text)
	}
}

func (h *Handler) apply(caller state.Caller, r *http.Request) (map[string]any, error) {
	millis, err := strconv.ParseInt(r.Form.Get(paramExpireTime), 10, 64)
	if err != nil {
		return nil, invalidExpireTime()
	}
	text, err := h.issuer.Apply(caller, state.Request{
		Actions: r.Form.Get(paramActions), Resources: r.Form.Get(paramResources), Expires: time.UnixMilli(millis),
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"Token": text.Reveal()}, nil
}

// send writes the answer, as far as the fault lets it.
func (h *Handler) send(w http.ResponseWriter, a answer, fault Fault) {
	if fault.Kind == FaultDropReply {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Date", h.issuer.Now().UTC().Format(http.TimeFormat))
	if fault.Kind == FaultGarbage {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(a.status)
		_, _ = w.Write([]byte("<html><body>Welcome to the hotel's network. Please sign in."))
		return
	}
	kind, body := a.encode()
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(a.status)
	if fault.Kind != FaultReset {
		_, _ = w.Write(body) //nolint:gosec // JSON or plain text by its header, and no browser comes here.
		return
	}
	_, _ = w.Write(body[:len(body)/2])        //nolint:gosec // The same.
	_ = http.NewResponseController(w).Flush() //nolint:errcheck // The answer breaks off here in any case.
	panic(http.ErrAbortHandler)
}

// encode returns the content type and the bytes.
func (a answer) encode() (kind string, body []byte) {
	if a.text != "" {
		return "text/plain", []byte(a.text)
	}
	body, err := json.Marshal(a.body)
	if err != nil {
		panic(http.ErrAbortHandler) // cannot happen: bodies hold strings, numbers and booleans
	}
	return "application/json;charset=utf-8", body
}
