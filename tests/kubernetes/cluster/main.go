// Command cluster runs a Kubernetes control plane for tests, of the real parts: kube-apiserver,
// kube-controller-manager and kube-scheduler as processes of their own (this same binary, started again with the
// component's name as its first word: they share global flags and registries, and so cannot share a process), and
// etcd in this one. All of it is on loopback and in one folder.
//
// It prints a line of JSON when the cluster is ready, and then obeys the lines that it reads (see obey in
// cluster.go), each answered by a line of JSON. It ends at SIGTERM, at SIGINT, and when its input ends, so that it
// never outlives the tests that started it.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"k8s.io/component-base/cli"
)

// A child gets Pdeathsig when the thread that started it ends, so that thread must be the process's first.
func init() {
	runtime.LockOSThread()
}

func main() {
	if len(os.Args) > 1 {
		if newCommand, ok := componentCommands[os.Args[1]]; ok {
			os.Args = os.Args[1:]
			os.Exit(cli.Run(newCommand()))
		}
	}
	if err := supervise(); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func supervise() error {
	dataDir := flag.String("data-dir", "",
		"a folder, empty or yet to be made, that stays afterwards; without it one is made and removed at the end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	folder, dispose, err := prepareFolder(*dataDir)
	if err != nil {
		return err
	}
	defer dispose()
	cluster, err := newCluster(folder)
	if err != nil {
		return err
	}
	defer cluster.stop()
	if err := cluster.start(ctx); err != nil {
		return endedByRequest(ctx, err)
	}
	announce(map[string]any{
		"event":      "ready",
		"server":     cluster.url(),
		"kubeconfig": cluster.files.adminKubeconfig,
		"folder":     folder,
		"processes":  cluster.processIDs(),
	})
	return endedByRequest(ctx, cluster.serve(ctx, readLines(os.Stdin)))
}

// prepareFolder returns the folder's absolute path, and the function to call at the end.
func prepareFolder(dataDir string) (folder string, dispose func(), err error) {
	if dataDir == "" {
		folder, err = os.MkdirTemp("", "cluster-")
		return folder, func() { os.RemoveAll(folder) }, err
	}
	folder, err = emptyFolder(dataDir)
	return folder, func() {}, err
}

// endedByRequest returns no error where the cluster was asked to end: that causes errors.
func endedByRequest(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func announce(event map[string]any) {
	// Marshalling strings and numbers cannot fail, and our input ends with the reader.
	_ = json.NewEncoder(os.Stdout).Encode(event)
}

// readLines sends the input's lines, and closes the channel at its end.
func readLines(input io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(input); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	return lines
}
