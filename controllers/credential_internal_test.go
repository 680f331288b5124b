package controllers

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-token-operator/mqtt-token-operator/api/v1alpha1"
	"github.com/mqtt-token-operator/mqtt-token-operator/internal/token"
)

func TestWhoSpeaksForAnInstance(t *testing.T) {
	rrsa := v1alpha1.RRSACredential{RoleARN: "acs:ram::1001:role/mqtt", OIDCProviderARN: "acs:ram::1001:oidc-provider/ack"}
	abroad := v1alpha1.AssumedRole{RoleARN: "acs:ram::1002:role/mqtt", ExternalID: "plant"}
	assumed := token.AssumedRole{RoleARN: abroad.RoleARN, ExternalID: token.NewValue("plant")}
	for sentence, tc := range map[string]struct {
		spec        v1alpha1.Credentials
		want        token.Identity
		wantAccount string
		lent        bool // to the manager's namespace only
	}{
		"its own key": {
			spec: v1alpha1.Credentials{Type: v1alpha1.CredentialTypeAccessKey}, wantAccount: "LTAI-one",
		},
		"its own key, in another account": {
			spec: v1alpha1.Credentials{Type: v1alpha1.CredentialTypeAccessKey, AssumeRole: abroad},
			want: token.Identity{Assume: assumed}, wantAccount: "1002",
		},
		"a role of the manager": {
			spec: v1alpha1.Credentials{Type: v1alpha1.CredentialTypeRRSA, RRSA: rrsa}, lent: true,
			want:        token.Identity{Type: token.IdentityRRSA, RoleARN: rrsa.RoleARN, OIDCProviderARN: rrsa.OIDCProviderARN},
			wantAccount: "1001",
		},
		"a role of the manager, in another account": {
			spec: v1alpha1.Credentials{Type: v1alpha1.CredentialTypeRRSA, RRSA: rrsa, AssumeRole: abroad}, lent: true,
			want:        token.Identity{Type: token.IdentityRRSA, RoleARN: rrsa.RoleARN, OIDCProviderARN: rrsa.OIDCProviderARN, Assume: assumed},
			wantAccount: "1002",
		},
		"the manager's machine": {
			spec: v1alpha1.Credentials{Type: v1alpha1.CredentialTypeECSRAMRole, ECSRAMRole: v1alpha1.ECSRAMRoleCredential{RoleName: "node"}}, lent: true,
			want: token.Identity{Type: token.IdentityECSRAMRole, RoleName: "node"}, wantAccount: "ECSRAMRole",
		},
		"whatever there is": {
			spec: v1alpha1.Credentials{Type: v1alpha1.CredentialTypeAmbient}, lent: true,
			want: token.Identity{Type: token.IdentityAmbient}, wantAccount: "Ambient",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			got := identityOf(tc.spec)
			if diff := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b token.Value) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			d := token.Connection{Identity: got}
			if tc.spec.Type == v1alpha1.CredentialTypeAccessKey {
				d.AccessKeyID = "LTAI-one"
			}
			if account := accountOf(d); account != tc.wantAccount {
				t.Errorf("account %q, want %q", account, tc.wantAccount)
			}
			r := &InstanceReconciler{IdentityNamespaces: []string{"mqtt-system"}}
			for namespace, want := range map[string]bool{"mqtt-system": false, "line-a": tc.lent} {
				instance := &v1alpha1.MqttInstance{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}, Spec: v1alpha1.MqttInstanceSpec{Credentials: tc.spec}}
				if p := r.identityProblem(instance); (p != nil) != want {
					t.Errorf("in %s: %v", namespace, p)
				}
			}
		})
	}
}
