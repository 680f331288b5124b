// Package gitops asks as GitOps tools do what became of an object: kstatus, Argo CD's Lua and Flux's CEL must agree.
package gitops

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// Verdict is what the tools make of an object.
type Verdict struct {
	Kstatus, Flux status.Status
	// ArgoCD is a health of Argo CD.
	ArgoCD string
}

// Current is the verdict on an object that is as it should be.
func Current() Verdict {
	return Verdict{status.CurrentStatus, status.CurrentStatus, "Healthy"}
}

// InProgress is the verdict on an object that is under way.
func InProgress() Verdict {
	return Verdict{status.InProgressStatus, status.InProgressStatus, "Progressing"}
}

// WaitsForAPerson is the verdict on an object that somebody stopped, for whom Argo CD has a word of its own.
func WaitsForAPerson() Verdict {
	return Verdict{status.InProgressStatus, status.InProgressStatus, "Suspended"}
}

// Failed is the verdict on an object that does not come right by itself.
func Failed() Verdict {
	return Verdict{status.FailedStatus, status.FailedStatus, "Degraded"}
}

// Terminating is the verdict on an object in deletion.
func Terminating() Verdict {
	return Verdict{status.TerminatingStatus, status.InProgressStatus, "Progressing"}
}

// Judges are the three tools.
type Judges struct{ checks map[string]expressions } // by kind

// NewJudges reads what Argo CD and Flux are told about our kinds.
func NewJudges() (Judges, error) {
	checks, err := fluxChecks()
	return Judges{checks: checks}, err
}

// Judge asks all three. A verdict of Argo CD without a message is an error.
func (j Judges) Judge(ctx context.Context, object *unstructured.Unstructured) (Verdict, error) {
	result, err := status.Compute(object)
	if err != nil {
		return Verdict{}, fmt.Errorf("asking kstatus: %w", err)
	}
	flux, err := j.checks[object.GetKind()].evaluate(ctx, object)
	if err != nil {
		return Verdict{}, err
	}
	health, err := RunLua(ctx, filepath.Join(object.GetKind(), "health.lua"), object.Object)
	if err != nil {
		return Verdict{}, err
	}
	argoCD, isText := health["status"].(string)
	message, isToo := health["message"].(string)
	if !isText || !isToo || message == "" {
		return Verdict{}, errors.New("the health check lacks a status or a message")
	}
	return Verdict{Kstatus: result.Status, Flux: flux, ArgoCD: argoCD}, nil
}
