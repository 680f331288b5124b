package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

func (o Options) auditLog() string { return filepath.Join(o.Folder, "audit.log") }

// audit has the API server write down what the audited user asks for.
func (o Options) audit(server *envtest.APIServer) error {
	if o.Audited == "" {
		return nil
	}
	policy := filepath.Join(o.Folder, "audit-policy.yaml")
	text := fmt.Sprintf("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- {level: Metadata, users: [%q]}\n- {level: None}\n", o.Audited)
	if err := os.WriteFile(policy, []byte(text), secretFileMode); err != nil {
		return fmt.Errorf("writing the audit policy: %w", err)
	}
	server.Configure().Append("audit-policy-file", policy).Append("audit-log-path", o.auditLog()).Append("audit-log-mode", "blocking")
	return nil
}

// Asked is what the audited user asked the API server for.
type Asked struct {
	Verb, Group, Resource, Namespace string // Resource with its subresource
	Allowed                          bool
}

// Asked lists what the audited user has asked for.
func (c *Cluster) Asked() ([]Asked, error) {
	text, err := os.ReadFile(c.options.auditLog())
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	var all []Asked
	for decoder := json.NewDecoder(bytes.NewReader(text)); ; {
		var event struct {
			Verb      string `json:"verb"`
			ObjectRef struct {
				Resource, Subresource, APIGroup, Namespace string
			} `json:"objectRef"`
			ResponseStatus struct {
				Code int `json:"code"`
			} `json:"responseStatus"`
		}
		switch err := decoder.Decode(&event); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("reading the audit log: %w", err)
		}
		asked := Asked{
			Verb: event.Verb, Group: event.ObjectRef.APIGroup, Resource: event.ObjectRef.Resource, Namespace: event.ObjectRef.Namespace,
			Allowed: event.ResponseStatus.Code != 403,
		}
		if event.ObjectRef.Subresource != "" {
			asked.Resource += "/" + event.ObjectRef.Subresource
		}
		all = append(all, asked)
	}
}
