package cluster

import (
	"context"
	"fmt"
	"path/filepath"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// ManagerAccount is the service account that the manager ships with.
func ManagerAccount() types.NamespacedName {
	return types.NamespacedName{Namespace: "mqtt-token-system", Name: "mqtt-token-operator-manager"}
}

// Install applies what a folder with the operator's manifests would install, save for the Deployment: there are no nodes
// to run it. It returns a kubeconfig file of the identity that the manager would have, and the same as a configuration.
func (c *Cluster) Install(ctx context.Context, folder string) (string, *rest.Config, error) {
	shipped, err := LoadManifests(folder)
	if err != nil {
		return "", nil, err
	}
	if err := c.ApplyAll(ctx, Except(shipped, "Deployment")...); err != nil {
		return "", nil, err
	}
	return c.kubeconfigFor(ctx, ManagerAccount())
}

// kubeconfigFor writes a kubeconfig with nothing but a token of a service account, as pods get one.
func (c *Cluster) kubeconfigFor(ctx context.Context, account types.NamespacedName) (string, *rest.Config, error) {
	request := &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(identityLasts.Seconds()))},
	}
	who := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: account.Namespace, Name: account.Name}}
	if err := c.SubResource("token").Create(ctx, who, request); err != nil {
		return "", nil, fmt.Errorf("asking for a token of service account %s: %w", account, err)
	}
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters[contextName] = &clientcmdapi.Cluster{Server: c.Config.Host, CertificateAuthorityData: c.Config.CAData}
	kubeconfig.AuthInfos[account.Name] = &clientcmdapi.AuthInfo{Token: request.Status.Token}
	kubeconfig.Contexts[contextName] = &clientcmdapi.Context{Cluster: contextName, AuthInfo: account.Name}
	kubeconfig.CurrentContext = contextName
	path := filepath.Join(c.options.Folder, account.Name+".kubeconfig")
	if err := clientcmd.WriteToFile(*kubeconfig, path); err != nil {
		return "", nil, fmt.Errorf("writing a kubeconfig: %w", err)
	}
	config := rest.AnonymousClientConfig(c.Config)
	config.BearerToken = request.Status.Token
	return path, config, nil
}
