package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
)

const (
	etcdStartTimeout = 30 * time.Second
	longestSocket    = 107 // unix(7): sun_path, less its final zero
)

type etcd struct {
	server *embed.Etcd
}

// startEtcd listens on a socket in the cluster's folder, which only its user can open: it asks for no credentials.
func startEtcd(f files) (*etcd, error) {
	if len(f.etcdSocket) > longestSocket {
		return nil, fmt.Errorf("%s is too long for a socket: use a shorter TMPDIR or --data-dir", f.etcdSocket)
	}
	config := embed.NewConfig()
	config.Dir = f.etcdData
	config.LogLevel = "warn"
	config.LogOutputs = []string{f.log("etcd")}
	config.UnsafeNoFsync = true // the data need not outlive the machine
	config.ListenPeerUrls = nil // it has no peers
	clients, err := url.Parse(f.etcdURL())
	if err != nil {
		return nil, err
	}
	config.ListenClientUrls = []url.URL{*clients}
	server, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	started := &etcd{server: server}
	select {
	case <-server.Server.ReadyNotify():
		return started, nil
	case <-time.After(etcdStartTimeout):
		err = errors.New("etcd: not ready within " + etcdStartTimeout.String())
	case err = <-server.Err():
	}
	started.stop()
	return nil, err
}

// compact forgets all history. A watch or list of an older revision then gets 410 Gone, unless the API server
// still has that revision in its own cache: started anew, it has not.
func (e *etcd) compact(ctx context.Context) (revision int64, err error) {
	revision = e.server.Server.KV().Rev()
	_, err = e.server.Server.Compact(ctx, &etcdserverpb.CompactionRequest{Revision: revision, Physical: true})
	return revision, err
}

func (e *etcd) stop() {
	e.server.Close()
}
