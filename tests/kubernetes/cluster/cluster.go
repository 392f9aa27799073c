package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	readinessInterval = 50 * time.Millisecond
	readinessTimeout  = 90 * time.Second
	// Within it the API server ends its watches and its requests in flight; then it is killed.
	gracePeriod = 10 * time.Second
)

// cluster is the control plane. Only one goroutine uses it.
type cluster struct {
	port    int
	files   files
	etcd    *etcd
	client  *kubernetes.Clientset
	running map[string]*process
	// ended receives each process that has ended, for any reason.
	ended chan *process
}

// newCluster writes the certificates and everything else that the components read.
func newCluster(folder string) (*cluster, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	c := &cluster{port: port, running: map[string]*process{}, ended: make(chan *process, 100)}
	if c.files, err = writeFiles(folder, c.url()); err != nil {
		return nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.files.adminKubeconfig)
	if err != nil {
		return nil, err
	}
	c.client, err = kubernetes.NewForConfig(config)
	return c, err
}

func (c *cluster) url() string {
	return fmt.Sprintf("https://127.0.0.1:%d", c.port)
}

// start returns when the API server answers and the controllers have done their first work.
func (c *cluster) start(ctx context.Context) (err error) {
	if c.etcd, err = startEtcd(c.files); err != nil {
		return err
	}
	if err := c.startAPIServer(ctx); err != nil {
		return err
	}
	return c.await(ctx, "the controllers", func(ctx context.Context) error {
		_, err := c.client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// serve obeys the lines until they end or the context does. A component that ends by itself is an error.
func (c *cluster) serve(ctx context.Context, lines <-chan string) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case line, more := <-lines:
			if !more {
				return nil
			}
			answer, err := c.obey(ctx, strings.TrimSpace(line))
			if err != nil {
				answer = map[string]any{"event": "error", "message": err.Error()}
			}
			announce(answer)
		case ended := <-c.ended:
			if c.running[ended.name] == ended {
				return ended.failure()
			}
		}
	}
}

// obey carries out one line of input.
func (c *cluster) obey(ctx context.Context, line string) (map[string]any, error) {
	switch line {
	case "stop-api-server":
		return map[string]any{"event": "api-server-stopped"}, c.takeAPIServerAway(syscall.SIGTERM)
	case "kill-api-server":
		return map[string]any{"event": "api-server-stopped"}, c.takeAPIServerAway(syscall.SIGKILL)
	case "start-api-server":
		return map[string]any{"event": "api-server-started"}, c.startAPIServer(ctx)
	case "compact":
		revision, err := c.etcd.compact(ctx)
		return map[string]any{"event": "compacted", "revision": revision}, err
	}
	return nil, fmt.Errorf("%q is none of stop-api-server, kill-api-server, start-api-server, compact", line)
}

// startAPIServer returns when the API server is ready, and its clients have been started.
func (c *cluster) startAPIServer(ctx context.Context) error {
	if err := c.launch(apiServer, apiServerFlags(c.files, c.port)); err != nil {
		return err
	}
	err := c.await(ctx, apiServer, func(ctx context.Context) error {
		return c.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
	if err != nil {
		return err
	}
	return errors.Join(
		c.launch(controllerManager, controllerManagerFlags(c.files)),
		c.launch(scheduler, schedulerFlags(c.files)),
	)
}

// takeAPIServerAway ends its clients first: one that has just begun gives up without it, and the others would wait
// up to a minute between attempts once it is back.
func (c *cluster) takeAPIServerAway(signal syscall.Signal) error {
	for _, name := range []string{controllerManager, scheduler} {
		if c.running[name] != nil {
			_ = c.end(name, syscall.SIGKILL) // it runs, so this cannot fail
		}
	}
	return c.end(apiServer, signal)
}

func (c *cluster) launch(name string, flags []string) error {
	if c.running[name] != nil {
		return fmt.Errorf("%s runs already", name)
	}
	started, err := startProcess(name, flags, c.files.log(name), c.ended)
	if err != nil {
		return err
	}
	c.running[name] = started
	return nil
}

// await returns when the check passes; it fails early when a component ends meanwhile.
func (c *cluster) await(ctx context.Context, what string, check func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, readinessInterval, readinessTimeout, true,
		func(ctx context.Context) (bool, error) {
			for _, process := range c.running {
				if process.hasEnded() {
					return false, process.failure()
				}
			}
			last = check(ctx)
			return last == nil, nil
		})
	if wait.Interrupted(err) {
		return fmt.Errorf("%s: not ready within %s: %w", what, readinessTimeout, errors.Join(last, err))
	}
	return err
}

// end stops one component, and returns when it is gone.
func (c *cluster) end(name string, signal syscall.Signal) error {
	process := c.running[name]
	if process == nil {
		return fmt.Errorf("%s does not run", name)
	}
	delete(c.running, name)
	process.end(signal, gracePeriod)
	return nil
}

// stop ends everything. Only etcd has state, so the components need no time to end.
func (c *cluster) stop() {
	for name := range c.running {
		_ = c.end(name, syscall.SIGKILL) // it runs, so this cannot fail
	}
	if c.etcd != nil {
		c.etcd.stop()
	}
}

func (c *cluster) processIDs() map[string]int {
	ids := map[string]int{}
	for name, process := range c.running {
		ids[name] = process.command.Process.Pid
	}
	return ids
}
