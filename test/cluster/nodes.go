package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

const (
	serviceRanges = 250
	// httpsPort is the one that Kubernetes gives the Service which stands for the API server.
	httpsPort = "443"
	// clockSlack is how far back a certificate is valid, for clocks that are set while it is in use.
	clockSlack = time.Hour
)

// loneControllers are the ones that a cluster without nodes needs.
const loneControllers = "garbage-collector-controller,namespace-controller,serviceaccount-controller,clusterrole-aggregation-controller"

// welcomeNodes has the API server do what kubelets and pods need: service account tokens, the Node authorizer, and an
// address that pods on the node's network reach it by. There is no kube-proxy, so the API server itself listens where the
// Service for it points: at the first address of the range, which is a loopback one.
func (o Options) welcomeNodes(server *envtest.APIServer) error {
	if !o.Nodes {
		return nil
	}
	first, services, err := freeServices()
	if err != nil {
		return err
	}
	server.Address, server.Port = first, httpsPort
	if err := o.writeKubeletClient(); err != nil {
		return err
	}
	server.Configure().Disable("disable-admission-plugins").
		Set("service-cluster-ip-range", services).
		Set("authorization-mode", "Node", "RBAC").
		Append("enable-admission-plugins", "NodeRestriction").
		Set("kubelet-client-certificate", o.KubeletClientCertificate()).
		Set("kubelet-client-key", o.kubeletClientKey()).
		Set("kubelet-preferred-address-types", "InternalIP")
	return nil
}

// freeServices finds a range of loopback addresses for Services on whose first nobody listens yet.
func freeServices() (first, services string, err error) {
	for n := range serviceRanges {
		first = fmt.Sprintf("127.77.%d.1", n)
		var listener net.Listener
		if listener, err = net.Listen("tcp", net.JoinHostPort(first, httpsPort)); err == nil {
			return first, fmt.Sprintf("127.77.%d.0/24", n), listener.Close()
		}
	}
	return "", "", fmt.Errorf("finding a loopback address whose port %s is free: %w", httpsPort, err)
}

// KubeletClientCertificate is the file with the certificate that the API server shows to kubelets. It is self-signed, and
// so also what kubelets check it against.
func (o Options) KubeletClientCertificate() string {
	return filepath.Join(o.certificates(), "kubelet-client.crt")
}

func (o Options) kubeletClientKey() string {
	return filepath.Join(o.certificates(), "kubelet-client.key")
}
func (o Options) authority() string { return filepath.Join(o.certificates(), "ca.crt") }

func (o Options) writeKubeletClient() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making a key for the API server: %w", err)
	}
	keyBytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("making a key for the API server: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}},
		NotBefore:    time.Now().Add(-clockSlack), NotAfter: time.Now().Add(identityLasts),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("making a certificate for the API server: %w", err)
	}
	return errors.Join(
		os.WriteFile(o.KubeletClientCertificate(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), secretFileMode),
		os.WriteFile(o.kubeletClientKey(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyBytes}), secretFileMode))
}

// IdentityFile writes a kubeconfig of a user with a client certificate, and returns its name.
func (c *Cluster) IdentityFile(file, user string, groups ...string) (string, error) {
	known, err := c.environment.AddUser(envtest.User{Name: user, Groups: groups}, nil)
	if err != nil {
		return "", fmt.Errorf("making an identity for %s: %w", user, err)
	}
	text, err := known.KubeConfig()
	if err != nil {
		return "", fmt.Errorf("making a kubeconfig for %s: %w", user, err)
	}
	path := filepath.Join(c.options.Folder, file+".kubeconfig")
	if err := os.WriteFile(path, text, secretFileMode); err != nil {
		return "", fmt.Errorf("writing a kubeconfig for %s: %w", user, err)
	}
	return path, nil
}

// startControllers starts kube-controller-manager: every controller when there are to be nodes, otherwise those that a
// cluster without any needs; each with the role that Kubernetes made for it.
func (c *Cluster) startControllers(ctx context.Context) error {
	kubeconfig, err := c.IdentityFile(controllerManager, "system:kube-controller-manager")
	if err != nil {
		return err
	}
	arguments := []string{"--kubeconfig=" + kubeconfig, "--use-service-account-credentials", "--leader-elect=false", "--secure-port=0"}
	if !c.options.Nodes {
		arguments = append(arguments, "--controllers="+loneControllers)
	} else {
		if err := os.WriteFile(c.options.authority(), c.Config.CAData, secretFileMode); err != nil {
			return fmt.Errorf("writing the API server's authority: %w", err)
		}
		arguments = append(arguments, "--root-ca-file="+c.options.authority()) // which every pod gets
	}
	c.controllers, err = StartProcess(ctx, Command{
		Name: controllerManager, Path: filepath.Join(c.options.Assets, controllerManager), LogFolder: c.options.Folder, Arguments: arguments,
	}, c.options.OnEnd)
	return err
}
