package wire

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
)

const (
	metadataTokenPath   = "/latest/api/token"
	metadataRolesPath   = "/latest/meta-data/ram/security-credentials/"
	metadataTTLHeader   = "X-aliyun-ecs-metadata-token-ttl-seconds"
	metadataTokenHeader = "X-aliyun-ecs-metadata-token"
	maxMetadataTTL      = 21600
)

// Machine is what a metadata service knows of the machine that it serves.
type Machine struct {
	// RoleARN is the role that the machine holds; empty: none.
	RoleARN string
	// TokenOnly refuses requests without a token that was fetched before, as a hardened machine does.
	TokenOnly bool
}

// Metadata returns a stand-in for the metadata service of a machine: the part that hands out the keys of its role. It
// shares the handler's faults and counts, as the operation Metadata.
func (h *Handler) Metadata(machine Machine) http.Handler {
	m := &metadata{handler: h, machine: machine, tokens: map[string]time.Time{}}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT "+metadataTokenPath, m.serve(m.newToken))
	mux.HandleFunc("GET "+metadataRolesPath+"{$}", m.serve(m.guarded(m.roleName)))
	mux.HandleFunc("GET "+metadataRolesPath+"{role}", m.serve(m.guarded(m.keys)))
	return mux
}

type metadata struct {
	handler *Handler
	machine Machine

	mu     sync.Mutex
	tokens map[string]time.Time // until when
}

type metadataWork func(*http.Request) (answer, error)

func (m *metadata) serve(work metadataWork) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		m.handler.serve(w, r, state.Metadata, func() (answer, error) { return work(r) })
	}
}

func (m *metadata) newToken(r *http.Request) (answer, error) {
	seconds, err := strconv.Atoi(r.Header.Get(metadataTTLHeader))
	if err != nil || seconds < 1 || seconds > maxMetadataTTL {
		return answer{}, badRequest("InvalidTTL", "The token's time to live must be between 1 and 21600 seconds.")
	}
	text := requestID()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokens[text] = m.handler.wall.Now().Add(time.Duration(seconds) * time.Second)
	return answer{status: http.StatusOK, text: text}, nil
}

// guarded refuses a token that is wrong or has ended, and a request without one where the machine wants one.
func (m *metadata) guarded(work metadataWork) metadataWork {
	return func(r *http.Request) (answer, error) {
		presented := r.Header.Get(metadataTokenHeader)
		m.mu.Lock()
		until, known := m.tokens[presented]
		m.mu.Unlock()
		if presented == "" && m.machine.TokenOnly || presented != "" && (!known || !m.handler.wall.Now().Before(until)) {
			return answer{}, &state.Error{Status: http.StatusForbidden, Code: "Forbidden", Message: "The metadata token is missing or wrong."}
		}
		return work(r)
	}
}

func (m *metadata) roleName(*http.Request) (answer, error) {
	name := state.Role{ARN: m.machine.RoleARN}.Name()
	if name == "" {
		return answer{}, noMetadata()
	}
	return answer{status: http.StatusOK, text: name}, nil
}

func (m *metadata) keys(r *http.Request) (answer, error) {
	session, known := m.handler.issuer.InstanceRole(m.machine.RoleARN)
	if !known || r.PathValue("role") != session.Role.Name() {
		return answer{}, noMetadata()
	}
	body := spell(session.Key)
	body["Code"], body["LastUpdated"] = "Success", m.handler.issuer.Now().UTC().Format(timestampFormat)
	return answer{status: http.StatusOK, body: body}, nil
}

func noMetadata() *state.Error {
	return &state.Error{Status: http.StatusNotFound, Code: "NotFound", Message: "The requested resource was not found."}
}
