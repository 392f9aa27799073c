// istiod is Istio's control plane, with the commands of its `pilot-discovery`, and one more:
//
//	istiod crds
//
// prints the CustomResourceDefinitions of its version as YAML.
package main

import (
	"os"

	"istio.io/istio/manifests"
	"istio.io/istio/pilot/cmd/pilot-discovery/app"
	"istio.io/istio/pkg/log"
)

func main() {
	log.EnableKlogWithCobra()
	if err := run(); err != nil {
		log.Error(err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) == 2 && os.Args[1] == "crds" {
		crds, err := manifests.FS.ReadFile("charts/base/files/crd-all.gen.yaml")
		if err == nil {
			_, err = os.Stdout.Write(crds)
		}
		return err
	}
	return app.NewRootCommand().Execute()
}
