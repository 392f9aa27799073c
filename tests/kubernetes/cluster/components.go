package main

import (
	"fmt"

	"github.com/spf13/cobra"
	apiserverapp "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanagerapp "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	schedulerapp "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

const (
	apiServer         = "kube-apiserver"
	controllerManager = "kube-controller-manager"
	scheduler         = "kube-scheduler"

	tokenIssuer  = "https://kubernetes.default.svc.cluster.local"
	serviceCIDR  = "10.96.0.0/16"
	apiServiceIP = "10.96.0.1" // the first of them, which the API server gives to its own Service
)

var componentCommands = map[string]func() *cobra.Command{
	apiServer:         apiserverapp.NewAPIServerCommand,
	controllerManager: controllermanagerapp.NewControllerManagerCommand,
	scheduler:         func() *cobra.Command { return schedulerapp.NewSchedulerCommand() },
}

func apiServerFlags(f files, port int) []string {
	return []string{
		"--etcd-servers=" + f.etcdURL(),
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", port),
		"--tls-cert-file=" + f.servingCert,
		"--tls-private-key-file=" + f.servingKey,
		"--client-ca-file=" + f.caCert,
		"--kubelet-client-certificate=" + f.kubeletCert,
		"--kubelet-client-key=" + f.kubeletKey,
		"--kubelet-certificate-authority=" + f.caCert,
		// By default a node's host name comes first, which has no DNS record here.
		"--kubelet-preferred-address-types=InternalIP",
		"--authorization-mode=Node,RBAC",
		"--service-account-issuer=" + tokenIssuer,
		"--service-account-signing-key-file=" + f.tokenKey,
		"--service-account-key-file=" + f.tokenKey,
		"--service-cluster-ip-range=" + serviceCIDR,
		"--allow-privileged=true",
		"--audit-policy-file=" + f.auditPolicy,
		"--audit-log-path=" + f.auditLog,
		// An Endpoints object cannot contain a loopback address, so the Service `kubernetes` has no endpoints.
		"--endpoint-reconciler-type=none",
		// Webhooks that are named by their Service are called at its endpoints: the machine has no route to cluster IPs.
		"--enable-aggregator-routing=true",
		// At SIGTERM it ends its watches; without this flag it waits for them for a minute.
		"--shutdown-watch-termination-grace-period=5s",
	}
}

func controllerManagerFlags(f files) []string {
	return []string{
		"--kubeconfig=" + f.controllerManagerKubeconfig,
		"--use-service-account-credentials=true",
		"--root-ca-file=" + f.caCert,
		"--service-account-private-key-file=" + f.tokenKey,
		"--cluster-signing-cert-file=" + f.caCert,
		"--cluster-signing-key-file=" + f.caKey,
		// It makes this folder; the default is outside of ours.
		"--flex-volume-plugin-dir=" + f.volumePlugins,
		// Tests churn more than the defaults (20 a second) allow.
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
		"--leader-elect=false",
		"--secure-port=0",
	}
}

func schedulerFlags(f files) []string {
	return []string{
		"--kubeconfig=" + f.schedulerKubeconfig,
		"--leader-elect=false",
		"--secure-port=0",
	}
}
