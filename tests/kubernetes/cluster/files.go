package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

const certificateLifetime = 7 * 24 * time.Hour

// auditPolicy makes the API server record the requests of service accounts, except those of Kubernetes itself.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    userGroups: ["system:serviceaccounts:kube-system"]
  - level: Metadata
    userGroups: ["system:serviceaccounts"]
  - level: None
`

// files are the paths that the components read and write.
type files struct {
	folder                      string
	etcdData, etcdSocket        string
	caCert, caKey               string
	servingCert, servingKey     string
	kubeletCert, kubeletKey     string // the API server's, by which the kubelets know it
	tokenKey                    string // signs the service accounts' tokens
	auditPolicy, auditLog       string
	volumePlugins               string
	adminKubeconfig             string
	controllerManagerKubeconfig string
	schedulerKubeconfig         string
}

func (f files) etcdURL() string {
	return "unix://" + f.etcdSocket
}

func (f files) log(component string) string {
	return filepath.Join(f.folder, component+".log")
}

// emptyFolder makes the folder, or fails if it is not empty.
func emptyFolder(path string) (string, error) {
	folder, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(folder)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s is not empty", folder)
	}
	return folder, err
}

// writeFiles makes the keys and certificates of a new cluster whose API server is at the URL.
func writeFiles(folder, url string) (files, error) {
	in := func(name string) string { return filepath.Join(folder, name) }
	f := files{
		folder:   folder,
		etcdData: in("etcd"), etcdSocket: in("etcd.sock"),
		caCert: in("ca.crt"), caKey: in("ca.key"),
		servingCert: in("apiserver.crt"), servingKey: in("apiserver.key"),
		kubeletCert: in("kubelet-client.crt"), kubeletKey: in("kubelet-client.key"),
		tokenKey:    in("service-accounts.key"),
		auditPolicy: in("audit-policy.yaml"), auditLog: in("audit.log"),
		volumePlugins:               in("volume-plugins"),
		adminKubeconfig:             in("kubeconfig"),
		controllerManagerKubeconfig: in("controller-manager.kubeconfig"),
		schedulerKubeconfig:         in("scheduler.kubeconfig"),
	}
	ca, err := newAuthority()
	if err != nil {
		return f, err
	}
	serving, err := ca.issue(servingTemplate())
	if err != nil {
		return f, err
	}
	kubeletClient, err := ca.issue(clientTemplate("kube-apiserver-kubelet-client", "system:masters"))
	if err != nil {
		return f, err
	}
	tokenKey, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		return f, err
	}
	return f, errors.Join(
		cert.WriteCert(f.caCert, ca.certPEM),
		keyutil.WriteKey(f.caKey, ca.keyPEM),
		cert.WriteCert(f.servingCert, serving.certPEM),
		keyutil.WriteKey(f.servingKey, serving.keyPEM),
		cert.WriteCert(f.kubeletCert, kubeletClient.certPEM),
		keyutil.WriteKey(f.kubeletKey, kubeletClient.keyPEM),
		keyutil.WriteKey(f.tokenKey, tokenKey),
		os.WriteFile(f.auditPolicy, []byte(auditPolicy), 0o600),
		ca.writeKubeconfig(f.adminKubeconfig, url, "admin", "system:masters"),
		// The API server's own RBAC rules know the components by these names.
		ca.writeKubeconfig(f.controllerManagerKubeconfig, url, "system:"+controllerManager),
		ca.writeKubeconfig(f.schedulerKubeconfig, url, "system:"+scheduler),
	)
}

type keyPair struct {
	certPEM, keyPEM []byte
}

type authority struct {
	keyPair
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority() (*authority, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, err
	}
	root, err := cert.NewSelfSignedCACert(cert.Config{CommonName: "cluster"}, key)
	if err != nil {
		return nil, err
	}
	certPEM, err := cert.EncodeCertificates(root)
	return &authority{keyPair: keyPair{certPEM, keyPEM}, cert: root, key: key}, err
}

func newKey() (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
	return key, keyPEM, err
}

// servingTemplate has the names under which pods know the API server, besides its address here.
func servingTemplate() *x509.Certificate {
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: apiServer},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(apiServiceIP)},
		DNSNames: []string{
			"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local",
		},
	}
}

func clientTemplate(user string, groups ...string) *x509.Certificate {
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

// issue signs a certificate of the template, to which it adds the fields that are the same in all.
func (a *authority) issue(template *x509.Certificate) (pair keyPair, err error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return pair, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return pair, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.NotBefore = time.Now().Add(-time.Minute)
	template.NotAfter = time.Now().Add(certificateLifetime)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return pair, err
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		return pair, err
	}
	certPEM, err := cert.EncodeCertificates(signed)
	return keyPair{certPEM, keyPEM}, err
}

// writeKubeconfig lets its holder in as the user, by a client certificate.
func (a *authority) writeKubeconfig(path, url, user string, groups ...string) error {
	client, err := a.issue(clientTemplate(user, groups...))
	if err != nil {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["cluster"] = &clientcmdapi.Cluster{Server: url, CertificateAuthorityData: a.certPEM}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{
		ClientCertificateData: client.certPEM, ClientKeyData: client.keyPEM,
	}
	config.Contexts["cluster"] = &clientcmdapi.Context{Cluster: "cluster", AuthInfo: user}
	config.CurrentContext = "cluster"
	return clientcmd.WriteToFile(*config, path)
}
